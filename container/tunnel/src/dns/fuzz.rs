//! A resolver that does what bytes say.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ebb_wire::Dns;

use super::{Attempt, Client, Config, Resolver, Settings, Transport, Upstream};
use crate::Time;

/// Longest script that is run to its end; what is behind it is left out.
const STEPS: usize = 256;

/// Runs a script of queries, replies, failures and time: the entry for fuzzers. Every script is valid; the first byte of a
/// step chooses what happens, the others say what with.
///
/// # Panics
/// When the resolver breaks a promise: an answer that nobody asked for, more answers than queries, more outstanding than
/// allowed, a socket asked for twice or forgotten twice, a query still waiting after its deadline.
pub fn fuzz(script: &[u8]) {
    let settings =
        Settings { outstanding: 16, outstanding_per_client: 6, cache_entries: 8, ..Settings::default() };
    let deadline = settings.deadline;
    let mut run = Run {
        resolver: Resolver::new(settings, [0; 32], Box::new(|address| address.is_ipv4())),
        script,
        now: Time::ZERO,
        asked: BTreeMap::new(),
        ids: BTreeMap::new(),
    };
    run.configure(0);
    for _ in 0..STEPS {
        let Some(step) = run.byte() else { break };
        run.step(step);
        run.drain();
    }
    run.now += deadline;
    run.resolver.expire(run.now);
    run.drain();
    assert_eq!(run.resolver.outstanding(), 0, "a query outlives its deadline");
    assert!(run.asked.is_empty(), "a socket is never forgotten");
    assert_eq!(run.resolver.deadline(), None);
}

struct Run<'a> {
    resolver: Resolver,
    script: &'a [u8],
    now: Time,
    /// Attempts with their query.
    asked: BTreeMap<Attempt, (SocketAddr, Vec<u8>)>,
    /// IDs that clients used, and how often.
    ids: BTreeMap<(Client, [u8; 2]), usize>,
}

impl Run<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.script.split_first()?;
        self.script = rest;
        Some(first)
    }

    fn small(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.small()).min(self.script.len());
        let (taken, rest) = self.script.split_at(length);
        self.script = rest;
        taken.to_vec()
    }

    fn step(&mut self, step: u8) {
        match step % 8 {
            0 => {
                let message = self.bytes();
                self.query(step, &message);
            }
            1 => {
                let tail = self.bytes();
                let header = [
                    self.small(),
                    self.small(),
                    step & 1,
                    self.small(),
                    0,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    self.small() & 1,
                ];
                self.query(step, &[&header, tail.as_slice()].concat());
            }
            2 => {
                // A name of one letter under one of four zones.
                let letter = self.small();
                let zone: &[u8] = [b"\0".as_slice(), b"\x03ebb\x08internal\0", b"\x05local\0", b"\x03com\0"]
                    [usize::from(letter % 4)];
                let header = [0, self.small(), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
                let message = [&header, &[1, letter][..], zone, &[0, self.small(), 0, 1]].concat();
                self.query(step, &message);
            }
            3 => {
                let message = self.bytes();
                if let Some((attempt, to, _)) = self.pick() {
                    self.resolver.upstream_reply(attempt, to, &message, self.now);
                }
            }
            4 => {
                // A reply that gets through all checks up to its records.
                let counts = [self.small() % 4, self.small() % 4, self.small() % 4];
                let flags = [self.small(), self.small()];
                let records = self.bytes();
                if let Some((attempt, to, mut message)) = self.pick() {
                    message.truncate(message.len() - if message[11] == 1 { 11 } else { 0 });
                    message[2] = 0x80 | (flags[0] & 0x07);
                    message[3] = flags[1];
                    [message[7], message[9], message[11]] = counts;
                    message.extend_from_slice(&records);
                    self.resolver.upstream_reply(attempt, to, &message, self.now);
                }
            }
            5 => {
                if let Some((attempt, ..)) = self.pick() {
                    self.resolver.upstream_failed(attempt, self.now);
                }
            }
            6 => {
                let wait = Duration::from_millis(u64::from(self.small()) * 8);
                self.now += wait;
                self.resolver.expire(self.now);
            }
            _ => {
                let what = self.small();
                if what < 200 {
                    self.configure(what);
                } else {
                    let peer = u64::from(what % 4);
                    self.resolver.forget_peer(peer);
                }
            }
        }
    }

    fn query(&mut self, step: u8, message: &[u8]) {
        let transport = if step & 0x80 == 0 { Transport::Udp } else { Transport::Tcp };
        let source = SocketAddr::new(Ipv4Addr::new(10, 8, 0, 2).into(), 4000);
        let client = Client { peer: u64::from(step >> 4 & 3), flow: 0, source, transport };
        if let Some(&id) = message.first_chunk() {
            *self.ids.entry((client, id)).or_default() += 1;
        }
        self.resolver.query(client, message, self.now);
    }

    fn pick(&mut self) -> Option<(Attempt, SocketAddr, Vec<u8>)> {
        let place = usize::from(self.small()) % self.asked.len().max(1);
        let (&attempt, (to, message)) = self.asked.iter().nth(place)?;
        Some((attempt, *to, message.clone()))
    }

    fn configure(&mut self, what: u8) {
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let upstream = [IpAddr::from([1, 1, 1, 1]), address(53), IpAddr::from([8, 8, 8, 8])];
        let dns = Dns {
            names: BTreeMap::from([(char::from(b'a' + what % 26).to_string(), vec![address(what)])]),
            upstream: upstream[..usize::from(what % 4)].to_vec(),
        };
        let config = Config {
            session: "s",
            dns: &dns,
            peers: &[],
            gateway: &[],
            networks: &[],
            fallback: &upstream[..usize::from(what & 1)],
        };
        assert!(self.resolver.configure(&config).is_ok());
    }

    fn drain(&mut self) {
        while let Some((client, answer)) = self.resolver.poll_answer() {
            let id = *answer.first_chunk().unwrap_or(&[0; 2]);
            let count = self.ids.get_mut(&(client, id));
            assert!(
                count.is_some_and(|count| std::mem::replace(count, count.saturating_sub(1)) > 0),
                "no query"
            );
            assert!(answer.len() >= 12 && answer[2] & 0x80 != 0, "no answer");
            assert!(client.transport == Transport::Tcp || answer.len() <= 1232, "too long for UDP");
        }
        while let Some(command) = self.resolver.poll_upstream() {
            match command {
                Upstream::Ask { attempt, to, message, .. } => {
                    assert!(self.asked.insert(attempt, (to, message)).is_none(), "an attempt twice");
                }
                Upstream::Forget { attempt } => {
                    assert!(self.asked.remove(&attempt).is_some(), "an attempt forgotten twice");
                }
            }
        }
        assert!(self.resolver.outstanding() <= 16 && self.asked.len() <= 32, "too many");
    }
}
