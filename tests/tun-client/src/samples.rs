//! Packets for tests.

use ebb_tunnel::packet::checksum::Sum;
use ebb_tunnel::packet::{Header, header_length, protocol};
use std::net::IpAddr;

use crate::offload::{set_length, tcp};

/// A packet of one TCP segment, identification 0, with all sums right.
pub fn packet(v6: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let address = |last: u8| -> IpAddr {
        if v6 {
            [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last].into()
        } else {
            [10, 0, 0, last].into()
        }
    };
    let (source, destination) = (address(1), address(2));
    let ip = header_length(source);
    let length = tcp::HEADER + payload.len();
    let mut packet = vec![0; ip + length];
    Header::new(source, destination, protocol::TCP).write(&mut packet, length).unwrap();
    if !v6 {
        packet[4..6].fill(0);
        set_length(&mut packet, ip, ip + length);
    }
    let segment = &mut packet[ip..];
    segment[..4].copy_from_slice(&[0x1f, 0x90, 0xc0, 0x01]);
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[8..16].copy_from_slice(&[1, 2, 3, 4, 0x50, flags, 0x20, 0x00]);
    segment[20..].copy_from_slice(payload);
    let sum = Sum::default().pseudo_header(source, destination, protocol::TCP, length).with(segment);
    segment[16..18].copy_from_slice(&sum.finish());
    packet
}
