//! Two ends of a tunnel and a network that a script controls: it delivers, loses, repeats, reorders and damages messages,
//! adds its own, and lets time pass.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::packet::udp;
use ebb_tunnel::wireguard::{Addresses, Endpoint, PeerConfig, PeerId, Received, Sealed, Start};
use ebb_wire::PrivateKey;

/// Longest script that is run to its end.
const STEPS: usize = 400;
/// Messages under way; the oldest are lost.
const UNDER_WAY: usize = 32;

struct Ends {
    ends: [(Endpoint, PeerId); 2],
    now: Time,
    /// Messages, by whom they were sent.
    under_way: Vec<(usize, Vec<u8>)>,
    /// Numbers of packets that were sealed by each end, and that arrived there.
    sent: u32,
    arrived: [BTreeSet<u32>; 2],
}

fn outer(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, end as u8], 51820))
}

fn inner(end: usize) -> IpAddr {
    [10, 8, 0, end as u8].into()
}

impl Ends {
    fn new() -> Self {
        let keys = [1, 2].map(|number| PrivateKey::from_random([number; 32]));
        let now = Time::from_millis(1);
        let ends = [0, 1].map(|end: usize| {
            let peer = PeerConfig {
                key: keys[1 - end].public(),
                addresses: Addresses::Hosts(vec![inner(1 - end)]),
                endpoint: Some(outer(1 - end)),
                keepalive: None,
            };
            let start = Start { now, unix: Duration::from_secs(1_700_000_000), seed: [end as u8; 32] };
            Endpoint::with_peer(&keys[end], 1420, peer, start)
        });
        Self { ends, now, under_way: Vec::new(), sent: 0, arrived: Default::default() }
    }

    fn seal(&mut self, end: usize) {
        self.sent += 1;
        // Its parity tells who sent it.
        let number = self.sent * 2 + end as u32;
        let mut out = vec![0; 2048];
        let (endpoint, id) = &mut self.ends[end];
        let sealed = endpoint.seal(*id, &mut out, self.now, |room| {
            udp::write(room, (inner(end), 1).into(), (inner(1 - end), 1).into(), &number.to_be_bytes())
        });
        if let Sealed::Datagram(length, _) = sealed {
            out.truncate(length);
            self.under_way.push((end, out));
        }
    }

    fn receive(&mut self, end: usize, mut message: Vec<u8>, from: u8, damaged: bool) {
        let before = self.ends[end].0.statistics(self.ends[end].1).unwrap().endpoint;
        let elsewhere = SocketAddr::from(([203, 0, 113, from], 1));
        let from = if from.is_multiple_of(4) { elsewhere } else { outer(1 - end) };
        let (endpoint, id) = &mut self.ends[end];
        let received = endpoint.receive(&mut message, from.into(), self.now);
        if let Received::Packet { packet, .. } = received {
            assert!(!damaged, "a damaged message is not authentic");
            let datagram = udp::Datagram::parse(packet.payload).unwrap();
            let number = u32::from_be_bytes(datagram.data.try_into().unwrap());
            assert_eq!(number % 2, 1 - end as u32, "a packet came back to who sent it");
            assert!(self.arrived[end].insert(number), "packet {number} arrived twice");
        } else if damaged {
            let after = endpoint.statistics(*id).unwrap().endpoint;
            assert_eq!(before, after, "a damaged message has moved the peer");
        }
    }

    fn collect(&mut self) {
        for end in 0..2 {
            let mut out = [0; 2048];
            while let Some((length, _)) = self.ends[end].0.transmit(&mut out) {
                self.under_way.push((end, out[..length].to_vec()));
            }
        }
        let surplus = self.under_way.len().saturating_sub(UNDER_WAY);
        self.under_way.drain(..surplus);
    }

    fn step(&mut self, [what, which, detail, value]: [u8; 4]) {
        let index = usize::from(which) % self.under_way.len().max(1);
        let end = usize::from(which & 1);
        match what % 10 {
            0 => self.seal(end),
            1 | 2 if !self.under_way.is_empty() => {
                let (from, message) = self.under_way.remove(index);
                self.receive(1 - from, message, detail, false);
            }
            // Repeated: it stays under way.
            3 if !self.under_way.is_empty() => {
                let (from, message) = self.under_way[index].clone();
                self.receive(1 - from, message, detail, false);
            }
            4 if !self.under_way.is_empty() => _ = self.under_way.remove(index),
            5 if !self.under_way.is_empty() => {
                let (from, mut message) = self.under_way[index].clone();
                // The second MAC of a handshake message counts only under load (paper, section 5.3).
                let unread = if message[0] < 3 { 16 } else { 0 };
                let at = usize::from(detail) * 7 % (message.len() - unread);
                message[at] ^= value.max(1);
                self.receive(1 - from, message, detail, true);
            }
            // Back to who sent it.
            6 if !self.under_way.is_empty() => {
                let (from, message) = self.under_way[index].clone();
                self.receive(from, message, detail, true);
            }
            7 => {
                let mut message = vec![value; [0, 3, 32, 64, 92, 148, 200][usize::from(detail) % 7]];
                if let Some(kind) = message.first_chunk_mut() {
                    *kind = [detail % 6, 0, 0, 0];
                }
                self.receive(end, message, detail, true);
            }
            8 => {
                let (endpoint, id) = &mut self.ends[end];
                endpoint.initiate(*id, self.now);
            }
            // From nothing to a minute and a half, shorter times more often.
            9 => {
                let time = u64::from(detail) * u64::from(value) * u64::from(value) / 180;
                self.now += Duration::from_millis(time);
            }
            _ => {}
        }
        for (endpoint, _) in &mut self.ends {
            endpoint.expire(self.now);
            assert!(endpoint.deadline().is_none_or(|at| at + Duration::from_millis(1) > self.now));
        }
        self.collect();
    }
}

/// Runs a script of four bytes a step and checks that packets arrive unchanged, at most once and only from whom they claim to
/// be; that nothing damaged has an effect; and that after all of it two ends that are left alone understand each other.
pub fn fuzz_wireguard(script: &[u8]) {
    let mut ends = Ends::new();
    for step in script.as_chunks().0.iter().take(STEPS) {
        ends.step(*step);
    }
    // Long enough for old handshakes to be given up.
    for _ in 0..4 {
        ends.now += Duration::from_secs(100);
        ends.step([4, 0, 0, 0]);
    }
    ends.under_way.clear();
    for end in 0..2 {
        let (endpoint, id) = &mut ends.ends[end];
        // Both may have followed the other to where the script said it was.
        endpoint.set_endpoint(*id, outer(1 - end));
    }
    let before = ends.arrived[1].len();
    ends.seal(0);
    ends.collect();
    while let Some((from, message)) = ends.under_way.pop() {
        ends.receive(1 - from, message, 1, false);
        ends.collect();
    }
    assert_eq!(ends.arrived[1].len(), before + 1, "the ends do not find together");
}
