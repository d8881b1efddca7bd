//! UDP (RFC 768).

use std::net::SocketAddr;

use super::checksum::Sum;
use super::ip::{Header, header_length, protocol};

/// Bytes in a UDP header.
pub const HEADER: usize = 8;

/// A datagram, borrowed from the packet it arrived in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// The data.
    pub data: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads the payload of an IP packet. `None` when the header is cut short or names an impossible length.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (header, _) = payload.split_first_chunk::<HEADER>()?;
        let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let data = payload.get(HEADER..usize::from(half(4)))?;
        Some(Self { source_port: half(0), destination_port: half(2), data })
    }
}

/// Bytes that a whole packet with `data` bytes of data takes.
#[must_use]
pub fn packet_length(to: SocketAddr, data: usize) -> usize {
    header_length(to.ip()) + HEADER + data
}

/// Writes a whole packet, IP header included, and returns its length.
///
/// `None` when `out` is too short, the data too long for UDP, or the addresses are of two families.
#[must_use]
pub fn write(out: &mut [u8], from: SocketAddr, to: SocketAddr, data: &[u8]) -> Option<usize> {
    let start = header_length(to.ip());
    out.get_mut(start + HEADER..start + HEADER + data.len())?.copy_from_slice(data);
    write_header(out, from, to, data.len())
}

/// The same for data that is already in its place, [`packet_length`] less its own length into `out`.
#[must_use]
pub fn write_header(out: &mut [u8], from: SocketAddr, to: SocketAddr, data: usize) -> Option<usize> {
    let length = HEADER + data;
    let header = Header::new(from.ip(), to.ip(), protocol::UDP);
    let start = header.write(out, length)?;
    let datagram = out.get_mut(start..start + length)?;
    datagram[0..2].copy_from_slice(&from.port().to_be_bytes());
    datagram[2..4].copy_from_slice(&to.port().to_be_bytes());
    datagram[4..6].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    datagram[6..8].fill(0);
    let sum = Sum::default().pseudo_header(from.ip(), to.ip(), protocol::UDP, length).with(datagram).finish();
    // Zero would mean "no checksum" (RFC 768) and is forbidden in IPv6 (RFC 8200, section 8.1).
    datagram[6..8].copy_from_slice(if sum == [0, 0] { &[0xff, 0xff] } else { &sum });
    Some(start + length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Packet;
    use super::*;

    fn ends(v6: bool) -> (SocketAddr, SocketAddr) {
        if v6 {
            ("[2001:db8::1]:53".parse().unwrap(), "[fd00::2]:4000".parse().unwrap())
        } else {
            ("192.0.2.1:53".parse().unwrap(), "10.8.0.2:4000".parse().unwrap())
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_with_a_valid_checksum(
            data in proptest::collection::vec(any::<u8>(), 0..1400),
            v6 in any::<bool>(),
        ) {
            let (from, to) = ends(v6);
            let mut out = [0xee; 1500];
            let length = write(&mut out, from, to, &data).unwrap();
            prop_assert_eq!(length, packet_length(to, data.len()));
            let packet = Packet::parse(&out[..length]).unwrap();
            prop_assert_eq!((packet.source, packet.destination), (from.ip(), to.ip()));
            let datagram = Datagram::parse(packet.payload).unwrap();
            prop_assert_eq!(datagram, Datagram { source_port: from.port(), destination_port: to.port(), data: &data });
            let sum = Sum::default()
                .pseudo_header(from.ip(), to.ip(), protocol::UDP, packet.payload.len())
                .with(packet.payload);
            prop_assert_eq!(sum.finish(), [0, 0]);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Datagram::parse(&bytes);
        }
    }

    #[test]
    fn a_length_beyond_the_packet_or_below_the_header_is_refused() {
        let with_length = |length: u8| [0, 1, 0, 2, 0, length, 0, 0, 0xaa, 0xbb];
        assert_eq!(Datagram::parse(&with_length(11)), None);
        assert_eq!(Datagram::parse(&with_length(7)), None);
        assert_eq!(Datagram::parse(&with_length(9)).unwrap().data, [0xaa]);
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let (from, to) = ends(false);
        let mut out = [0; 64];
        // The two bytes of data that make the sum come out as zero.
        let length = write(&mut out, from, to, &[0, 0]).unwrap();
        let sum = [out[26], out[27]];
        let length = write(&mut out[..length], from, to, &sum).unwrap();
        assert_eq!(out[26..28], [0xff, 0xff]);
        assert_eq!(length, 30);
    }

    #[test]
    fn a_buffer_too_short_is_refused() {
        let (from, to) = ends(true);
        assert_eq!(write(&mut [0; 50], from, to, &[0; 3]), None);
    }
}
