//! Initial sequence numbers (RFC 6528).

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

use crate::Time;

/// The initial sequence number for a connection: a clock of 4 microseconds plus a keyed hash of the addresses (RFC 6528
/// section 3), so that nobody off the path can guess it and a reused pair of ports starts above its last life.
///
/// `secret` is drawn once per process.
#[must_use]
pub fn initial_sequence(secret: &[u8; 32], local: SocketAddr, remote: SocketAddr, now: Time) -> u32 {
    let mut hash = Sha256::new();
    hash.update(secret);
    for end in [local, remote] {
        // Both families in 16 octets, so that two different pairs cannot hash the same bytes.
        let address = match end.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        hash.update(address.octets());
        hash.update(end.port().to_be_bytes());
    }
    let digest = hash.finalize();
    let offset = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    offset.wrapping_add((now.as_micros() / 4) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_moves_with_time_and_differs_by_port_and_secret() {
        let local = SocketAddr::from(([10, 0, 0, 1], 80));
        let remote = SocketAddr::from(([10, 77, 0, 2], 40000));
        let other = SocketAddr::from(([10, 77, 0, 2], 40001));
        let first = initial_sequence(&[1; 32], local, remote, Time::ZERO);
        assert_eq!(
            initial_sequence(&[1; 32], local, remote, Time::from_micros(400)),
            first.wrapping_add(100)
        );
        assert_ne!(initial_sequence(&[1; 32], local, other, Time::ZERO), first);
        assert_ne!(initial_sequence(&[2; 32], local, remote, Time::ZERO), first);
    }
}
