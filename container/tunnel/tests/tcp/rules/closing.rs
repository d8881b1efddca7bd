//! Ends (RFC 9293 3.6; RFC 5961 3; RFC 1337).

use ebb_tunnel::tcp::{End, Segment, State};

use super::{ACK, FIN, RST, Rig, SYN, segment};

#[test]
fn a_client_that_finishes_first_can_still_be_served() {
    let mut rig = Rig::open();
    rig.hear(1, 1, ACK | FIN, b"request");
    assert_eq!(rig.sent_one().ack, 9);
    assert_eq!(rig.connection.state(), State::CloseWait);
    assert!(!rig.connection.remote_finished(), "before its bytes are consumed");
    assert_eq!(rig.read(), b"request");
    assert!(rig.connection.remote_finished());
    rig.write(b"response");
    assert_eq!(rig.sent_one().payload, b"response");
    rig.connection.finish();
    let fin = rig.sent_one();
    assert!(fin.is(FIN) && fin.seq == 9);
    assert_eq!(rig.connection.state(), State::LastAck);
    rig.hear(9, 10, ACK, &[]);
    assert_eq!(rig.connection.ended(), Some(End::Finished));
    assert!(rig.connection.local_finished());
}

#[test]
fn a_server_that_finishes_first_can_still_listen() {
    let mut rig = Rig::open();
    rig.write(b"bye");
    rig.connection.finish();
    let last = rig.sent_one();
    assert!(last.is(FIN) && last.payload == b"bye");
    assert_eq!(rig.connection.state(), State::FinWait1);
    rig.hear(1, 5, ACK, b"more");
    assert_eq!(rig.connection.state(), State::FinWait2);
    assert_eq!(rig.read(), b"more");
    rig.hear(5, 5, ACK | FIN, b"!");
    assert_eq!(rig.connection.state(), State::TimeWait);
    assert_eq!(rig.sent_one().ack, 7);
    assert_eq!(rig.read(), b"!");
    assert!(rig.connection.remote_finished() && rig.connection.local_finished());
    assert_eq!(rig.connection.ended(), None);
    rig.pass(11_000);
    assert_eq!(rig.connection.ended(), Some(End::Finished));
}

#[test]
fn both_finishing_at_once_meet_in_time_wait() {
    let mut rig = Rig::open();
    rig.connection.finish();
    rig.sent_one();
    rig.hear(1, 1, ACK | FIN, &[]);
    assert_eq!(rig.connection.state(), State::Closing);
    assert_eq!(rig.sent_one().ack, 2);
    rig.hear(2, 2, ACK, &[]);
    assert_eq!(rig.connection.state(), State::TimeWait);
}

fn in_time_wait() -> Rig {
    let mut rig = Rig::open();
    rig.connection.finish();
    rig.sent_one();
    rig.hear(1, 2, ACK | FIN, &[]);
    rig.sent_one();
    assert_eq!(rig.connection.state(), State::TimeWait);
    rig
}

#[test]
fn a_late_fin_is_acknowledged_and_not_reset() {
    let mut rig = in_time_wait();
    rig.pass(8_000);
    rig.hear(1, 2, ACK | FIN, &[]);
    let again = rig.sent_one();
    assert_eq!((again.flags, again.ack), (ACK, 2));
    // And it starts the wait over.
    rig.pass(8_000);
    assert_eq!(rig.connection.state(), State::TimeWait);
    rig.pass(3_000);
    assert_eq!(rig.connection.state(), State::Closed);
}

#[test]
fn a_reset_does_not_cut_time_wait_short() {
    let mut rig = in_time_wait();
    rig.hear(2, 2, RST, &[]);
    assert_eq!(rig.connection.state(), State::TimeWait);
}

#[test]
fn a_new_syn_ends_time_wait_only_beyond_the_old_numbers() {
    let mut rig = in_time_wait();
    rig.hear_segment(&segment(1, 0, SYN, &[]));
    assert_eq!(rig.connection.state(), State::TimeWait);
    rig.hear_segment(&segment(100, 0, SYN, &[]));
    assert_eq!(rig.connection.ended(), Some(End::Finished));
}

#[test]
fn only_the_exact_number_resets() {
    let mut rig = Rig::open();
    rig.hear(500, 1, RST, &[]);
    assert!(rig.connection.is_open());
    let challenge = rig.sent_one();
    assert_eq!((challenge.flags, challenge.ack), (ACK, 1));
    // Outside the window: not even an answer.
    rig.pass(1_000);
    rig.hear(0x4000_0000, 1, RST, &[]);
    assert!(rig.sent().is_empty());
    rig.hear(1, 1, RST, &[]);
    assert_eq!(rig.connection.ended(), Some(End::Reset));
    assert!(rig.sent().is_empty());
}

#[test]
fn a_syn_on_an_open_connection_is_challenged_so_that_a_restarted_client_can_reset_it() {
    let mut rig = Rig::open();
    rig.hear_segment(&segment(9_000, 0, SYN, &[]));
    let challenge = rig.sent_one();
    assert_eq!((challenge.flags, challenge.seq, challenge.ack), (ACK, 1, 1));
    // The client answers the challenge from SYN-SENT.
    rig.hear(1, 0, RST, &[]);
    assert_eq!(rig.connection.ended(), Some(End::Reset));
}

#[test]
fn challenges_are_rate_limited() {
    let mut rig = Rig::open();
    let mut answers = 0;
    for _ in 0..1_000 {
        rig.hear(500, 1, RST, &[]);
        answers += rig.sent().len();
        rig.pass(1);
    }
    assert!((5..=11).contains(&answers), "{answers} answers in a second");
}

#[test]
fn an_abort_resets_the_peer_and_frees_everything() {
    let mut rig = Rig::open();
    rig.write(&[1; 3_000]);
    rig.sent();
    rig.hear(1, 1, ACK, b"unread");
    rig.connection.abort();
    assert_eq!(rig.connection.ended(), Some(End::Aborted));
    let reset = rig.sent_one();
    assert_eq!((reset.flags, reset.seq, reset.ack), (RST | ACK, 3_001, 7));
    assert_eq!(rig.connection.deadline(), None);
    assert_eq!(rig.budget.used(), 0);
    rig.connection.abort();
    assert!(rig.sent().is_empty());
}

#[test]
fn bytes_that_arrived_before_an_orderly_end_stay_readable_after_it() {
    let mut rig = Rig::open();
    rig.hear(1, 1, ACK | FIN, b"last words");
    rig.connection.finish();
    rig.sent();
    rig.hear(12, 2, ACK, &[]);
    assert_eq!(rig.connection.ended(), Some(End::Finished));
    assert_eq!(rig.read(), b"last words");
    assert!(rig.connection.remote_finished());
}

#[test]
fn a_fin_that_overtakes_data_waits_for_it() {
    let mut rig = Rig::open();
    rig.hear(4, 1, ACK | FIN, b"def");
    assert_eq!(rig.connection.state(), State::Established);
    assert_eq!(rig.sent_one().ack, 1);
    rig.hear(1, 1, ACK, b"abc");
    assert_eq!(rig.connection.state(), State::CloseWait);
    assert_eq!(rig.sent_one().ack, 8);
    assert_eq!(rig.read(), b"abcdef");
}

#[test]
fn a_lost_fin_is_sent_again_where_it_was() {
    let mut rig = Rig::open();
    rig.write(b"tail");
    assert_eq!(rig.sent_one().payload, b"tail");
    rig.connection.finish();
    assert!(rig.sent_one().is(FIN));
    rig.hear(1, 5, ACK, &[]);
    let again = rig.pass_and_collect(2_000);
    assert!(!again.is_empty());
    assert!(again.iter().all(|(_, sent)| sent.is(FIN) && sent.seq == 5 && sent.payload.is_empty()));
}

#[test]
fn nothing_can_be_written_after_finishing() {
    let mut rig = Rig::open();
    rig.connection.finish();
    assert_eq!(rig.connection.room(), 0);
    let (first, second) = rig.connection.writable();
    assert!(first.is_empty() && second.is_empty());
    rig.connection.commit(5);
    assert_eq!(rig.sent_one().payload, b"");
}

#[test]
fn urgent_data_stays_in_the_stream() {
    let mut rig = Rig::open();
    let urgent = Segment { ..segment(1, 1, ACK | ebb_tunnel::tcp::Flags::URG, b"ab!cd") };
    rig.hear_segment(&urgent);
    assert_eq!(rig.read(), b"ab!cd");
}
