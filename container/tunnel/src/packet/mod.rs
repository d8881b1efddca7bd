//! What travels inside the tunnel: IP, UDP and ICMP, read without copying and written into the caller's buffer.
//!
//! Checksums of arriving packets are not verified: the packet came out of an AEAD that authenticated every byte as the
//! peer's, so a wrong sum could only be the peer's own mistake. Checksums of packets made here are always right.

pub mod checksum;
pub mod fragment;
pub mod icmp;
mod ip;
pub mod udp;

pub use ip::{
    Fragment, HEADER_V4, HEADER_V6, Header, Malformed, Packet, header_length, is_data, protocol, take_hop,
};
