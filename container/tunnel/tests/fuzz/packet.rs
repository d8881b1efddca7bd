//! What users send: IP packets and what is in them.

use std::net::IpAddr;
use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::packet::fragment::{Fragments, Reassembly};
use ebb_tunnel::packet::{Header, Malformed, Packet, header_length, icmp, is_data, protocol, udp};
use ebb_tunnel::tcp::{Segment, SynInfo};

/// A packet as it should be.
pub fn whole(v6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (IpAddr, IpAddr) = if v6 {
        ("fd65::2".parse().unwrap(), "2001:db8::1".parse().unwrap())
    } else {
        ([10, 8, 0, 2].into(), [198, 51, 100, 1].into())
    };
    let start = header_length(source);
    let mut bytes = vec![0; start + payload.len()];
    Header::new(source, destination, protocol).write(&mut bytes, payload.len()).unwrap();
    bytes[start..].copy_from_slice(payload);
    bytes
}

/// Parses a packet and everything that can be in it, and checks what must hold whatever it is: no part lies outside, errors
/// about it fit and say what they should, and cutting it into fragments loses nothing.
pub fn fuzz_packet(bytes: &[u8]) {
    let _ = is_data(bytes);
    if let Ok(quoted) = Packet::parse_quoted(bytes) {
        assert!(quoted.payload.len() <= bytes.len());
    }
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert!(packet.bytes.len() <= bytes.len());
    assert!(packet.payload.len() + packet.headers().len() <= packet.bytes.len());
    assert_eq!(packet.source.is_ipv4(), packet.destination.is_ipv4());
    match packet.protocol {
        protocol::UDP => {
            if let Some(datagram) = udp::Datagram::parse(packet.payload) {
                assert!(datagram.data.len() + udp::HEADER <= packet.payload.len());
            }
        }
        protocol::TCP => {
            if let Some(segment) = Segment::parse(packet.payload) {
                assert!(segment.payload.len() <= packet.payload.len());
                let _ = SynInfo::of(&segment);
            }
        }
        _ => {
            if let Some((_, quoted)) = icmp::parse_error(&packet) {
                assert!(quoted.bytes.len() <= packet.payload.len());
            }
            if let Some(echo) = icmp::Echo::parse(packet.source, packet.payload) {
                let mut reply = vec![0; packet.bytes.len() + 64];
                let length = echo.write_packet(&mut reply, packet.destination, packet.source).unwrap();
                Packet::parse(&reply[..length]).unwrap();
            }
        }
    }
    report(&packet);
    reassemble(&packet);
}

fn report(packet: &Packet<'_>) {
    let from: IpAddr =
        if packet.source.is_ipv4() { [10, 8, 0, 1].into() } else { "fd65::1".parse().unwrap() };
    let mut out = [0; 1280];
    for error in [icmp::Error::Port, icmp::Error::Host, icmp::Error::Prohibited] {
        let Some(length) = icmp::write_error(&mut out, error, from, packet) else { continue };
        let message = Packet::parse(&out[..length]).unwrap();
        assert_eq!((message.source, message.destination), (from, packet.source));
    }
}

fn reassemble(packet: &Packet<'_>) {
    let mut reassembly = Reassembly::default();
    if packet.fragment.is_some() {
        // One part of something. It is kept for a while and no longer.
        let whole = reassembly.add((), packet, Time::ZERO);
        if let Some(whole) = whole {
            assert!(whole.len() <= 65_535);
        }
        let end = Time::ZERO + Duration::from_secs(60);
        while reassembly.expire(end).is_some() {}
        assert_eq!(reassembly.deadline(), None);
        return;
    }
    let mut fragments = Fragments::new(packet.bytes, 600, 7);
    let mut out = [0; 600];
    let mut joined = None;
    while let Some(length) = fragments.next(&mut out) {
        let fragment = match Packet::parse(&out[..length]) {
            // A fragment has one more than the packet, which may have had the most.
            Err(Malformed::ExtensionHeaders) => return,
            fragment => fragment.unwrap(),
        };
        joined = match fragment.fragment {
            Some(_) => reassembly.add((), &fragment, Time::ZERO),
            None => Some(fragment.bytes.to_vec()),
        };
    }
    if let Some(joined) = joined {
        let joined = Packet::parse(&joined).unwrap();
        assert_eq!((joined.protocol, joined.payload), (packet.protocol, packet.payload));
    }
}
