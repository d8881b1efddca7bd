//! The receiving half: acknowledgments and windows (RFC 9293 3.8.6; RFC 5681 4.2; RFC 2018; RFC 2883).

use ebb_tunnel::tcp::{Options, Segment, Settings};

use super::{ACK, FIN, Rig, segment, usual_options};

const FULL: [u8; 1000] = [7; 1000];

/// Past the quick acknowledgments of the start.
fn settled() -> (Rig, u32) {
    let mut rig = Rig::open();
    let mut seq = 1;
    for _ in 0..70 {
        rig.hear(seq, 1, ACK, &FULL);
        seq += 1000;
        rig.read();
        rig.sent();
    }
    (rig, seq)
}

#[test]
fn a_batch_is_acknowledged_once() {
    let (mut rig, seq) = settled();
    for index in 0..20 {
        rig.hear(seq + index * 1000, 1, ACK, &FULL);
    }
    rig.read();
    assert_eq!(rig.sent_one().ack, seq + 20_000);
}

#[test]
fn a_lone_segment_waits_for_company_and_two_do_not() {
    let (mut rig, seq) = settled();
    rig.hear(seq, 1, ACK, &FULL);
    rig.read();
    assert!(rig.sent().is_empty());
    let later = rig.pass_and_collect(100);
    assert_eq!(later.len(), 1);
    assert_eq!((later[0].0, later[0].1.ack), (20, seq + 1000));
    rig.hear(seq + 1000, 1, ACK, &FULL);
    rig.read();
    assert!(rig.sent().is_empty());
    rig.hear(seq + 2000, 1, ACK, &FULL);
    rig.read();
    assert_eq!(rig.sent_one().ack, seq + 3000);
}

#[test]
fn data_carries_the_acknowledgment_along() {
    let (mut rig, seq) = settled();
    rig.hear(seq, 1, ACK, b"request");
    rig.read();
    rig.write(b"response");
    let response = rig.sent_one();
    assert_eq!((response.ack, response.payload.as_slice()), (seq + 7, b"response".as_slice()));
    assert!(rig.pass_and_collect(40).iter().all(|(_, sent)| !sent.payload.is_empty()));
}

#[test]
fn the_first_full_segments_are_acknowledged_at_once() {
    let mut rig = Rig::open();
    rig.hear(1, 1, ACK, &FULL);
    assert_eq!(rig.sent_one().ack, 1001);
}

#[test]
fn a_hole_is_reported_at_once_with_the_latest_block_first() {
    let mut rig = Rig::open();
    rig.hear(1001, 1, ACK, &FULL);
    let report = rig.sent_one();
    assert_eq!((report.ack, report.sack.as_slice()), (1, [(1001, 2001)].as_slice()));
    rig.hear(5001, 1, ACK, &FULL);
    assert_eq!(rig.sent_one().sack, [(5001, 6001), (1001, 2001)]);
    rig.hear(3001, 1, ACK, &FULL);
    assert_eq!(rig.sent_one().sack, [(3001, 4001), (5001, 6001), (1001, 2001)]);
    rig.hear(2001, 1, ACK, &FULL);
    assert_eq!(rig.sent_one().sack, [(1001, 4001), (5001, 6001)]);
    rig.hear(1, 1, ACK, &FULL);
    let report = rig.sent_one();
    assert_eq!((report.ack, report.sack.as_slice()), (4001, [(5001, 6001)].as_slice()));
    rig.hear(4001, 1, ACK, &FULL);
    let report = rig.sent_one();
    assert_eq!((report.ack, report.sack.is_empty()), (6001, true));
    assert_eq!(rig.read().len(), 6000);
}

#[test]
fn duplicates_are_reported_first() {
    let mut rig = Rig::open();
    rig.hear(1, 1, ACK, &FULL);
    rig.sent();
    rig.hear(1, 1, ACK, &FULL);
    let report = rig.sent_one();
    assert_eq!((report.ack, report.sack.as_slice()), (1001, [(1, 1001)].as_slice()));
    // Beyond a hole: the duplicate, then the block around it (RFC 2883 section 4).
    rig.hear(3001, 1, ACK, &FULL);
    rig.hear(4001, 1, ACK, &FULL);
    rig.sent();
    rig.hear(3001, 1, ACK, &FULL);
    assert_eq!(rig.sent_one().sack, [(3001, 4001), (3001, 5001)]);
    // Said once.
    rig.hear(7001, 1, ACK, &FULL);
    assert_eq!(rig.sent_one().sack, [(7001, 8001), (3001, 5001)]);
}

#[test]
fn without_leave_nothing_is_reported() {
    let mut rig = Rig::open_with(Options { sack_permitted: false, ..usual_options() }, &Settings::default());
    rig.hear(1001, 1, ACK, &FULL);
    let report = rig.sent_one();
    assert_eq!((report.ack, report.sack.is_empty()), (1, true));
}

#[test]
fn bytes_once_received_are_not_replaced() {
    let mut rig = Rig::open();
    rig.hear(4, 1, ACK, b"DEF");
    rig.hear(1, 1, ACK, b"abcxxxghi");
    assert_eq!(rig.read(), b"abcDEFghi");
}

#[test]
fn the_window_closes_when_nobody_reads_and_opens_in_one_step() {
    let settings = Settings { ring_max: 64 << 10, ..Settings::default() };
    let mut rig = Rig::open_with(usual_options(), &settings);
    let shift = 1;
    let mut seq = 1;
    let mut window = 0;
    for _ in 0..100 {
        rig.hear(seq, 1, ACK, &FULL);
        rig.hear(seq + 1000, 1, ACK, &FULL);
        let answer = rig.sent().pop().unwrap();
        seq = answer.ack;
        window = u32::from(answer.window) << shift;
        if window < 1000 {
            break;
        }
    }
    assert!(window < 1000, "the window stays at {window}");
    let edge = seq + window;
    // A sender that ignores the window gets nowhere, and hears so.
    rig.hear(edge, 1, ACK, &FULL);
    let answer = rig.sent().pop().unwrap();
    assert_eq!(answer.ack, seq);
    // A byte read is not worth announcing ...
    rig.connection.consume(1);
    assert!(rig.sent().is_empty());
    // ... a segment is, and at once.
    rig.connection.consume(2_000);
    let update = rig.sent_one();
    assert!(update.payload.is_empty() && (u32::from(update.window) << shift) + update.ack >= edge + 1_000);
}

#[test]
fn a_probe_of_a_closed_window_is_answered_and_its_acknowledgment_counts() {
    let settings = Settings { ring_max: 16 << 10, ..Settings::default() };
    let mut rig = Rig::open_with(usual_options(), &settings);
    rig.write(b"data");
    rig.sent_one();
    let mut seq = 1;
    loop {
        rig.hear(seq, 1, ACK, &FULL);
        let answer = rig.sent().pop().unwrap();
        if answer.ack == seq {
            break;
        }
        seq = answer.ack;
    }
    let left = (16 << 10) - seq as usize;
    rig.hear(seq, 1, ACK, &FULL[..left.min(1000)]);
    rig.sent();
    let closed = rig.connection.readable();
    let seq = 1 + (closed.0.len() + closed.1.len()) as u32;
    rig.pass(1_000);
    rig.sent();
    // One byte past the edge, acknowledging our data.
    rig.hear(seq, 5, ACK, b"x");
    let answer = rig.sent_one();
    assert_eq!((answer.ack, answer.window), (seq, 0));
    assert_eq!(rig.connection.statistics().bytes_acknowledged, 4);
}

#[test]
fn the_window_grows_with_what_is_read() {
    let (mut rig, mut seq) = settled();
    let before = rig.connection.statistics().receive_limit;
    // 2 MB a second, in batches of 20 ms, which is the round trip.
    for _ in 0..50 {
        for _ in 0..100 {
            rig.hear(seq, 1, ACK, &FULL);
            seq += 1000;
        }
        rig.read();
        rig.sent();
        rig.pass(20);
    }
    let after = rig.connection.statistics().receive_limit;
    assert!(before <= 150_000 && after >= 300_000, "{before} then {after}");
}

#[test]
fn old_segments_are_answered_and_keepalives_too() {
    let mut rig = Rig::open();
    rig.hear(1, 1, ACK, b"abc");
    rig.read();
    rig.sent();
    rig.pass(500);
    // The number before the next: a keepalive (RFC 9293 3.8.4), with and without the byte some send.
    rig.hear(3, 1, ACK, &[]);
    assert_eq!(rig.sent_one().ack, 4);
    rig.hear(3, 1, ACK, b"c");
    assert_eq!(rig.sent_one().ack, 4);
}

#[test]
fn memory_is_taken_with_the_first_byte_and_returned_when_idle() {
    let mut rig = Rig::open();
    assert_eq!((rig.budget.used(), rig.connection.statistics().memory), (0, 0));
    rig.hear(1, 1, ACK, b"abc");
    rig.write(b"abc");
    assert_eq!(rig.budget.used(), 32 << 10);
    rig.read();
    rig.sent();
    rig.hear(4, 4, ACK, &[]);
    rig.pass(500);
    assert_eq!(rig.budget.used(), 32 << 10);
    rig.pass(1_000);
    assert_eq!((rig.budget.used(), rig.connection.statistics().memory), (0, 0));
    rig.hear(4, 4, ACK, b"again");
    assert_eq!(rig.read(), b"again");
}

#[test]
fn a_fin_is_acknowledged_at_once() {
    let (mut rig, seq) = settled();
    rig.hear_segment(&Segment { ..segment(seq, 1, ACK | FIN, &[]) });
    assert_eq!(rig.sent_one().ack, seq + 1);
}
