//! The sending half: windows, segments and pacing (RFC 9293 3.8.6; RFC 1122 4.2.3.4; RFC 6928).

use super::{ACK, FIN, Rig, Sent, spans};

fn total(sent: &[Sent]) -> usize {
    sent.iter().map(|sent| sent.payload.len()).sum()
}

#[test]
fn the_first_flight_is_ten_segments_of_equal_size() {
    let mut rig = Rig::open();
    rig.write(&[1; 12_000]);
    let first: Vec<Sent> = rig.sent();
    let mut all = first.clone();
    all.extend(rig.pass_and_collect(19).into_iter().map(|(_, sent)| sent));
    assert_eq!(total(&all), 10_000);
    assert!(all.iter().all(|sent| sent.payload.len() == 1000 && sent.options.sack.is_empty()));
}

#[test]
fn only_the_last_segment_of_what_is_queued_is_short_and_pushed() {
    let mut rig = Rig::open();
    rig.write(&[1; 2_500]);
    let sent = rig.sent();
    assert_eq!(spans(&sent), [(1, 1000), (1001, 1000), (2001, 500)]);
    let pushed: Vec<bool> = sent.iter().map(|sent| sent.is(ebb_tunnel::tcp::Flags::PSH)).collect();
    assert_eq!(pushed, [false, false, true]);
}

#[test]
fn small_writes_leave_at_once() {
    let mut rig = Rig::open();
    rig.write(b"a");
    assert_eq!(rig.sent_one().payload, b"a");
    rig.write(b"b");
    assert_eq!(rig.sent_one().payload, b"b");
}

#[test]
fn many_small_writes_do_not_become_many_segments_in_flight() {
    let mut rig = Rig::open();
    let mut count = 0;
    for _ in 0..3_000 {
        rig.write(b"x");
        count += rig.sent().len();
    }
    assert!(count < 100, "{count} segments of one byte in flight");
    rig.hear(1, 1 + count as u32, ACK, &[]);
    assert!(rig.sent()[0].payload.len() >= 1_000 || rig.connection.deadline().is_some());
}

#[test]
fn the_window_is_never_exceeded() {
    let mut rig = Rig::open();
    rig.window = 200; // 3,200 bytes, scaled by 4
    rig.hear(1, 1, ACK, &[]);
    rig.write(&[1; 10_000]);
    assert_eq!(total(&rig.sent()), 3_000);
    // The peer takes a segment and does not open the window: the edge stays.
    rig.window = 138; // 2,208
    rig.hear(1, 1001, ACK, &[]);
    assert_eq!(total(&rig.sent()), 0);
    // A silly little more is not worth a segment (RFC 1122 4.2.3.4) ...
    rig.window = 160;
    rig.hear(1, 1001, ACK, &[]);
    assert_eq!(total(&rig.sent()), 0);
    // ... a whole segment is.
    rig.window = 190;
    rig.hear(1, 1001, ACK, &[]);
    assert_eq!(spans(&rig.sent()), [(3001, 1000)]);
}

#[test]
fn a_peer_with_a_tiny_window_is_served_in_pieces_of_half_of_it() {
    let mut rig = Rig::open();
    rig.window = 50; // 800 bytes, less than a segment
    rig.hear(1, 1, ACK, &[]);
    rig.write(&[1; 5_000]);
    // Half of the largest window seen is the 40,000 of the SYN: only the persist timer overrides.
    assert_eq!(rig.sent().len(), 0);
    let sent = rig.pass_and_collect(1_000);
    assert_eq!(sent[0].1.payload.len(), 800);
}

#[test]
fn a_closed_window_is_probed_with_back_off_for_as_long_as_it_answers() {
    let mut rig = Rig::open();
    rig.window = 0;
    rig.hear(1, 1, ACK, &[]);
    rig.write(b"waiting");
    assert!(rig.sent().is_empty());
    let mut times = Vec::new();
    for _ in 0..6_000 {
        for (at, sent) in rig.pass_and_collect(100) {
            // An old number: nothing beyond the window, and yet it has to be answered.
            assert_eq!((sent.payload.len(), sent.seq), (0, 0));
            times.push(rig.now.as_micros() / 1000 - 100 + at);
            rig.hear(1, 1, ACK, &[]);
        }
    }
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] >= pair[0] * 9 / 10), "{gaps:?}");
    assert!(*gaps.last().unwrap() >= 59_000 && gaps[0] < 1_000, "{gaps:?}");
    assert!(rig.connection.is_open());
    rig.window = 100;
    rig.hear(1, 1, ACK, &[]);
    assert_eq!(rig.sent_one().payload, b"waiting");
}

#[test]
fn a_fin_waits_for_the_window_too() {
    let mut rig = Rig::open();
    rig.window = 0;
    rig.hear(1, 1, ACK, &[]);
    rig.connection.finish();
    assert!(rig.sent().is_empty());
    rig.window = 10;
    rig.hear(1, 1, ACK, &[]);
    assert!(rig.sent_one().is(FIN));
}

#[test]
fn an_old_acknowledgment_does_not_shrink_the_window() {
    let mut rig = Rig::open();
    rig.hear(1, 1, ACK, b"new");
    rig.sent();
    rig.window = 0;
    // Its number is older than that of the last window (SND.WL1).
    rig.hear(1, 1, ACK, &[]);
    rig.write(b"still open");
    assert_eq!(rig.sent().last().unwrap().payload, b"still open");
}

#[test]
fn a_window_that_shrinks_below_what_is_sent_does_no_harm() {
    let mut rig = Rig::open();
    rig.write(&[1; 9_000]);
    rig.sent();
    rig.pass(15);
    rig.window = 10;
    rig.hear(1, 2_001, ACK, &[]);
    assert!(rig.sent().is_empty());
    rig.window = 2_000;
    rig.hear(1, 9_001, ACK, &[]);
    rig.write(&[2; 500]);
    assert_eq!(spans(&rig.sent()), [(9_001, 500)]);
}

#[test]
fn pacing_spreads_a_known_path_and_never_below_ten_segments_per_round_trip() {
    let mut rig = Rig::open();
    // A trickle: application-limited samples far below the path.
    for index in 0..200u32 {
        rig.write(&[1; 100]);
        rig.sent();
        rig.pass(20);
        rig.hear(1, 1 + (index + 1) * 100, ACK, &[]);
        rig.pass(30);
    }
    let rate = rig.connection.statistics().pacing_rate;
    // Ten segments of 1000 in 20 ms.
    assert!(rate >= 490_000, "paced to {rate} bytes per second");
}

#[test]
fn the_ring_holds_what_the_path_needs_and_no_more() {
    let mut rig = Rig::open();
    let mut queued = 0;
    while rig.connection.room() > 0 {
        let count = rig.connection.writable().0.len();
        rig.connection.commit(count);
        queued += count;
    }
    // One congestion window unsent, which is less than the smallest ring at the start.
    assert_eq!(queued, 16 << 10);
    assert_eq!(rig.budget.used(), 16 << 10);
}
