//! Peers that mean harm: no panic, no unbounded memory, nothing stuck.

use ebb_tunnel::tcp::{Options, Segment, Settings};

use super::{ACK, FIN, OURS, Rig, SYN, THEIRS, segment, spans, usual_options};
use ebb_tunnel::tcp::Seq;

#[test]
fn an_acknowledgment_of_the_unsent_changes_nothing() {
    let mut rig = Rig::open();
    rig.write(&[1; 2_000]);
    rig.sent();
    rig.hear(1, 50_000, ACK, b"and data");
    let answer = rig.sent_one();
    assert_eq!((answer.ack, answer.seq), (1, 2_001));
    assert_eq!(rig.connection.statistics().bytes_acknowledged, 0);
    assert_eq!(rig.read(), b"");
}

#[test]
fn an_acknowledgment_of_the_distant_past_is_not_believed() {
    let mut rig = Rig::open();
    let far = Segment { ack: Seq(OURS.wrapping_sub(0x3000_0000)), ..segment(1, 0, ACK, b"data") };
    rig.hear_segment(&far);
    assert_eq!(rig.read(), b"");
}

#[test]
fn reports_of_the_unsent_and_the_absurd_are_ignored() {
    let mut rig = Rig::open();
    rig.write(&[1; 5_000]);
    rig.sent();
    rig.hear_sack(1, &[(4_001, 90_000), (3_000, 2_000), (0x8000_0000, 0x9000_0000), (7, 7)]);
    assert!(rig.sent().is_empty());
    assert_eq!(rig.connection.statistics().in_flight, 5_000);
}

#[test]
fn one_byte_in_every_second_place_does_not_eat_memory() {
    let mut rig = Rig::open();
    let mut accepted = 0;
    for index in 0..60_000u32 {
        rig.hear(2 + index * 2, 1, ACK, b"x");
        accepted += rig.sent().iter().filter(|sent| !sent.sack.is_empty()).count();
    }
    assert!(accepted > 0);
    let memory = rig.connection.statistics().memory;
    assert!(memory <= 256 << 10, "{memory} bytes");
    // It recovers: the holes are filled, all arrives.
    let filler = [b'y'; 1000];
    let mut seq = 1;
    while seq < 120_000 {
        rig.hear(seq, 1, ACK, &filler);
        rig.sent();
        seq += rig.read().len() as u32;
    }
}

#[test]
fn reports_of_every_second_byte_do_not_eat_memory() {
    let mut rig = Rig::open();
    rig.write(&[1; 10_000]);
    rig.sent();
    rig.pass(15);
    for index in 0..4_000u32 {
        rig.hear_sack(1, &[(2 + index * 2, 3 + index * 2)]);
        rig.sent();
    }
    rig.hear(1, 10_001, ACK, &[]);
    rig.write(b"fine");
    assert_eq!(spans(&rig.sent()), [(10_001, 4)]);
}

#[test]
fn an_mss_of_one_is_not_taken_at_its_word() {
    let mut rig = Rig::open_with(Options { mss: Some(1), ..usual_options() }, &Settings::default());
    rig.write(&[1; 1_000]);
    assert_eq!(spans(&rig.sent())[0], (1, 64));
}

#[test]
fn data_beyond_a_fin_is_no_data() {
    let mut rig = Rig::open();
    rig.hear(1, 1, ACK | FIN, b"end");
    rig.hear(5, 1, ACK, b"ghost");
    rig.hear(4, 1, ACK, b"ghost");
    assert_eq!(rig.read(), b"end");
    assert!(rig.connection.remote_finished());
    // A FIN before data that is already here is none either.
    let mut rig = Rig::open();
    rig.hear(11, 1, ACK, b"later");
    rig.hear(6, 1, ACK | FIN, b"early");
    rig.hear(1, 1, ACK, b"first");
    assert_eq!(rig.read(), b"firstearlylater");
    assert!(!rig.connection.remote_finished());
}

#[test]
fn a_spent_budget_slows_connections_down_and_starves_none() {
    let settings = Settings::default();
    let mut rig = Rig::open_with(usual_options(), &settings);
    // Others hold all but one ring.
    let mut hogs = Vec::new();
    while rig.budget.left() > 16 << 10 {
        let mut hog = Rig::open();
        hog.budget = rig.budget.clone();
        let (local, remote) = super::addresses();
        let syn = Segment { options: usual_options(), window: 100, ..segment(0, 0, SYN, &[]) };
        let syn = ebb_tunnel::tcp::SynInfo::of(&syn).unwrap();
        let mut connection =
            ebb_tunnel::tcp::Connection::answer(local, remote, &syn, &settings, &rig.budget, OURS, rig.now);
        let count = connection.writable().0.len();
        connection.commit(count);
        hogs.push(connection);
    }
    // One direction gets the last ring; the other gets nothing, and says so to its peer.
    rig.hear(1, 1, ACK, b"hello");
    assert_eq!(rig.read(), b"hello");
    assert_eq!(rig.connection.writable().0.len(), 0);
    assert_eq!(rig.sent().len(), 0);
    assert!(rig.budget.used() <= rig.budget.limit());
    drop(hogs);
    rig.write(b"world");
    assert_eq!(rig.sent_one().payload, b"world");
}

#[test]
fn segments_are_read_defensively() {
    assert_eq!(Segment::parse(&[0; 19]), None);
    // A data offset of four words, and one beyond the end.
    let mut bytes = [0; 24];
    bytes[12] = 0x40;
    assert_eq!(Segment::parse(&bytes), None);
    bytes[12] = 0x70;
    assert_eq!(Segment::parse(&bytes), None);
    // Options: a length of zero, of one, and beyond the end, end the list.
    for option in [[3, 0, 9, 9], [3, 1, 9, 9], [3, 9, 9, 9], [2, 4, 5, 0]] {
        let mut bytes = [0; 24];
        bytes[12] = 0x60;
        bytes[13] = 0x02;
        bytes[20..24].copy_from_slice(&option);
        let parsed = Segment::parse(&bytes).unwrap();
        let expected = (option[0] == 2).then_some(1280);
        assert_eq!((parsed.options.mss, parsed.options.window_scale), (expected, None));
    }
    // A scale of 15 and more means 14 (RFC 7323 2.3).
    let mut bytes = [0; 24];
    bytes[12] = 0x60;
    bytes[13] = 0x02;
    bytes[20..24].copy_from_slice(&[3, 3, 200, 0]);
    assert_eq!(Segment::parse(&bytes).unwrap().options.window_scale, Some(14));
    let _ = THEIRS;
}
