//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echoes, and the errors a gateway owes the sender of a packet it cannot deliver.

use std::net::IpAddr;
use std::time::Duration;

use super::checksum::Sum;
use super::ip::{Header, Packet, header_length, protocol};
use crate::Time;

/// Bytes in an ICMP header, the four bytes that depend on the type included.
pub const HEADER: usize = 8;

const ECHO_REPLY_V4: u8 = 0;
const UNREACHABLE_V4: u8 = 3;
const ECHO_V4: u8 = 8;
const TIME_EXCEEDED_V4: u8 = 11;

const UNREACHABLE_V6: u8 = 1;
const PACKET_TOO_BIG_V6: u8 = 2;
const TIME_EXCEEDED_V6: u8 = 3;
const PARAMETER_PROBLEM_V6: u8 = 4;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Longest ICMP error for IPv4: as much of the offending packet as possible within 576 bytes (RFC 1812, section 4.3.2.3).
const ERROR_MAX_V4: usize = 576;
/// The same for IPv6: the minimum MTU (RFC 4443, section 3.1).
const ERROR_MAX_V6: usize = 1280;

/// An echo request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Request or reply.
    pub request: bool,
    /// Tells the askers on one host apart.
    pub identifier: u16,
    /// Tells one asker's requests apart.
    pub sequence: u16,
    /// Comes back unchanged.
    pub data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Reads the payload of an ICMP packet of the family of `address`; `None` when it is no echo.
    #[must_use]
    pub fn parse(address: IpAddr, payload: &'a [u8]) -> Option<Self> {
        let (header, data) = payload.split_first_chunk::<HEADER>()?;
        let request = match (address, header[0]) {
            (IpAddr::V4(_), ECHO_V4) | (IpAddr::V6(_), ECHO_V6) => true,
            (IpAddr::V4(_), ECHO_REPLY_V4) | (IpAddr::V6(_), ECHO_REPLY_V6) => false,
            _ => return None,
        };
        let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Self { request, identifier: half(4), sequence: half(6), data })
    }

    /// Writes the ICMP message without an IP header and returns its length. With `checksum_for`, the checksum is that of a
    /// message between these addresses; without, it is left to the kernel, which fills it in on a ping socket.
    ///
    /// `None` when `out` is too short.
    #[must_use]
    pub fn write(
        &self,
        out: &mut [u8],
        family: IpAddr,
        checksum_for: Option<(IpAddr, IpAddr)>,
    ) -> Option<usize> {
        let length = HEADER + self.data.len();
        let out = out.get_mut(..length)?;
        out[0] = match (family, self.request) {
            (IpAddr::V4(_), true) => ECHO_V4,
            (IpAddr::V4(_), false) => ECHO_REPLY_V4,
            (IpAddr::V6(_), true) => ECHO_V6,
            (IpAddr::V6(_), false) => ECHO_REPLY_V6,
        };
        out[1..4].fill(0);
        out[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        out[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        out[HEADER..].copy_from_slice(self.data);
        if let Some((from, to)) = checksum_for {
            fill_checksum(out, from, to);
        }
        Some(length)
    }

    /// Writes a whole packet from `from` to `to` and returns its length; `None` when it does not fit `out` or the
    /// addresses are of two families.
    #[must_use]
    pub fn write_packet(&self, out: &mut [u8], from: IpAddr, to: IpAddr) -> Option<usize> {
        let length = HEADER + self.data.len();
        let start = Header::new(from, to, protocol_of(to)).write(out, length)?;
        self.write(out.get_mut(start..)?, to, Some((from, to)))?;
        Some(start + length)
    }
}

/// Why a packet was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no way to the destination: net unreachable (RFC 1812, section 5.2.7.1), no route to destination (RFC 4443,
    /// section 3.1).
    NoRoute,
    /// The destination itself cannot be reached: host unreachable, address unreachable.
    Host,
    /// The egress policy forbids it: communication administratively prohibited (code 13, RFC 1812, section 5.2.7.1; code
    /// 1, RFC 4443, section 3.1).
    Prohibited,
    /// Nothing listens on the port.
    Port,
    /// The protocol is not served: protocol unreachable (RFC 1812, section 5.2.7.1), unrecognized next header (RFC 4443,
    /// section 3.4).
    Protocol,
    /// Longer than the next hop takes: fragmentation needed (RFC 1191, section 4), packet too big (RFC 4443, section 3.2).
    TooBig {
        /// What it takes, in bytes.
        mtu: u16,
    },
    /// The last hop was used up on the way.
    HopLimit,
    /// Fragments stayed away.
    Reassembly,
}

impl Error {
    /// Type, code and the four bytes after the checksum.
    fn header(self, about: &Packet<'_>) -> (u8, u8, u32) {
        let v6 = about.source.is_ipv6();
        match self {
            Self::NoRoute => (if v6 { UNREACHABLE_V6 } else { UNREACHABLE_V4 }, 0, 0),
            Self::Prohibited if v6 => (UNREACHABLE_V6, 1, 0),
            Self::Prohibited => (UNREACHABLE_V4, 13, 0),
            Self::Host if v6 => (UNREACHABLE_V6, 3, 0),
            Self::Host => (UNREACHABLE_V4, 1, 0),
            Self::Port if v6 => (UNREACHABLE_V6, 4, 0),
            Self::Port => (UNREACHABLE_V4, 3, 0),
            // The pointer names the octet that held the protocol: that of the fixed header, since extension headers are
            // known to all.
            Self::Protocol if v6 => (PARAMETER_PROBLEM_V6, 1, 6),
            Self::Protocol => (UNREACHABLE_V4, 2, 0),
            Self::TooBig { mtu } if v6 => (PACKET_TOO_BIG_V6, 0, u32::from(mtu)),
            Self::TooBig { mtu } => (UNREACHABLE_V4, 4, u32::from(mtu)),
            Self::HopLimit => (if v6 { TIME_EXCEEDED_V6 } else { TIME_EXCEEDED_V4 }, 0, 0),
            Self::Reassembly => (if v6 { TIME_EXCEEDED_V6 } else { TIME_EXCEEDED_V4 }, 1, 0),
        }
    }
}

/// Writes the packet that reports `error` about the packet `about` to its sender, as from the address `from`, and returns
/// its length.
///
/// `None` when no error may be sent (RFC 1812, section 4.3.2.7; RFC 4443, section 2.4 e): about an ICMP error, a fragment
/// other than the first, a packet to a multicast or broadcast address or from an address that is no single host; or when
/// `from` is of the other family.
#[must_use]
pub fn write_error(out: &mut [u8], error: Error, from: IpAddr, about: &Packet<'_>) -> Option<usize> {
    if !may_report(about) {
        return None;
    }
    let longest = if about.source.is_ipv6() { ERROR_MAX_V6 } else { ERROR_MAX_V4 };
    let quoted = about.bytes.len().min(longest - header_length(about.source) - HEADER);
    let length = HEADER + quoted;
    let start = Header::new(from, about.source, protocol_of(about.source)).write(out, length)?;
    let message = out.get_mut(start..start + length)?;
    let (kind, code, rest) = error.header(about);
    message[0] = kind;
    message[1] = code;
    message[2..4].fill(0);
    message[4..8].copy_from_slice(&rest.to_be_bytes());
    message[HEADER..].copy_from_slice(&about.bytes[..quoted]);
    fill_checksum(message, from, about.source);
    Some(start + length)
}

/// Reads an ICMP error and the beginning of the packet it is about; `None` for everything else.
///
/// Codes that mean the same to a sender read as one: what is not known more closely is [`Error::NoRoute`].
#[must_use]
pub fn parse_error<'a>(packet: &Packet<'a>) -> Option<(Error, Packet<'a>)> {
    let (header, quoted) = packet.payload.split_first_chunk::<HEADER>()?;
    let mtu = u16::from_be_bytes([header[6], header[7]]);
    let error = match (packet.protocol, header[0], header[1]) {
        (protocol::ICMP, UNREACHABLE_V4, 1) | (protocol::ICMPV6, UNREACHABLE_V6, 3) => Error::Host,
        (protocol::ICMP, UNREACHABLE_V4, 2) | (protocol::ICMPV6, PARAMETER_PROBLEM_V6, 1) => Error::Protocol,
        (protocol::ICMP, UNREACHABLE_V4, 3) | (protocol::ICMPV6, UNREACHABLE_V6, 4) => Error::Port,
        (protocol::ICMP, UNREACHABLE_V4, 4) | (protocol::ICMPV6, PACKET_TOO_BIG_V6, _) => {
            Error::TooBig { mtu }
        }
        (protocol::ICMP, UNREACHABLE_V4, 9 | 10 | 13) | (protocol::ICMPV6, UNREACHABLE_V6, 1 | 5 | 6) => {
            Error::Prohibited
        }
        (protocol::ICMP, UNREACHABLE_V4, _) | (protocol::ICMPV6, UNREACHABLE_V6, _) => Error::NoRoute,
        (protocol::ICMP, TIME_EXCEEDED_V4, 0) | (protocol::ICMPV6, TIME_EXCEEDED_V6, 0) => Error::HopLimit,
        (protocol::ICMP, TIME_EXCEEDED_V4, _) | (protocol::ICMPV6, TIME_EXCEEDED_V6, _) => Error::Reassembly,
        _ => return None,
    };
    Some((error, Packet::parse_quoted(quoted).ok()?))
}

fn may_report(about: &Packet<'_>) -> bool {
    let first = about.fragment.is_none_or(|fragment| fragment.offset == 0);
    let to_one = match about.destination {
        IpAddr::V4(address) => !address.is_multicast() && !address.is_broadcast(),
        IpAddr::V6(address) => !address.is_multicast(),
    };
    let from_one = !about.source.is_unspecified() && !about.source.is_multicast();
    let is_error = match (about.protocol, about.payload.first()) {
        (protocol::ICMP, Some(&kind)) => !matches!(kind, ECHO_V4 | ECHO_REPLY_V4),
        (protocol::ICMPV6, Some(&kind)) => kind < 128,
        (protocol::ICMP | protocol::ICMPV6, None) => true,
        _ => false,
    };
    first && to_one && from_one && !is_error
}

const fn protocol_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => protocol::ICMP,
        IpAddr::V6(_) => protocol::ICMPV6,
    }
}

fn fill_checksum(message: &mut [u8], from: IpAddr, to: IpAddr) {
    message[2..4].fill(0);
    let sum = match to {
        IpAddr::V4(_) => Sum::default(),
        // RFC 4443, section 2.3.
        IpAddr::V6(_) => Sum::default().pseudo_header(from, to, protocol::ICMPV6, message.len()),
    };
    let sum = sum.with(message).finish();
    message[2..4].copy_from_slice(&sum);
}

/// Bounds how many errors are sent, as RFC 4443, section 2.4 f, demands and RFC 1812, section 4.3.2.8, recommends: a token
/// bucket.
#[derive(Clone, Debug)]
pub struct Limiter {
    tokens: u32,
    refilled: Time,
}

impl Limiter {
    /// Errors in one go. With [`Self::INTERVAL`] the same numbers as Linux (`net.ipv4.icmp_msgs_burst`,
    /// `icmp_msgs_per_sec`).
    const BURST: u32 = 50;
    /// Time that one error takes to be allowed again.
    const INTERVAL: Duration = Duration::from_millis(1);

    /// A full bucket.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self { tokens: Self::BURST, refilled: now }
    }

    /// Whether one more error may be sent; counts it.
    pub fn allow(&mut self, now: Time) -> bool {
        let earned = (now.since(self.refilled).as_micros() / Self::INTERVAL.as_micros()) as u64;
        if earned > 0 {
            self.tokens =
                self.tokens.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(Self::BURST);
            self.refilled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Fragment, udp};
    use super::*;

    const GATEWAY_V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 8, 0, 1));

    fn datagram(v6: bool, data: usize) -> Vec<u8> {
        let (from, to) =
            if v6 { ("[fd00::2]:4000", "[2001:db8::1]:9") } else { ("10.8.0.2:4000", "192.0.2.1:9") };
        let mut out = vec![0; 48 + data];
        let length =
            udp::write(&mut out, from.parse().unwrap(), to.parse().unwrap(), &vec![7; data]).unwrap();
        out.truncate(length);
        out
    }

    fn gateway(v6: bool) -> IpAddr {
        if v6 { "fd00::1".parse().unwrap() } else { GATEWAY_V4 }
    }

    fn checksum_holds(packet: &Packet<'_>) -> bool {
        let sum = match packet.source {
            IpAddr::V4(_) => Sum::default(),
            IpAddr::V6(_) => Sum::default().pseudo_header(
                packet.source,
                packet.destination,
                protocol::ICMPV6,
                packet.payload.len(),
            ),
        };
        sum.with(packet.payload).finish() == [0, 0]
    }

    proptest! {
        #[test]
        fn an_echo_survives_the_trip(
            data in proptest::collection::vec(any::<u8>(), 0..1400),
            identifier: u16, sequence: u16, request: bool, v6: bool,
        ) {
            let echo = Echo { request, identifier, sequence, data: &data };
            let (from, to) = if v6 {
                ("2001:db8::1".parse().unwrap(), "fd00::2".parse().unwrap())
            } else {
                (IpAddr::from([192, 0, 2, 1]), IpAddr::from([10, 8, 0, 2]))
            };
            let mut out = [0xee; 1500];
            let length = echo.write_packet(&mut out, from, to).unwrap();
            let packet = Packet::parse(&out[..length]).unwrap();
            prop_assert!(checksum_holds(&packet));
            prop_assert_eq!(Echo::parse(packet.source, packet.payload), Some(echo));
        }

        #[test]
        fn errors_of_every_kind_fit_and_quote_the_packet(size in 0_usize..1300, v6: bool, kind in 0_usize..8) {
            let kinds = [
                Error::NoRoute, Error::Host, Error::Prohibited, Error::Port, Error::Protocol,
                Error::TooBig { mtu: 1280 }, Error::HopLimit, Error::Reassembly,
            ];
            let bytes = datagram(v6, size);
            let about = Packet::parse(&bytes).unwrap();
            let mut out = [0xee; 1500];
            let length = write_error(&mut out, kinds[kind], gateway(v6), &about).unwrap();
            let packet = Packet::parse(&out[..length]).unwrap();
            let longest = if v6 { ERROR_MAX_V6 } else { ERROR_MAX_V4 };
            prop_assert!(length <= longest);
            prop_assert!(checksum_holds(&packet));
            prop_assert_eq!(packet.destination, about.source);
            prop_assert!(about.bytes.starts_with(&packet.payload[HEADER..]));
            prop_assert!(packet.payload.len() >= HEADER + about.bytes.len().min(528));
            let (error, quoted) = parse_error(&packet).unwrap();
            prop_assert_eq!(error, kinds[kind]);
            prop_assert_eq!((quoted.source, quoted.destination), (about.source, about.destination));
            prop_assert_eq!(&quoted.payload[..4], &about.payload[..4]);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Echo::parse(GATEWAY_V4, &bytes);
        }
    }

    #[test]
    fn types_and_codes_are_those_of_the_standards() {
        let code = |v6: bool, error: Error| {
            let bytes = datagram(v6, 8);
            let mut out = [0; 600];
            let length = write_error(&mut out, error, gateway(v6), &Packet::parse(&bytes).unwrap()).unwrap();
            let packet = Packet::parse(&out[..length]).unwrap();
            (packet.payload[0], packet.payload[1])
        };
        let table = [
            (Error::NoRoute, (3, 0), (1, 0)),
            (Error::Host, (3, 1), (1, 3)),
            (Error::Prohibited, (3, 13), (1, 1)),
            (Error::Port, (3, 3), (1, 4)),
            (Error::Protocol, (3, 2), (4, 1)),
            (Error::TooBig { mtu: 1420 }, (3, 4), (2, 0)),
            (Error::HopLimit, (11, 0), (3, 0)),
            (Error::Reassembly, (11, 1), (3, 1)),
        ];
        for (error, v4, v6) in table {
            assert_eq!((code(false, error), code(true, error)), (v4, v6), "{error:?}");
        }
    }

    #[test]
    fn too_big_names_the_mtu_where_the_standards_put_it() {
        let bytes = datagram(false, 8);
        let mut out = [0; 600];
        let about = Packet::parse(&bytes).unwrap();
        let length = write_error(&mut out, Error::TooBig { mtu: 1420 }, GATEWAY_V4, &about).unwrap();
        assert_eq!(Packet::parse(&out[..length]).unwrap().payload[4..8], [0, 0, 0x05, 0x8c]);
    }

    #[test]
    fn no_error_answers_an_error_a_later_fragment_or_a_crowd() {
        let bytes = datagram(false, 8);
        let about = Packet::parse(&bytes).unwrap();
        let mut out = [0; 600];
        let length = write_error(&mut out, Error::Port, GATEWAY_V4, &about).unwrap();
        let error = out[..length].to_vec();
        let mut refused = |about: &Packet<'_>| {
            assert_eq!(write_error(&mut out, Error::Port, GATEWAY_V4, about), None, "{about:?}");
        };
        refused(&Packet::parse(&error).unwrap());
        refused(&Packet { fragment: Some(Fragment { identification: 1, offset: 8, more: false }), ..about });
        refused(&Packet { destination: IpAddr::from([224, 0, 0, 1]), ..about });
        refused(&Packet { destination: IpAddr::from([255, 255, 255, 255]), ..about });
        refused(&Packet { source: IpAddr::from([0, 0, 0, 0]), ..about });
    }

    #[test]
    fn errors_beyond_the_burst_wait_for_their_interval() {
        let start = Time::from_millis(10);
        let mut limiter = Limiter::new(start);
        let allowed = (0..200).filter(|_| limiter.allow(start)).count();
        assert_eq!(allowed, 50);
        assert!(limiter.allow(start + Duration::from_millis(1)));
        assert!(!limiter.allow(start + Duration::from_millis(1)));
        let later = start + Duration::from_secs(10);
        assert_eq!((0..200).filter(|_| limiter.allow(later)).count(), 50);
    }
}
