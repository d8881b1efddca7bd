//! Peers that fall silent (RFC 9293 3.8.3, 3.8.4).

use std::time::Duration;

use ebb_tunnel::tcp::{End, Keepalive, Settings};

use super::{ACK, RST, Rig, usual_options};

#[test]
fn a_silent_peer_is_probed_and_then_given_up() {
    let mut rig = Rig::open();
    let sent = rig.pass_and_collect(400_000);
    let times: Vec<u64> = sent.iter().map(|(at, _)| at / 1000).collect();
    assert_eq!(times, [120, 135, 150, 165, 180]);
    for (_, probe) in &sent[..4] {
        assert_eq!((probe.flags, probe.seq, probe.payload.len()), (ACK, 0, 0));
    }
    assert!(sent[4].1.is(RST));
    assert_eq!(rig.connection.ended(), Some(End::TimedOut));
}

#[test]
fn a_peer_that_answers_probes_lives_on() {
    let mut rig = Rig::open();
    for _ in 0..20 {
        let sent = rig.pass_and_collect(121_000);
        assert_eq!(sent.len(), 1);
        rig.hear(1, 1, ACK, &[]);
    }
    assert!(rig.connection.is_open());
}

#[test]
fn keepalive_can_be_left_out() {
    let settings = Settings { keepalive: None, ..Settings::default() };
    let mut rig = Rig::open_with(usual_options(), &settings);
    assert_eq!(rig.connection.deadline(), None);
    assert!(rig.pass_and_collect(100_000_000).is_empty());
    assert!(rig.connection.is_open());
}

#[test]
fn keepalive_times_are_settings() {
    let keepalive = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(2), probes: 1 };
    let settings = Settings { keepalive: Some(keepalive), ..Settings::default() };
    let mut rig = Rig::open_with(usual_options(), &settings);
    let times: Vec<u64> = rig.pass_and_collect(60_000).iter().map(|(at, _)| at / 1000).collect();
    assert_eq!(times, [10, 12]);
    assert_eq!(rig.connection.ended(), Some(End::TimedOut));
}

#[test]
fn unanswered_data_ends_the_connection_after_three_minutes_and_not_before() {
    let mut rig = Rig::open();
    rig.write(b"anyone there?");
    rig.sent();
    rig.pass(170_000);
    assert!(rig.connection.is_open());
    let rest = rig.pass_and_collect(100_000);
    assert_eq!(rig.connection.ended(), Some(End::TimedOut));
    assert!(rest.last().unwrap().1.is(RST));
    assert_eq!(rig.connection.deadline(), None);
}

#[test]
fn a_peer_that_closes_its_window_and_vanishes_is_given_up() {
    let mut rig = Rig::open();
    rig.window = 0;
    rig.hear(1, 1, ACK, &[]);
    rig.write(b"stuck");
    assert!(rig.sent().is_empty());
    rig.pass(150_000);
    assert!(rig.connection.is_open());
    rig.pass(120_000);
    assert_eq!(rig.connection.ended(), Some(End::TimedOut));
}

#[test]
fn an_open_and_idle_connection_wants_nothing_until_its_keepalive() {
    let mut rig = Rig::open();
    rig.hear(1, 1, ACK, b"x");
    rig.read();
    rig.write(b"y");
    rig.sent();
    rig.hear(2, 2, ACK, &[]);
    rig.pass(5_000);
    let left = rig.connection.deadline().unwrap().since(rig.now).as_secs();
    assert_eq!(left, 115);
}
