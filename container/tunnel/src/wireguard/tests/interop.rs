//! Ours against boringtun under virtual time, over a link that delays, loses, repeats and reorders.

use std::collections::VecDeque;

use mock_instant::MockClock;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

const STEP: Duration = Duration::from_millis(10);

/// Two ends and what is under way between them.
struct World {
    endpoint: Endpoint,
    id: PeerId,
    raw: Raw,
    now: Time,
    rng: StdRng,
    /// Lost datagrams of a hundred, each way; as many are repeated.
    loss: u32,
    to_endpoint: VecDeque<(Time, Vec<u8>)>,
    to_raw: VecDeque<(Time, Vec<u8>)>,
    /// Packets that arrived.
    at_endpoint: Vec<Vec<u8>>,
    at_raw: Vec<Vec<u8>>,
    /// First bytes of all messages that were sent, by whom.
    types: Vec<(Side, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Theirs,
}

impl World {
    fn new(loss: u32, seed: u64) -> Self {
        MockClock::set_time(Duration::from_secs(1));
        let (key, mut endpoint) = gateway();
        let (raw, config) = Raw::new(2, &key);
        let id = endpoint.add(PeerConfig { endpoint: Some(raw.address), ..config }).unwrap();
        Self {
            endpoint,
            id,
            raw,
            now: NOW,
            rng: StdRng::seed_from_u64(seed),
            loss,
            to_endpoint: VecDeque::new(),
            to_raw: VecDeque::new(),
            at_endpoint: Vec::new(),
            at_raw: Vec::new(),
            types: Vec::new(),
        }
    }

    fn post(&mut self, from: Side, datagram: Vec<u8>) {
        self.types.push((from, datagram[0]));
        let copies = [self.rng.random_range(0..100) >= self.loss, self.rng.random_range(0..100) < self.loss];
        for _ in copies.into_iter().filter(|copy| *copy) {
            let at = self.now + Duration::from_millis(20 + self.rng.random_range(0..30));
            let queue = if from == Side::Ours { &mut self.to_raw } else { &mut self.to_endpoint };
            let place = queue.partition_point(|(other, _)| *other <= at);
            queue.insert(place, (at, datagram.clone()));
        }
    }

    fn send(&mut self, from: Side, packet: &[u8]) {
        match from {
            Side::Ours => {
                if let Some(datagram) = seal(&mut self.endpoint, self.id, packet, self.now) {
                    self.post(Side::Ours, datagram);
                }
            }
            Side::Theirs => {
                let mut out = [0; 2048];
                if let TunnResult::WriteToNetwork(datagram) = self.raw.tunn.encapsulate(packet, &mut out) {
                    let datagram = datagram.to_vec();
                    self.post(Side::Theirs, datagram);
                }
            }
        }
    }

    fn packet(&self, from: Side, number: u32) -> Vec<u8> {
        let far = IpAddr::from([198, 51, 100, 1]);
        let (source, to) = if from == Side::Ours { (far, self.raw.inner) } else { (self.raw.inner, far) };
        let mut out = [0; 1400];
        let data = vec![number as u8; (number * 37 % 1300) as usize];
        let length = udp::write(&mut out, (source, 9).into(), (to, 9).into(), &data).unwrap();
        out[4..6].copy_from_slice(&(number as u16).to_be_bytes());
        out[..length].to_vec()
    }

    fn step(&mut self) {
        self.now += STEP;
        MockClock::advance(STEP);
        if self.now.as_micros().is_multiple_of(250_000) {
            let mut out = [0; 2048];
            if let TunnResult::WriteToNetwork(datagram) = self.raw.tunn.update_timers(&mut out) {
                let datagram = datagram.to_vec();
                self.post(Side::Theirs, datagram);
            }
        }
        self.endpoint.expire(self.now);
        while let Some((_, datagram)) = self.to_raw.pop_front_if(|(at, _)| *at <= self.now) {
            self.deliver_to_raw(&datagram);
        }
        while let Some((_, datagram)) = self.to_endpoint.pop_front_if(|(at, _)| *at <= self.now) {
            let received = received(&mut self.endpoint, self.raw.address, &datagram, self.now);
            self.at_endpoint.extend(received.map(|(_, packet)| packet));
        }
        for datagram in outgoing(&mut self.endpoint) {
            self.post(Side::Ours, datagram);
        }
    }

    fn deliver_to_raw(&mut self, datagram: &[u8]) {
        let mut out = [0; 2048];
        let mut input = datagram;
        loop {
            match self.raw.tunn.decapsulate(None, input, &mut out) {
                TunnResult::WriteToNetwork(answer) => {
                    let answer = answer.to_vec();
                    self.post(Side::Theirs, answer);
                    // boringtun hands out what it kept one by one.
                    input = &[];
                }
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    self.at_raw.push(packet.to_vec());
                    return;
                }
                TunnResult::Done | TunnResult::Err(_) => return,
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn count(&self, side: Side, kind: u8) -> usize {
        self.types.iter().filter(|entry| **entry == (side, kind)).count()
    }
}

#[test]
fn either_side_can_begin_and_packets_arrive_whole_both_ways() {
    for first in [Side::Ours, Side::Theirs] {
        let mut world = World::new(0, 1);
        let second = if first == Side::Ours { Side::Theirs } else { Side::Ours };
        let mut sent = [Vec::new(), Vec::new()];
        for number in 0..100 {
            for (side, sent) in [first, second].into_iter().zip(&mut sent) {
                let packet = world.packet(side, number);
                world.send(side, &packet);
                sent.push(packet);
            }
            world.run(Duration::from_millis(100));
        }
        for (side, sent) in [first, second].into_iter().zip(sent) {
            let mut arrived =
                if side == Side::Ours { world.at_raw.clone() } else { world.at_endpoint.clone() };
            // What was kept for the handshake and what was sent during it can change places on the way.
            arrived.sort();
            let mut sent = sent;
            sent.sort();
            assert_eq!(arrived.len(), sent.len(), "{side:?} of {first:?}");
            assert!(arrived == sent);
        }
    }
}

#[test]
fn sessions_are_renewed_for_ten_minutes_without_a_gap_whoever_made_the_first() {
    for first in [Side::Ours, Side::Theirs] {
        let mut world = World::new(0, 2);
        let packet = world.packet(first, 1);
        world.send(first, &packet);
        world.run(Duration::from_secs(1));
        for _ in 0..600 {
            for side in [Side::Ours, Side::Theirs] {
                let packet = world.packet(side, 5);
                world.send(side, &packet);
            }
            world.run(Duration::from_secs(1));
        }
        let (one, other) = (world.at_raw.len(), world.at_endpoint.len());
        let extra = usize::from(first == Side::Ours);
        assert_eq!((one, other), (600 + extra, 601 - extra), "{first:?}");
        // Every two minutes, by the side that made the session before.
        let initiations = [world.count(Side::Ours, 1), world.count(Side::Theirs, 1)];
        let expected = if first == Side::Ours { [5, 0] } else { [0, 5] };
        assert!(
            initiations.iter().zip(expected).all(|(made, expected)| made.abs_diff(expected) <= 1),
            "{initiations:?}"
        );
    }
}

#[test]
fn a_path_that_loses_a_fifth_delays_sessions_and_never_ends_them() {
    for seed in 0..20 {
        let mut world = World::new(20, seed);
        for second in 0..400 {
            let side = if second % 2 == 0 { Side::Ours } else { Side::Theirs };
            let packet = world.packet(side, second);
            world.send(side, &packet);
            world.run(Duration::from_secs(1));
        }
        // 200 were sent each way; whatever is kept during a handshake is lost with it.
        assert!(world.at_raw.len() > 110, "seed {seed}: {}", world.at_raw.len());
        assert!(world.at_endpoint.len() > 110, "seed {seed}: {}", world.at_endpoint.len());
        // A repeated datagram is delivered once.
        for arrived in [&world.at_raw, &world.at_endpoint] {
            let distinct: std::collections::BTreeSet<_> = arrived.iter().collect();
            assert_eq!(distinct.len(), arrived.len(), "seed {seed}");
        }
    }
}

#[test]
fn a_cookie_of_boringtun_is_answered_with_the_next_initiation() {
    let mut world = World::new(0, 3);
    // Its limiter counts every handshake message of the second.
    let key = PrivateKey::from_random([2; 32]);
    let public = x25519::PublicKey::from(*key.public().as_bytes());
    let limiter = std::sync::Arc::new(boringtun::noise::rate_limiter::RateLimiter::new(&public, 1));
    world.raw.tunn = Tunn::new(
        x25519::StaticSecret::from(*key.reveal_bytes()),
        x25519::PublicKey::from(*gateway().0.public().as_bytes()),
        None,
        None,
        2,
        Some(std::sync::Arc::clone(&limiter)),
    );
    let exchange = |world: &mut World| {
        let now = world.now;
        world.endpoint.initiate(world.id, now);
        let [initiation] = outgoing(&mut world.endpoint).try_into().unwrap();
        let mut out = [0; 2048];
        let from = Some(IpAddr::from([198, 51, 100, 7]));
        match world.raw.tunn.decapsulate(from, &initiation, &mut out) {
            TunnResult::WriteToNetwork(answer) => answer.to_vec(),
            other => panic!("{other:?}"),
        }
    };
    let first = exchange(&mut world);
    assert_eq!(first[0], 2);
    let second = exchange(&mut world);
    assert_eq!(second[0], 3, "it is under load");
    assert_eq!(received(&mut world.endpoint, world.raw.address, &second, world.now), None);
    assert_eq!(world.endpoint.counters().refused, 0);
    assert_eq!(exchange(&mut world)[0], 2, "the cookie was in it");
}

#[test]
fn persistent_keepalives_are_sent_at_their_interval_and_are_understood() {
    let mut world = World::new(0, 4);
    let key = world.endpoint.peer(world.id).unwrap().key;
    world.endpoint.remove(world.id);
    let config = PeerConfig {
        key,
        addresses: Addresses::Hosts(vec![world.raw.inner]),
        endpoint: Some(world.raw.address),
        keepalive: Some(Duration::from_secs(25)),
    };
    world.id = world.endpoint.add(config).unwrap();
    let packet = world.packet(Side::Ours, 1);
    world.send(Side::Ours, &packet);
    world.run(Duration::from_secs(1));
    let before = world.count(Side::Ours, 4);
    world.run(Duration::from_secs(100));
    let sent = world.count(Side::Ours, 4) - before;
    assert!((3..=5).contains(&sent), "{sent}");
}
