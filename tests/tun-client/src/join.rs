//! Packets from the tunnel, joined to what the kernel takes in one piece: segments of one stream that follow each other, as
//! generic receive offload joins them.

use std::io::IoSlice;

use ebb_tunnel::packet::checksum::Sum;
use ebb_tunnel::packet::{Packet, protocol};

use crate::offload::{VnetHeader, set_length, tcp};

/// IP and TCP headers at their longest.
const HEADERS_MAX: usize = 60 + 60;
/// The longest packet that both versions can name in their length field.
const LENGTH_MAX: usize = 65_535;

/// Packets that go to the device in one piece.
#[derive(Default)]
pub struct Joined<'a> {
    first: Option<Packet<'a>>,
    /// What follows the last of them, when something may.
    open: Option<Open>,
    payloads: Vec<&'a [u8]>,
    /// Flags of all of them.
    flags: u8,
}

#[derive(Clone, Copy)]
struct Open {
    segment: usize,
    next: u32,
    /// Of the whole packet so far.
    length: usize,
}

impl<'a> Joined<'a> {
    /// Adds a packet; false, and nothing changed, when it does not belong to those before.
    pub fn push(&mut self, packet: &Packet<'a>) -> bool {
        let stream = Stream::of(packet);
        let Some(first) = self.first else {
            self.first = Some(*packet);
            if let Some(stream) = stream {
                self.flags = stream.flags;
                self.payloads.push(stream.payload);
                let segment = stream.payload.len();
                let next = stream.sequence.wrapping_add(segment as u32);
                self.open = (!stream.ends()).then_some(Open { segment, next, length: packet.bytes.len() });
            }
            return true;
        };
        let (Some(open), Some(stream)) = (self.open, stream) else { return false };
        let length = open.length + stream.payload.len();
        if stream.sequence != open.next
            || stream.payload.len() > open.segment
            || length > LENGTH_MAX
            || !same_headers(&first, packet)
        {
            return false;
        }
        self.payloads.push(stream.payload);
        self.flags |= stream.flags;
        let goes_on = stream.payload.len() == open.segment && !stream.ends();
        let next = open.next.wrapping_add(stream.payload.len() as u32);
        self.open = goes_on.then_some(Open { next, length, ..open });
        true
    }

    /// Hands over what was joined, if there is something, and starts over.
    pub fn take(&mut self, write: impl FnOnce(&[IoSlice<'_>])) {
        let Some(first) = self.first.take() else { return };
        self.open = None;
        if self.payloads.len() < 2 {
            self.payloads.clear();
            let vnet = VnetHeader::default().bytes(false);
            return write(&[IoSlice::new(&vnet), IoSlice::new(first.bytes)]);
        }
        let payload = self.payloads[0].len();
        let headers = first.bytes.len() - payload;
        let ip = first.headers().len();
        let length = headers + self.payloads.iter().map(|payload| payload.len()).sum::<usize>();
        let vnet = VnetHeader {
            needs_checksum: true,
            segment: Some(payload as u16),
            headers: headers as u16,
            checksum: (ip as u16, tcp::CHECKSUM as u16),
        };
        let mut buffer = [0; VnetHeader::LENGTH + HEADERS_MAX];
        let (front, rest) = buffer.split_at_mut(VnetHeader::LENGTH);
        front.copy_from_slice(&vnet.bytes(first.source.is_ipv6()));
        let head = &mut rest[..headers];
        head.copy_from_slice(&first.bytes[..headers]);
        set_length(head, ip, length);
        head[ip + tcp::FLAGS] = self.flags;
        // The kernel adds the rest: what stands in the field is the pseudo header's part, not complemented.
        let sum = Sum::default().pseudo_header(first.source, first.destination, protocol::TCP, length - ip);
        head[ip + tcp::CHECKSUM..ip + tcp::CHECKSUM + 2].copy_from_slice(&sum.finish().map(|byte| !byte));
        let mut slices = Vec::with_capacity(1 + self.payloads.len());
        slices.push(IoSlice::new(&buffer[..VnetHeader::LENGTH + headers]));
        slices.extend(self.payloads.drain(..).map(IoSlice::new));
        write(&slices);
    }
}

/// A segment of TCP that others can follow or that can follow others.
struct Stream<'a> {
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Stream<'a> {
    /// `None` for all that carries no data, or says more than data do.
    fn of(packet: &Packet<'a>) -> Option<Self> {
        let segment = packet.payload;
        if packet.protocol != protocol::TCP || packet.fragment.is_some() || segment.len() < tcp::HEADER {
            return None;
        }
        let (header, flags) = (usize::from(segment[tcp::OFFSET] >> 4) * 4, segment[tcp::FLAGS]);
        let payload = segment.get(header..).filter(|payload| !payload.is_empty())?;
        if flags & !tcp::PSH != tcp::ACK || packet.headers().len() + header > HEADERS_MAX {
            return None;
        }
        let sequence = segment[tcp::SEQUENCE..].first_chunk().copied().map(u32::from_be_bytes)?;
        Some(Self { sequence, flags, payload })
    }

    /// Whether the sender wants it delivered at once.
    fn ends(&self) -> bool {
        self.flags & tcp::PSH != 0
    }
}

/// Whether two segments differ in nothing but what follows from their place in the stream.
fn same_headers(one: &Packet<'_>, other: &Packet<'_>) -> bool {
    let (ip, tcp) = (one.headers(), one.payload);
    let (other_ip, other_tcp) = (other.headers(), other.payload);
    let header = usize::from(tcp[tcp::OFFSET] >> 4) * 4;
    let same_ip = if one.source.is_ipv4() {
        // All but length, identification and checksum.
        ip.len() == other_ip.len()
            && ip[..2] == other_ip[..2]
            && ip[6..10] == other_ip[6..10]
            && ip[12..] == other_ip[12..]
    } else {
        ip.len() == other_ip.len() && ip[..4] == other_ip[..4] && ip[6..] == other_ip[6..]
    };
    // All but sequence number, PSH and checksum.
    same_ip
        && tcp[..4] == other_tcp[..4]
        && tcp[8..13] == other_tcp[8..13]
        && tcp[14..16] == other_tcp[14..16]
        && other_tcp.len() > header
        && tcp[18..header] == other_tcp[18..header]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::packet;
    use crate::split::Split;

    /// What goes to the device when these packets arrive in one go.
    fn joined(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut joined = Joined::default();
        let mut written: Vec<Vec<u8>> = Vec::new();
        let mut write =
            |slices: &[IoSlice<'_>]| written.push(slices.iter().flat_map(|slice| slice.to_vec()).collect());
        for packet in packets {
            let packet = Packet::parse(packet).unwrap();
            if !joined.push(&packet) {
                joined.take(&mut write);
                assert!(joined.push(&packet));
            }
        }
        joined.take(&mut write);
        joined.take(&mut write);
        written
    }

    #[test]
    fn segments_that_follow_each_other_go_in_one_piece_and_come_apart_as_they_were() {
        for v6 in [false, true] {
            let segment = |at: usize, flags| packet(v6, 5 + 1000 * at as u32, flags, &[at as u8; 1000]);
            let mut packets = vec![segment(0, tcp::ACK), segment(1, tcp::ACK)];
            packets.push(packet(v6, 2005, tcp::ACK | tcp::PSH, b"end"));
            let written = joined(&packets);
            assert_eq!(written.len(), 1);
            let mut split = Split::new(&written[0]).unwrap();
            let mut out = [0; 2048];
            for (number, mut packet) in packets.into_iter().enumerate() {
                let length = split.next(&mut out).unwrap();
                if !v6 {
                    packet[5] += number as u8;
                    let length = packet.len();
                    set_length(&mut packet, 20, length);
                }
                assert_eq!(out[..length], packet);
            }
            assert_eq!(split.next(&mut out), None);
        }
    }

    #[test]
    fn what_does_not_follow_stays_apart() {
        let data = |sequence, flags, length: usize| packet(false, sequence, flags, &vec![1; length]);
        let apart = [
            // A hole, a flag that says something, no data, another size in the middle, and one after the last.
            [data(0, tcp::ACK, 100), data(101, tcp::ACK, 100)],
            [data(0, tcp::ACK, 100), data(100, tcp::ACK | tcp::FIN, 100)],
            [data(0, tcp::ACK, 100), data(100, tcp::ACK, 0)],
            [data(0, tcp::ACK, 100), data(100, tcp::ACK, 101)],
            [data(0, tcp::ACK | tcp::PSH, 100), data(100, tcp::ACK, 100)],
        ];
        for packets in apart {
            let written = joined(&packets);
            let front = VnetHeader::default().bytes(false);
            let expected: Vec<_> = packets.iter().map(|packet| [&front[..], packet].concat()).collect();
            assert_eq!(written, expected);
        }
        let short = [data(0, tcp::ACK, 100), data(100, tcp::ACK, 50), data(150, tcp::ACK, 50)];
        assert_eq!(joined(&short).len(), 2);
        let mut other = data(100, tcp::ACK, 100);
        other[19] = 9;
        assert_eq!(joined(&[data(0, tcp::ACK, 100), other]).len(), 2);
    }

    #[test]
    fn a_piece_is_never_longer_than_a_length_field_can_say() {
        let packets: Vec<_> = (0..60).map(|at| packet(false, at * 1360, tcp::ACK, &[0; 1360])).collect();
        let written = joined(&packets);
        assert_eq!(written.len(), 2);
        assert!(written.iter().all(|piece| piece.len() <= LENGTH_MAX + VnetHeader::LENGTH));
    }
}
