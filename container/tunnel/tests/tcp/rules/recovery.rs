//! Losses (RFC 8985; RFC 6298; RFC 2018; RFC 6582; RFC 8899).

use ebb_tunnel::tcp::{Options, Settings};

use super::{ACK, Rig, Sent, spans, usual_options};

/// Ten segments in flight, sent over some milliseconds, on a path of 20 ms.
fn flight(rig: &mut Rig) {
    rig.write(&[1; 10_000]);
    let mut sent = rig.sent();
    sent.extend(rig.pass_and_collect(15).into_iter().map(|(_, sent)| sent));
    assert_eq!(sent.len(), 10);
    rig.pass(5);
}

fn seqs(sent: &[Sent]) -> Vec<u32> {
    spans(sent).into_iter().map(|(seq, _)| seq).collect()
}

#[test]
fn a_hole_below_three_reports_is_repaired_at_once() {
    let mut rig = Rig::open();
    flight(&mut rig);
    rig.hear_sack(1001, &[(2001, 5001)]);
    assert_eq!(seqs(&rig.sent()), [1001]);
    assert_eq!(rig.connection.statistics().retransmits, 1);
}

#[test]
fn a_report_of_little_is_given_a_quarter_round_trip_to_be_reordering() {
    let mut rig = Rig::open();
    flight(&mut rig);
    rig.hear_sack(1001, &[(2001, 3001)]);
    assert!(rig.sent().is_empty());
    // The overtaken one arrives: nothing is sent again.
    rig.pass(2);
    rig.hear(1, 3001, ACK, &[]);
    assert_eq!(rig.connection.statistics().retransmits, 0);
    // Or it does not, and the timer finds it.
    rig.hear_sack(3001, &[(4001, 5001)]);
    assert!(rig.sent().is_empty());
    let repaired = rig.pass_and_collect(9);
    assert_eq!(repaired.iter().map(|(_, sent)| sent.seq).collect::<Vec<_>>(), [3001]);
}

#[test]
fn a_lost_retransmission_is_found_without_a_timeout() {
    let mut rig = Rig::open();
    flight(&mut rig);
    rig.write(&[2; 3_000]);
    rig.hear_sack(1, &[(1001, 10_001)]);
    let sent = rig.sent();
    assert_eq!(seqs(&sent)[0], 1);
    let new: Vec<u32> = seqs(&sent).into_iter().filter(|&seq| seq >= 10_001).collect();
    assert!(!new.is_empty());
    rig.pass(20);
    // What was sent after the retransmission arrived, the retransmission did not.
    let sent = rig.sent();
    assert!(sent.is_empty());
    rig.hear_sack(1, &[(1001, 13_001)]);
    assert_eq!(seqs(&rig.sent()), [1]);
    assert_eq!(rig.connection.statistics().timeouts, 0);
}

#[test]
fn a_lost_tail_is_probed_after_two_round_trips() {
    let mut rig = Rig::open();
    rig.write(&[1; 3_000]);
    rig.sent();
    rig.pass(20);
    rig.hear(1, 2_001, ACK, &[]);
    // One segment in flight: its acknowledgment may be delayed.
    let probes = rig.pass_and_collect(150);
    assert_eq!(probes.len(), 1);
    assert_eq!((probes[0].1.seq, probes[0].0), (2_001, 90));
    assert_eq!(rig.connection.statistics().timeouts, 0);
}

#[test]
fn a_probe_prefers_new_data() {
    let mut rig = Rig::open();
    flight(&mut rig);
    rig.write(&[2; 500]);
    assert!(rig.sent().is_empty(), "the window is full");
    let probes = rig.pass_and_collect(40);
    assert_eq!(spans(&probes.iter().map(|(_, sent)| sent.clone()).collect::<Vec<_>>()), [(10_001, 500)]);
}

#[test]
fn silence_backs_off_and_an_answer_resets_the_clock() {
    let mut rig = Rig::open();
    rig.write(&[1; 1_000]);
    rig.sent();
    let sent = rig.pass_and_collect(20_000);
    assert!(sent.iter().all(|(_, sent)| sent.seq == 1), "{sent:?}");
    let times: Vec<u64> = sent.iter().map(|(at, _)| *at).collect();
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for pair in gaps[1..].windows(2) {
        assert_eq!(pair[1], 2 * pair[0], "{times:?}");
    }
    assert!(rig.connection.statistics().timeouts >= 5);
    rig.hear(1, 1_001, ACK, &[]);
    rig.write(&[1; 1_000]);
    rig.sent();
    let again = rig.pass_and_collect(300);
    assert!(!again.is_empty(), "the back-off outlives the answer");
}

#[test]
fn a_timeout_sends_the_first_segment_only() {
    let mut rig = Rig::open();
    flight(&mut rig);
    let sent = rig.pass_and_collect(300);
    let timeouts: Vec<u32> = sent.iter().map(|(_, sent)| sent.seq).collect();
    // The tail probe, then the timeout.
    assert_eq!(timeouts, [9_001, 1]);
    assert_eq!(rig.connection.statistics().timeouts, 1);
}

#[test]
fn a_peer_that_takes_back_its_report_gets_everything_again() {
    let mut rig = Rig::open();
    flight(&mut rig);
    rig.hear_sack(1, &[(1, 1), (2001, 10_001)]);
    rig.sent();
    // It acknowledges up to what it had reported, and no further: the report is void (RFC 2018 section 8).
    rig.hear(1, 2_001, ACK, &[]);
    let mut again = Vec::new();
    for _ in 0..40 {
        again.extend(rig.pass_and_collect(50).into_iter().map(|(_, sent)| sent));
        if let Some(last) = again.last() {
            let acked = last.seq + last.payload.len() as u32;
            rig.hear(1, acked.max(2_001), ACK, &[]);
            again.extend(rig.sent());
        }
    }
    for seq in (2_001..10_001).step_by(1000) {
        assert!(seqs(&again).contains(&seq), "{seq} was not sent again");
    }
    assert_eq!(rig.connection.statistics().bytes_acknowledged, 10_000);
}

#[test]
fn without_sack_three_duplicates_repair_the_first_hole_and_partial_answers_the_next() {
    let mut rig = Rig::open_with(Options { sack_permitted: false, ..usual_options() }, &Settings::default());
    flight(&mut rig);
    rig.hear(1, 1_001, ACK, &[]);
    for _ in 0..2 {
        rig.hear(1, 1_001, ACK, &[]);
        assert!(seqs(&rig.sent()).is_empty());
    }
    rig.hear(1, 1_001, ACK, &[]);
    assert_eq!(seqs(&rig.sent()), [1_001]);
    rig.pass(20);
    rig.hear(1, 4_001, ACK, &[]);
    assert_eq!(seqs(&rig.sent()), [4_001]);
}

#[test]
fn a_needless_retransmission_widens_the_patience() {
    let mut rig = Rig::open();
    flight(&mut rig);
    rig.hear_sack(1, &[(1001, 5001)]);
    assert_eq!(seqs(&rig.sent()), [1]);
    // The original arrives after all, then the copy: a duplicate.
    rig.hear(1, 10_001, ACK, &[]);
    rig.hear_sack(10_001, &[(1, 1001)]);
    assert_eq!(rig.connection.statistics().spurious_retransmits, 1);
    rig.write(&[1; 10_000]);
    rig.sent();
    rig.pass(20);
    rig.hear_sack(10_001, &[(11_001, 15_001)]);
    assert!(!seqs(&rig.sent()).contains(&10_001), "reordering was seen: wait");
}

#[test]
fn a_path_that_swallows_large_segments_gets_smaller_ones() {
    let options = Options { mss: Some(1380), ..usual_options() };
    let mut rig = Rig::open_with(options, &Settings::default());
    rig.write(&[1; 5_000]);
    rig.sent();
    let mut sizes = Vec::new();
    for (_, sent) in rig.pass_and_collect(30_000) {
        sizes.push(sent.payload.len());
    }
    assert!(sizes.contains(&1220) && sizes.contains(&536), "{sizes:?}");
    assert_eq!(rig.connection.statistics().segment_size, 536);
    // It gets through. After a while the agreed size is given another chance.
    rig.hear(1, 5_001, ACK, &[]);
    rig.pass(6_000);
    rig.write(&[1; 5_000]);
    assert_eq!(spans(&rig.sent())[0].1, 1380);
}

#[test]
fn everything_in_flight_survives_being_cut_smaller() {
    let options = Options { mss: Some(1380), ..usual_options() };
    let mut rig = Rig::open_with(options, &Settings::default());
    let bytes: Vec<u8> = (0..5_000u32).map(|index| (index % 251) as u8).collect();
    rig.write(&bytes);
    rig.connection.finish();
    rig.sent();
    let mut arrived = vec![None; 5_000];
    let mut acked = 1;
    for _ in 0..400 {
        for (_, sent) in rig.pass_and_collect(100) {
            if sent.payload.len() > 1220 {
                continue;
            }
            for (index, byte) in sent.payload.iter().enumerate() {
                arrived[sent.seq as usize - 1 + index] = Some(*byte);
            }
            let whole = arrived.iter().take_while(|byte| byte.is_some()).count() as u32;
            acked = whole + 1 + u32::from(whole == 5_000 && sent.is(super::FIN));
            rig.hear(1, acked, ACK, &[]);
        }
    }
    assert_eq!(acked, 5_002);
    let arrived: Vec<u8> = arrived.into_iter().flatten().collect();
    assert_eq!(arrived, bytes);
    assert!(rig.connection.local_finished());
}
