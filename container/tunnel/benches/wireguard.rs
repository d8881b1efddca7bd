//! Time per packet of 1420 bytes, ours against boringtun's: `cargo bench -p ebb-tunnel --bench wireguard`.
//!
//! Both seal and open the same packets in turns, and the best round of each counts, so that what else the machine does
//! touches both alike. Ours builds the packet where it is encrypted, and checks and counts what it opens, as in the gateway.

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has nothing to report")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use ebb_tunnel::Time;
use ebb_tunnel::packet::udp;
use ebb_tunnel::wireguard::{
    Addresses, Endpoint, OVERHEAD, Path, PeerConfig, PeerId, Received, Sealed, Start,
};
use ebb_wire::PrivateKey;

const PACKET: usize = 1420;
const MESSAGE: usize = PACKET + OVERHEAD;
/// Packets of one round: fewer than boringtun's replay window, and as many as one receive call brings.
const BATCH: usize = 512;
const ROUNDS: usize = 400;
const NOW: Time = Time::from_millis(1);

fn keys() -> [PrivateKey; 2] {
    [1, 2].map(|number| PrivateKey::from_random([number; 32]))
}

fn address(end: usize) -> IpAddr {
    [10, 8, 0, end as u8].into()
}

fn path(end: usize) -> Path {
    SocketAddr::from(([192, 0, 2, end as u8], 51820)).into()
}

fn packet(from: usize) -> Vec<u8> {
    let mut packet = vec![0; PACKET];
    let data = vec![7; PACKET - 28];
    udp::write(&mut packet, (address(from), 9).into(), (address(1 - from), 9).into(), &data).unwrap();
    packet
}

fn ours() -> [(Endpoint, PeerId); 2] {
    let mut ends = [0, 1].map(|end: usize| {
        let peer = PeerConfig {
            key: keys()[1 - end].public(),
            addresses: Addresses::Hosts(vec![address(1 - end)]),
            endpoint: Some(path(1 - end).remote),
            keepalive: None,
        };
        let start = Start { now: NOW, unix: Duration::from_secs(1_700_000_000), seed: [end as u8; 32] };
        Endpoint::with_peer(&keys()[end], PACKET as u16, peer, start)
    });
    let id = ends[0].1;
    ends[0].0.initiate(id, NOW);
    for from in [0, 1, 0] {
        let mut message = [0; 256];
        let (length, _) = ends[from].0.transmit(&mut message).unwrap();
        ends[1 - from].0.receive(&mut message[..length], path(from), NOW);
    }
    ends
}

fn theirs() -> [Tunn; 2] {
    let mut ends = [0, 1].map(|end: usize| {
        let secret = x25519::StaticSecret::from(*keys()[end].reveal_bytes());
        let public = x25519::PublicKey::from(*keys()[1 - end].public().as_bytes());
        Tunn::new(secret, public, None, None, end as u32, None)
    });
    let mut message = vec![0; 2048];
    let mut length = match ends[0].format_handshake_initiation(&mut message, false) {
        TunnResult::WriteToNetwork(message) => message.len(),
        other => panic!("{other:?}"),
    };
    for to in [1, 0, 1] {
        let datagram = message[..length].to_vec();
        length = match ends[to].decapsulate(None, &datagram, &mut message) {
            TunnResult::WriteToNetwork(message) => message.len(),
            TunnResult::Done => 0,
            other => panic!("{other:?}"),
        };
    }
    ends
}

/// Nanoseconds per packet.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / BATCH as f64
}

fn main() {
    let [(mut sender, to), (mut receiver, _)] = ours();
    let [mut their_sender, mut their_receiver] = theirs();
    let inner = packet(0);
    let mut batch = vec![0; BATCH * MESSAGE];
    let mut plain = vec![0; MESSAGE];
    // Seal and open, ours and theirs.
    let mut best = [[f64::MAX; 2]; 2];
    for _ in 0..ROUNDS {
        let sealing = time(|| {
            for slot in batch.chunks_exact_mut(MESSAGE) {
                let sealed = sender.seal(to, slot, NOW, |room| {
                    room[..PACKET].copy_from_slice(&inner);
                    Some(PACKET)
                });
                assert!(matches!(sealed, Sealed::Datagram(MESSAGE, _)));
            }
        });
        let opening = time(|| {
            for slot in batch.chunks_exact_mut(MESSAGE) {
                let received = receiver.receive(slot, path(0), NOW);
                assert!(matches!(black_box(received), Received::Packet { .. }));
            }
        });
        let their_sealing = time(|| {
            for slot in batch.chunks_exact_mut(MESSAGE) {
                // Built in one buffer, encrypted into another: what its interface asks for.
                plain[..PACKET].copy_from_slice(&inner);
                let sealed = their_sender.encapsulate(&plain[..PACKET], slot);
                assert!(matches!(sealed, TunnResult::WriteToNetwork(_)));
            }
        });
        let their_opening = time(|| {
            for slot in batch.chunks_exact_mut(MESSAGE) {
                let opened = their_receiver.decapsulate(None, slot, &mut plain);
                assert!(matches!(black_box(opened), TunnResult::WriteToTunnelV4(..)));
            }
        });
        best[0] = [best[0][0].min(sealing), best[0][1].min(their_sealing)];
        best[1] = [best[1][0].min(opening), best[1][1].min(their_opening)];
    }
    for (what, [ours, theirs]) in ["seal", "open"].into_iter().zip(best) {
        println!(
            "{what} {PACKET} bytes: ours {ours:.0} ns, boringtun {theirs:.0} ns, ratio {:.3}",
            ours / theirs
        );
    }
}
