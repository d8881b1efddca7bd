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
