//! Packets of the device's, cut to what fits the tunnel.

use std::net::IpAddr;

use ebb_tunnel::packet::checksum::Sum;
use ebb_tunnel::packet::{Packet, protocol};

use crate::offload::{VnetHeader, set_length, tcp};

/// The packets that one read of the device stands for.
pub struct Split<'a> {
    vnet: VnetHeader,
    packet: &'a [u8],
    addresses: (IpAddr, IpAddr),
    /// IP header, and all headers.
    headers: (usize, usize),
    /// Bytes of payload in the packets before; `None` after the last.
    done: Option<usize>,
}

impl<'a> Split<'a> {
    /// `bytes` is what was read; `None` when it is no packet that can be carried.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (vnet, packet) = VnetHeader::split(bytes)?;
        let parsed = Packet::parse(packet).ok()?;
        let ip = parsed.headers().len();
        let headers = match vnet.segment {
            None => packet.len(),
            Some(_) => ip + usize::from(*parsed.payload.get(tcp::OFFSET)? >> 4) * 4,
        };
        let whole = headers <= packet.len() && headers >= ip;
        let fits = !vnet.needs_checksum
            || usize::from(vnet.checksum.0) + usize::from(vnet.checksum.1) + 2 <= packet.len();
        let addresses = (parsed.source, parsed.destination);
        (whole && fits).then_some(Self { vnet, packet, addresses, headers: (ip, headers), done: Some(0) })
    }

    /// Writes the next packet and returns its length; `None` when there is none, or when it does not fit.
    pub fn next(&mut self, out: &mut [u8]) -> Option<usize> {
        let done = self.done?;
        match self.vnet.segment {
            None => {
                self.done = None;
                self.write_whole(out)
            }
            Some(segment) => {
                let payload = &self.packet[self.headers.1 + done..];
                let length = payload.len().min(usize::from(segment));
                let last = length == payload.len();
                self.done = (!last).then_some(done + length);
                self.write_segment(out, done, &payload[..length], last)
            }
        }
    }

    fn write_whole(&self, out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..self.packet.len())?;
        out.copy_from_slice(self.packet);
        if self.vnet.needs_checksum {
            let (start, offset) = self.vnet.checksum;
            let summed = &mut out[usize::from(start)..];
            let at = usize::from(offset);
            // What stands in the field is the pseudo header's part.
            let sum = Sum::default().with(summed).finish();
            // Zero means "none" to UDP, and the same as all ones to everybody (RFC 768).
            summed[at..at + 2].copy_from_slice(if sum == [0; 2] { &[0xff; 2] } else { &sum });
        }
        Some(out.len())
    }

    fn write_segment(&self, out: &mut [u8], done: usize, payload: &[u8], last: bool) -> Option<usize> {
        let (ip, headers) = self.headers;
        let length = headers + payload.len();
        let out = out.get_mut(..length)?;
        out[..headers].copy_from_slice(&self.packet[..headers]);
        out[headers..].copy_from_slice(payload);
        if out[0] >> 4 == 4 {
            let number = done / usize::from(self.vnet.segment.unwrap_or(1).max(1));
            let identification = u16::from_be_bytes([out[4], out[5]]).wrapping_add(number as u16);
            out[4..6].copy_from_slice(&identification.to_be_bytes());
        }
        set_length(out, ip, length);
        let segment = &mut out[ip..];
        let field = tcp::SEQUENCE..tcp::SEQUENCE + 4;
        let sequence = segment[field.clone()].first_chunk().copied().map(u32::from_be_bytes)?;
        segment[field].copy_from_slice(&sequence.wrapping_add(done as u32).to_be_bytes());
        if !last {
            segment[tcp::FLAGS] &= !(tcp::FIN | tcp::PSH);
        }
        if done > 0 {
            segment[tcp::FLAGS] &= !tcp::CWR;
        }
        let field = tcp::CHECKSUM..tcp::CHECKSUM + 2;
        segment[field.clone()].fill(0);
        let (source, destination) = self.addresses;
        let sum = Sum::default().pseudo_header(source, destination, protocol::TCP, segment.len());
        let sum = sum.with(segment).finish();
        segment[field].copy_from_slice(&sum);
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::packet;

    fn cut(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut split = Split::new(bytes).unwrap();
        let mut out = [0; 65_535];
        std::iter::from_fn(|| split.next(&mut out).map(|length| out[..length].to_vec())).collect()
    }

    #[test]
    fn a_long_packet_becomes_the_segments_that_the_kernel_would_have_sent() {
        for v6 in [false, true] {
            let payload: Vec<u8> = (0..3000_u32).map(|number| number as u8).collect();
            let whole = packet(v6, u32::MAX - 1000, tcp::ACK | tcp::PSH, &payload);
            let ip = if v6 { 40 } else { 20 };
            let vnet = VnetHeader {
                needs_checksum: true,
                segment: Some(1360),
                headers: 0,
                checksum: (ip, tcp::CHECKSUM as u16),
            };
            let cut = cut(&[&vnet.bytes(v6)[..], &whole].concat());
            let expected = [(0, 1360, tcp::ACK), (1360, 2720, tcp::ACK), (2720, 3000, tcp::ACK | tcp::PSH)];
            assert_eq!(cut.len(), expected.len());
            for (number, (cut, (from, to, flags))) in cut.iter().zip(expected).enumerate() {
                let sequence = (u32::MAX - 1000).wrapping_add(from as u32);
                let mut expected = packet(v6, sequence, flags, &payload[from..to]);
                if !v6 {
                    // The identification counts on.
                    expected[5] += number as u8;
                    set_length(&mut expected, 20, 20 + 20 + to - from);
                }
                assert_eq!(*cut, expected);
            }
        }
    }

    #[test]
    fn a_checksum_left_to_the_card_is_filled_in() {
        let whole = packet(false, 7, tcp::ACK, b"hello");
        let mut partial = whole.clone();
        let sum = Sum::default().pseudo_header([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), protocol::TCP, 25);
        partial[36..38].copy_from_slice(&sum.finish().map(|byte| !byte));
        let vnet = VnetHeader {
            needs_checksum: true,
            segment: None,
            headers: 0,
            checksum: (20, tcp::CHECKSUM as u16),
        };
        assert_eq!(cut(&[&vnet.bytes(false)[..], &partial].concat()), [whole]);
    }

    #[test]
    fn what_contradicts_itself_is_left_out() {
        let whole = packet(false, 7, tcp::ACK, b"hello");
        let vnet = VnetHeader { needs_checksum: true, segment: None, headers: 0, checksum: (60, 16) };
        assert!(Split::new(&[&vnet.bytes(false)[..], &whole].concat()).is_none());
        assert!(Split::new(&[0; 5]).is_none());
        assert!(Split::new(&[&VnetHeader::default().bytes(false)[..], &whole[..30]].concat()).is_none());
        let vnet = VnetHeader { segment: Some(1000), ..VnetHeader::default() };
        assert!(Split::new(&[&vnet.bytes(false)[..], &whole[..20]].concat()).is_none());
    }
}
