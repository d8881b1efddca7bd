//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::Sum;

/// Protocol numbers that this gateway knows.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Bytes in an IPv4 header without options.
pub const HEADER_V4: usize = 20;
/// Bytes in an IPv6 header without extension headers.
pub const HEADER_V6: usize = 40;

/// Hop limit of packets made here (the default of RFC 1700, still the default of Linux).
const HOP_LIMIT: u8 = 64;

/// Extension headers walked before a packet is refused. Real packets carry at most two; an endless chain is an attack.
const EXTENSION_HEADERS_MAX: usize = 6;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;

/// One packet, borrowed; [`Packet::parse`] has checked every length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The sender.
    pub source: IpAddr,
    /// The receiver.
    pub destination: IpAddr,
    /// Protocol of [`payload`](Self::payload); IPv6 extension headers are already behind.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Set when the packet is only a part; the payload is then that part.
    pub fragment: Option<Fragment>,
    /// What the protocol carries.
    pub payload: &'a [u8],
    /// The whole packet from its IP header on, without padding.
    pub bytes: &'a [u8],
    /// Whether a router that cannot forward it must not fragment it (IPv4's DF; every IPv6 packet).
    pub dont_fragment: bool,
}

/// Place of a fragment in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Same for all fragments of a packet.
    pub identification: u32,
    /// Byte at which the payload belongs.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The version is neither 4 nor 6.
    #[error("neither IPv4 nor IPv6")]
    Version,
    /// Shorter than its header, or than the length the header names.
    #[error("cut short")]
    Truncated,
    /// A length field contradicts itself.
    #[error("impossible length")]
    Length,
    /// More extension headers than any real packet has.
    #[error("too many extension headers")]
    ExtensionHeaders,
}

impl<'a> Packet<'a> {
    /// Reads a packet. What follows the length named in its header is padding and left out.
    ///
    /// # Errors
    /// See [`Malformed`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_version(bytes, false)
    }

    /// Reads the beginning of a packet, as an ICMP error quotes it: the packet may go on behind `bytes`.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_version(bytes, true)
    }

    #[inline]
    fn parse_version(bytes: &'a [u8], quoted: bool) -> Result<Self, Malformed> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(bytes, quoted),
            Some(6) => Self::parse_v6(bytes, quoted),
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::Truncated),
        }
    }

    #[inline]
    fn parse_v4(bytes: &'a [u8], quoted: bool) -> Result<Self, Malformed> {
        let header: &[u8; HEADER_V4] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let header_length = usize::from(header[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_length < HEADER_V4 || total < header_length {
            return Err(Malformed::Length);
        }
        let total = if quoted { total.min(bytes.len()) } else { total };
        let bytes = bytes.get(..total).ok_or(Malformed::Truncated)?;
        let position = u16::from_be_bytes([header[6], header[7]]);
        let offset = (position & 0x1fff) * 8;
        let more = position & MORE_FRAGMENTS != 0;
        let fragment = (more || offset != 0).then(|| Fragment {
            identification: u32::from(u16::from_be_bytes([header[4], header[5]])),
            offset,
            more,
        });
        Ok(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            protocol: header[9],
            hop_limit: header[8],
            fragment,
            payload: bytes.get(header_length..).ok_or(Malformed::Truncated)?,
            bytes,
            dont_fragment: position & DONT_FRAGMENT != 0,
        })
    }

    #[inline]
    fn parse_v6(bytes: &'a [u8], quoted: bool) -> Result<Self, Malformed> {
        let header: &[u8; HEADER_V6] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let total = HEADER_V6 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let total = if quoted { total.min(bytes.len()) } else { total };
        let bytes = bytes.get(..total).ok_or(Malformed::Truncated)?;
        let (protocol, fragment, payload) = walk(header[6], &bytes[HEADER_V6..])?;
        let address = |at: usize| -> IpAddr {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]);
            Ipv6Addr::from(octets).into()
        };
        Ok(Self {
            source: address(8),
            destination: address(24),
            protocol,
            hop_limit: header[7],
            fragment,
            payload,
            bytes,
            dont_fragment: true,
        })
    }

    /// The bytes before [`payload`](Self::payload): IP header, options, extension headers.
    #[must_use]
    pub fn headers(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len() - self.payload.len()]
    }
}

/// Walks the extension headers (RFC 8200, section 4) to the protocol behind them.
#[inline]
fn walk(mut next: u8, mut rest: &[u8]) -> Result<(u8, Option<Fragment>, &[u8]), Malformed> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;

    let mut fragment = None;
    for _ in 0..=EXTENSION_HEADERS_MAX {
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let length = rest.get(1).ok_or(Malformed::Truncated)?;
                (usize::from(*length) + 1) * 8
            }
            FRAGMENT => 8,
            _ => return Ok((next, fragment, rest)),
        };
        let (header, behind) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        if next == FRAGMENT {
            let position = u16::from_be_bytes([header[2], header[3]]);
            let (offset, more) = (position & 0xfff8, position & 1 != 0);
            // A fragment that is the whole packet is handled as if it were none (RFC 6946).
            if offset != 0 || more {
                let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                // What follows is a piece of something and cannot be walked.
                fragment = Some(Fragment { identification, offset, more });
                return Ok((header[0], fragment, behind));
            }
        }
        next = header[0];
        rest = behind;
    }
    Err(Malformed::ExtensionHeaders)
}

/// Bytes of IP header that packets made here have.
#[must_use]
#[inline]
pub const fn header_length(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => HEADER_V4,
        IpAddr::V6(_) => HEADER_V6,
    }
}

/// A header about to be written.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hop_limit: u8,
}

impl Header {
    /// The header of a packet made here.
    #[must_use]
    #[inline]
    pub const fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self { source, destination, protocol, hop_limit: HOP_LIMIT }
    }

    /// Writes the header of a packet with `payload` bytes behind it and returns the header's length. IPv4 packets have DF
    /// set and no identification, because nobody may fragment them (RFC 6864, section 4.1); those that are fragmented here
    /// get their own headers.
    ///
    /// `None` when `out` is too short, the payload too long, or the addresses are of two families.
    #[inline]
    pub fn write(&self, out: &mut [u8], payload: usize) -> Option<usize> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = u16::try_from(HEADER_V4 + payload).ok()?;
                let out: &mut [u8; HEADER_V4] = out.first_chunk_mut()?;
                out[0] = 0x45;
                out[1] = 0;
                out[2..4].copy_from_slice(&total.to_be_bytes());
                out[4..6].fill(0);
                out[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
                out[8] = self.hop_limit;
                out[9] = self.protocol;
                out[10..12].fill(0);
                out[12..16].copy_from_slice(&source.octets());
                out[16..20].copy_from_slice(&destination.octets());
                let sum = Sum::default().with(out).finish();
                out[10..12].copy_from_slice(&sum);
                Some(HEADER_V4)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let length = u16::try_from(payload).ok()?;
                let out: &mut [u8; HEADER_V6] = out.first_chunk_mut()?;
                out[0..4].copy_from_slice(&[0x60, 0, 0, 0]);
                out[4..6].copy_from_slice(&length.to_be_bytes());
                out[6] = self.protocol;
                out[7] = self.hop_limit;
                out[8..24].copy_from_slice(&source.octets());
                out[24..40].copy_from_slice(&destination.octets());
                Some(HEADER_V6)
            }
            _ => None,
        }
    }
}

/// Takes one hop off a packet that is forwarded as it is. False when its time is up: it must not be forwarded then.
#[must_use]
pub fn take_hop(packet: &mut [u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= HEADER_V4 && packet[8] > 1 => {
            packet[8] -= 1;
            let header = (usize::from(packet[0] & 0xf) * 4).clamp(HEADER_V4, packet.len());
            packet[10..12].fill(0);
            let sum = Sum::default().with(&packet[..header]).finish();
            packet[10..12].copy_from_slice(&sum);
            true
        }
        Some(6) if packet.len() >= HEADER_V6 && packet[7] > 1 => {
            packet[7] -= 1;
            true
        }
        _ => false,
    }
}

/// Whether a packet shows that its user is there. Everything is data except a TCP segment that carries neither payload nor
/// SYN, FIN or RST: acknowledgments and keepalive probes go on by themselves on a connection that nobody uses.
#[must_use]
#[inline]
pub fn is_data(bytes: &[u8]) -> bool {
    // The longest headers without payload: IPv4 with options, TCP with options.
    const ACKNOWLEDGMENT_MAX: usize = 60 + 60;
    const SYN_FIN_RST: u8 = 0x07;

    if bytes.len() > ACKNOWLEDGMENT_MAX {
        return true;
    }
    let Ok(packet) = Packet::parse(bytes) else { return true };
    if packet.protocol != protocol::TCP || packet.fragment.is_some() {
        return true;
    }
    let Some(header) = packet.payload.first_chunk::<20>() else { return true };
    let length = usize::from(header[12] >> 4) * 4;
    header[13] & SYN_FIN_RST != 0 || packet.payload.len() > length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = Header::new(source.parse().unwrap(), destination.parse().unwrap(), protocol);
        let mut out = vec![0; 40 + payload.len()];
        let start = header.write(&mut out, payload.len()).unwrap();
        out.truncate(start + payload.len());
        out[start..].copy_from_slice(payload);
        out
    }

    /// An IPv6 packet whose next header is `next`, with `rest` behind the fixed header.
    fn extended(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = packet("2001:db8::1", "2001:db8::2", next, rest);
        bytes[6] = next;
        bytes
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 0..3) {
            if let Some(first) = bytes.first_mut() {
                *first = match version { 0 => 0x45, 1 => 0x60, _ => *first };
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.bytes.len() <= bytes.len());
                prop_assert_eq!(packet.headers().len() + packet.payload.len(), packet.bytes.len());
            }
            let _ = Packet::parse_quoted(&bytes);
            let _ = is_data(&bytes);
            let _ = take_hop(&mut bytes);
        }

        #[test]
        fn padding_is_left_out(payload in proptest::collection::vec(any::<u8>(), 0..60), pad in 0_usize..16, v6 in any::<bool>()) {
            let mut bytes = if v6 {
                packet("2001:db8::1", "2001:db8::2", 17, &payload)
            } else {
                packet("192.0.2.1", "192.0.2.2", 17, &payload)
            };
            bytes.extend(std::iter::repeat_n(0xff, pad));
            prop_assert_eq!(Packet::parse(&bytes).unwrap().payload, payload.as_slice());
        }
    }

    #[test]
    fn an_ipv4_header_has_a_valid_checksum_and_no_identification() {
        let bytes = packet("192.0.2.1", "198.51.100.2", protocol::TCP, b"data");
        assert_eq!(Sum::default().with(&bytes[..20]).finish(), [0, 0]);
        assert_eq!(bytes[4..8], [0, 0, 0x40, 0]);
        let read = Packet::parse(&bytes).unwrap();
        assert_eq!(read.destination, IpAddr::from([198, 51, 100, 2]));
        assert_eq!(read.payload, b"data");
        assert!(read.dont_fragment);
        assert_eq!(read.fragment, None);
    }

    #[test]
    fn ipv4_options_are_stepped_over() {
        let mut bytes = packet("192.0.2.1", "192.0.2.2", protocol::UDP, b"\x94\x04\0\0payload");
        bytes[0] = 0x46;
        let read = Packet::parse(&bytes).unwrap();
        assert_eq!(read.payload, b"payload");
        assert_eq!(read.headers().len(), 24);
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let good = packet("192.0.2.1", "192.0.2.2", protocol::UDP, b"12345678");
        let mut short_header = good.clone();
        short_header[0] = 0x44;
        assert_eq!(Packet::parse(&short_header), Err(Malformed::Length));
        let mut total_below_header = good.clone();
        total_below_header[3] = 19;
        assert_eq!(Packet::parse(&total_below_header), Err(Malformed::Length));
        let mut total_beyond_packet = good.clone();
        total_beyond_packet[3] = 29;
        assert_eq!(Packet::parse(&total_beyond_packet), Err(Malformed::Truncated));
        assert_eq!(Packet::parse(&[]), Err(Malformed::Truncated));
        assert_eq!(Packet::parse(&[0x50; 40]), Err(Malformed::Version));
    }

    #[test]
    fn extension_headers_are_walked_to_the_protocol() {
        // Hop-by-hop, then destination options of 16 bytes, then UDP.
        let mut rest = vec![60, 0, 0, 0, 0, 0, 0, 0];
        rest.extend([17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        rest.extend(b"datagram");
        let bytes = extended(0, &rest);
        let read = Packet::parse(&bytes).unwrap();
        assert_eq!((read.protocol, read.payload), (17, b"datagram".as_slice()));
        assert_eq!(read.headers().len(), 64);
    }

    #[test]
    fn an_endless_chain_of_extension_headers_is_refused() {
        let rest = [60, 0, 0, 0, 0, 0, 0, 0].repeat(20);
        assert_eq!(Packet::parse(&extended(60, &rest)), Err(Malformed::ExtensionHeaders));
        assert_eq!(Packet::parse(&extended(60, &rest[..16])), Err(Malformed::Truncated));
    }

    #[test]
    fn fragments_name_their_place() {
        let mut v4 = packet("192.0.2.1", "192.0.2.2", protocol::UDP, b"12345678");
        v4[4..8].copy_from_slice(&[0x12, 0x34, 0x20, 0x02]);
        let expected = Fragment { identification: 0x1234, offset: 16, more: true };
        assert_eq!(Packet::parse(&v4).unwrap().fragment, Some(expected));

        let v6 = extended(44, b"\x11\0\0\x18\0\0\0\x07restrest");
        let read = Packet::parse(&v6).unwrap();
        assert_eq!(read.fragment, Some(Fragment { identification: 7, offset: 24, more: false }));
        assert_eq!((read.protocol, read.payload), (17, b"restrest".as_slice()));
    }

    #[test]
    fn a_fragment_that_is_the_whole_packet_is_none() {
        let bytes = extended(44, b"\x11\0\0\0\0\0\0\x07datagram");
        let read = Packet::parse(&bytes).unwrap();
        assert_eq!((read.protocol, read.fragment, read.payload), (17, None, b"datagram".as_slice()));
    }

    #[test]
    fn an_acknowledgment_is_no_data_and_everything_else_is() {
        let segment = |flags: u8, payload: &[u8]| {
            let mut tcp = vec![0; 32];
            tcp[12] = 0x80;
            tcp[13] = flags;
            tcp.extend(payload);
            tcp
        };
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let data = |flags, payload| {
                is_data(&packet(source, destination, protocol::TCP, &segment(flags, payload)))
            };
            assert!(!data(0x10, b""), "ACK");
            assert!(data(0x18, b"x"), "payload");
            assert!(data(0x02, b"") && data(0x11, b"") && data(0x14, b""), "SYN, FIN, RST");
            assert!(is_data(&packet(source, destination, protocol::UDP, b"12345678")), "UDP");
            assert!(is_data(&packet(source, destination, protocol::ICMP, b"12345678")), "ICMP");
        }
    }

    #[test]
    fn a_forwarded_packet_loses_a_hop_and_keeps_a_valid_checksum() {
        let mut bytes = packet("192.0.2.1", "192.0.2.2", protocol::UDP, b"12345678");
        assert!(take_hop(&mut bytes));
        assert_eq!(bytes[8], 63);
        assert_eq!(Sum::default().with(&bytes[..20]).finish(), [0, 0]);
        bytes[8] = 1;
        assert!(!take_hop(&mut bytes));
    }
}
