//! The rules of the paper's section 6, one by one, between two ends of ours under virtual time.

use super::*;
use crate::wireguard::message::word;

/// Initiator and responder, and the time.
struct Pair {
    ends: [(Endpoint, PeerId); 2],
    now: Time,
    /// Whether datagrams of each end get lost.
    lost: [bool; 2],
    /// Datagrams that each end has sent: when, and the datagram.
    sent: [Vec<(Time, Vec<u8>)>; 2],
    arrived: [usize; 2],
}

fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, end as u8], 51820))
}

fn inner(end: usize) -> IpAddr {
    [10, 8, 0, end as u8].into()
}

impl Pair {
    fn new() -> Self {
        Self::with_keepalive(None)
    }

    fn with_keepalive(keepalive: Option<Duration>) -> Self {
        let keys = [1, 2].map(|number| PrivateKey::from_random([number; 32]));
        let ends = [0, 1].map(|end: usize| {
            let peer = PeerConfig {
                key: keys[1 - end].public(),
                addresses: Addresses::Hosts(vec![inner(1 - end)]),
                endpoint: Some(address(1 - end)),
                keepalive: keepalive.filter(|_| end == 0),
            };
            let start = Start { seed: [end as u8; 32], ..start(NOW) };
            Endpoint::with_peer(&keys[end], 1420, peer, start)
        });
        Self { ends, now: NOW, lost: [false; 2], sent: Default::default(), arrived: [0; 2] }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        pair.send(0);
        pair.exchange();
        assert_eq!(pair.arrived, [0, 1]);
        pair
    }

    fn send(&mut self, end: usize) {
        let mut packet = [0; 60];
        let (from, to) = ((inner(end), 1).into(), (inner(1 - end), 1).into());
        let length = udp::write(&mut packet, from, to, b"data").unwrap();
        let (endpoint, id) = &mut self.ends[end];
        if let Some(datagram) = seal(endpoint, *id, &packet[..length], self.now) {
            self.sent[end].push((self.now, datagram.clone()));
            self.deliver(end, datagram);
        }
    }

    fn deliver(&mut self, from: usize, mut datagram: Vec<u8>) {
        if self.lost[from] {
            return;
        }
        let received = self.ends[1 - from].0.receive(&mut datagram, address(from).into(), self.now);
        if matches!(received, Received::Packet { .. }) {
            self.arrived[1 - from] += 1;
        }
    }

    fn exchange(&mut self) {
        loop {
            let made = [0, 1].map(|end: usize| outgoing(&mut self.ends[end].0));
            if made.iter().all(Vec::is_empty) {
                return;
            }
            for (end, datagrams) in made.into_iter().enumerate() {
                for datagram in datagrams {
                    self.sent[end].push((self.now, datagram.clone()));
                    self.deliver(end, datagram);
                }
            }
        }
    }

    /// Lets time pass; timers are looked at when they are due.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.exchange();
            let next = self.ends.iter().filter_map(|(endpoint, _)| endpoint.deadline()).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            for (endpoint, _) in &mut self.ends {
                endpoint.expire(self.now);
            }
        }
        self.now = end;
    }

    /// When an end has sent messages of a kind, in seconds since the beginning.
    fn times(&self, end: usize, kind: u8) -> Vec<f64> {
        let of_kind = self.sent[end].iter().filter(|(_, datagram)| datagram[0] == kind);
        of_kind.map(|(at, _)| at.since(NOW).as_secs_f64()).collect()
    }

    fn forget(&mut self) {
        self.sent = Default::default();
        self.arrived = [0; 2];
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_initiation_is_repeated_every_five_seconds_and_a_bit_for_ninety_seconds() {
    let mut pair = Pair::new();
    pair.lost = [true; 2];
    pair.send(0);
    pair.run(seconds(1000));
    let times = pair.times(0, 1);
    assert!((17..=18).contains(&times.len()), "{times:?}");
    for pair in times.windows(2) {
        let pause = pair[1] - pair[0];
        assert!((5.0..5.34).contains(&pause), "{pause}");
    }
    assert!(times.last().unwrap() < &90.4);
    // No two are alike: each has its own key and a later time (5.4.2).
    let bodies: std::collections::BTreeSet<_> =
        pair.sent[0].iter().map(|(_, datagram)| &datagram[4..]).collect();
    assert_eq!(bodies.len(), times.len());
    assert_eq!(pair.ends[0].0.indices.count(), 0);
}

#[test]
fn packets_that_waited_for_a_handshake_that_was_given_up_are_not_sent_later() {
    let mut pair = Pair::new();
    pair.lost = [true; 2];
    pair.send(0);
    pair.run(seconds(200));
    pair.lost = [false; 2];
    pair.send(0);
    pair.run(seconds(1));
    assert_eq!(pair.arrived[1], 1);
}

#[test]
fn wanting_to_send_again_starts_the_ninety_seconds_again_but_no_second_initiation() {
    let mut pair = Pair::new();
    pair.lost = [true; 2];
    for _ in 0..100 {
        pair.send(0);
        pair.run(seconds(1));
    }
    pair.run(seconds(1000));
    let times = pair.times(0, 1);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 5.0), "{times:?}");
    let last = times.last().unwrap();
    assert!((180.0..190.0).contains(last), "{last}");
}

#[test]
fn who_only_receives_breaks_the_silence_after_ten_seconds() {
    let mut pair = Pair::connected();
    pair.run(seconds(1));
    pair.forget();
    for _ in 0..40 {
        pair.send(0);
        pair.run(seconds(1));
    }
    let keepalives = pair.times(1, 4);
    assert_eq!(keepalives.len(), 4, "{keepalives:?}");
    assert!(pair.sent[1].iter().all(|(_, datagram)| datagram.len() == OVERHEAD));
    assert!(keepalives.windows(2).all(|pair| (10.0..=11.1).contains(&(pair[1] - pair[0]))), "{keepalives:?}");
    // Nobody doubts the session, and a keepalive asks for no keepalive.
    assert!(pair.times(0, 1).is_empty());
    pair.forget();
    pair.run(seconds(100));
    assert!(pair.sent[0].is_empty());
    assert!(pair.sent[1].len() <= 1);
}

#[test]
fn data_without_any_answer_makes_a_new_session_after_fifteen_seconds() {
    for end in [0, 1] {
        let mut pair = Pair::connected();
        pair.run(seconds(20));
        pair.forget();
        pair.lost[1 - end] = true;
        let sent_at = pair.now.since(NOW).as_secs_f64();
        pair.send(end);
        pair.run(seconds(16));
        let waited = pair.times(end, 1)[0] - sent_at;
        assert!((15.0..15.4).contains(&waited), "{waited}");
    }
}

#[test]
fn the_initiator_renews_after_two_minutes_when_it_sends_and_the_responder_does_not() {
    let mut pair = Pair::connected();
    pair.run(seconds(119));
    pair.send(0);
    pair.send(1);
    pair.exchange();
    assert_eq!(pair.times(0, 1).len(), 1);
    pair.run(seconds(1));
    pair.send(1);
    pair.exchange();
    assert_eq!((pair.times(0, 1).len(), pair.times(1, 1).len()), (1, 0));
    pair.send(0);
    pair.exchange();
    assert_eq!((pair.times(0, 1).len(), pair.times(1, 1).len()), (2, 0));
}

#[test]
fn an_initiator_that_only_receives_renews_in_time_and_once() {
    let mut pair = Pair::connected();
    for _ in 0..164 {
        pair.send(1);
        pair.run(seconds(1));
    }
    // Its keepalives are no data, but they are sent, and so they renew after two minutes already.
    let renewed = pair.times(0, 1);
    assert_eq!(renewed.len(), 2);
    assert!((120.0..131.0).contains(&renewed[1]), "{renewed:?}");

    // Without them the age on receiving decides.
    let mut pair = Pair::connected();
    pair.run(seconds(166));
    pair.forget();
    pair.lost[0] = true;
    pair.send(1);
    pair.send(1);
    pair.exchange();
    assert_eq!(pair.times(0, 1).len(), 1);
}

#[test]
fn a_session_of_three_minutes_carries_nothing_any_more() {
    let mut pair = Pair::connected();
    pair.run(seconds(179));
    pair.lost[0] = true;
    pair.send(0);
    let late = pair.sent[0].iter().rfind(|(_, datagram)| datagram[0] == 4).unwrap().1.clone();
    pair.lost[0] = false;
    pair.now += seconds(1);
    let before = pair.ends[1].0.counters().refused;
    pair.deliver(0, late);
    assert_eq!(pair.ends[1].0.counters().refused, before + 1);
    pair.lost = [true; 2];
    pair.forget();
    pair.send(1);
    assert_eq!(pair.sent[1][0].1[0], 1, "the responder begins anew when it wants to send");
}

#[test]
fn all_keys_are_wiped_nine_minutes_after_the_last_session() {
    let mut pair = Pair::connected();
    pair.lost = [true; 2];
    pair.run(seconds(539));
    assert!(pair.ends.iter().all(|(endpoint, _)| endpoint.indices.count() > 0));
    pair.run(seconds(2));
    assert!(pair.ends.iter().all(|(endpoint, _)| endpoint.indices.count() == 0));
    assert!(pair.ends.iter().all(|(endpoint, _)| endpoint.deadline().is_none()));
}

#[test]
fn a_responder_uses_its_session_only_after_the_initiator_has() {
    let mut pair = Pair::new();
    let now = pair.now;
    let id = pair.ends[0].1;
    pair.ends[0].0.initiate(id, now);
    let [initiation] = outgoing(&mut pair.ends[0].0).try_into().unwrap();
    pair.deliver(0, initiation);
    pair.lost[1] = true;
    pair.send(1);
    // Not a data message by the unconfirmed session but an initiation of its own.
    assert_eq!(pair.sent[1].last().unwrap().1[0], 1);
}

#[test]
fn initiations_that_cross_leave_a_session_that_works_both_ways() {
    let mut pair = Pair::new();
    let now = pair.now;
    let initiations = [0, 1].map(|end: usize| {
        let id = pair.ends[end].1;
        pair.ends[end].0.initiate(id, now);
        outgoing(&mut pair.ends[end].0)
    });
    for (end, datagrams) in initiations.into_iter().enumerate() {
        datagrams.into_iter().for_each(|datagram| pair.deliver(end, datagram));
    }
    pair.exchange();
    for round in 1..5 {
        pair.send(0);
        pair.send(1);
        pair.exchange();
        assert_eq!(pair.arrived, [round; 2]);
    }
}

#[test]
fn a_repeated_initiation_does_not_spoil_the_answer_to_the_one_before() {
    // The path is longer than the client's first retry: both initiations are answered, one after the other.
    let mut pair = Pair::new();
    let (mut initiations, mut responses) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (now, id) = (pair.now, pair.ends[0].1);
        pair.ends[0].0.initiate(id, now);
        initiations.extend(outgoing(&mut pair.ends[0].0));
        pair.now += Duration::from_millis(100);
    }
    for initiation in initiations {
        pair.deliver(0, initiation);
        responses.extend(outgoing(&mut pair.ends[1].0));
        pair.now += Duration::from_millis(100);
    }
    assert_eq!(responses.len(), 2);
    pair.deliver(1, responses.remove(0));
    pair.send(0);
    pair.exchange();
    assert_eq!(pair.arrived[1], 1, "the first answer is good");
    pair.send(1);
    assert_eq!(pair.arrived[0], 1);
}

#[test]
fn an_old_initiation_is_not_answered_and_moves_nobody() {
    let mut pair = Pair::connected();
    let initiation = pair.sent[0][0].1.clone();
    assert_eq!(initiation[0], 1);
    pair.run(seconds(1));
    let elsewhere = SocketAddr::from(([203, 0, 113, 1], 1));
    let now = pair.now;
    let (endpoint, id) = &mut pair.ends[1];
    endpoint.receive(&mut initiation.clone(), elsewhere.into(), now);
    assert!(outgoing(endpoint).is_empty());
    // A gateway that has restarted cannot know that it is old. It answers, and nothing else follows from it.
    let key = endpoint.peer(*id).unwrap().key;
    endpoint.remove(*id);
    let peer = PeerConfig {
        key,
        addresses: Addresses::Hosts(vec![inner(0)]),
        endpoint: Some(address(0)),
        keepalive: None,
    };
    *id = endpoint.add(peer).unwrap();
    endpoint.receive(&mut initiation.clone(), elsewhere.into(), now);
    assert_eq!(outgoing(endpoint).len(), 1);
    let statistics = endpoint.statistics(*id).unwrap();
    assert_eq!((statistics.endpoint, statistics.last_received), (Some(address(0)), None));
}

#[test]
fn packets_that_are_thousands_late_arrive_and_none_arrives_twice() {
    let mut pair = Pair::connected();
    pair.lost[0] = true;
    pair.forget();
    for _ in 0..8192 {
        pair.send(0);
    }
    pair.lost[0] = false;
    let datagrams: Vec<_> = pair.sent[0].iter().map(|(_, datagram)| datagram.clone()).collect();
    for datagram in datagrams.iter().rev().chain(&datagrams) {
        pair.deliver(0, datagram.clone());
    }
    assert_eq!(pair.arrived[1], 8192);
}

#[test]
fn persistent_keepalives_hold_the_path_open_and_make_a_session_when_there_is_none() {
    let mut pair = Pair::with_keepalive(Some(seconds(25)));
    pair.send(0);
    pair.exchange();
    pair.run(seconds(1000));
    let times: Vec<_> = pair.sent[0].iter().map(|(at, _)| at.since(NOW).as_secs_f64()).collect();
    // 25 s after a packet in either direction; the other end's only ones are passive keepalives, 10 s after data (6.5).
    assert!(times.windows(2).skip(2).all(|pair| pair[1] - pair[0] <= 25.01), "{times:?}");
    assert!((34.9..35.1).contains(&times[2]), "{times:?}");
    assert!(times.last().unwrap() > &970.0);
    // The other end vanishes and comes back.
    pair.lost[1] = true;
    pair.run(seconds(1000));
    pair.lost[1] = false;
    pair.run(seconds(60));
    pair.forget();
    pair.send(1);
    assert_eq!(pair.arrived[0], 1);
}

#[test]
fn indices_tell_nothing_about_the_peer() {
    let mut pair = Pair::connected();
    for _ in 0..5 {
        pair.run(seconds(130));
        pair.send(0);
        pair.exchange();
    }
    let initiations = pair.sent[0].iter().filter(|(_, datagram)| datagram[0] == 1);
    let indices: Vec<_> = initiations.map(|(_, datagram)| word(datagram, 4)).collect();
    assert!(indices.len() >= 5);
    // Random numbers of 32 bits: close ones would be a coincidence of one in a hundred million.
    assert!(indices.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 16), "{indices:?}");
}
