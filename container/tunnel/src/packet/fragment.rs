//! Fragments: put together on the way in (RFC 791, section 3.2; RFC 8200, section 4.5), cut on the way out.
//!
//! Only datagrams need this: TCP agrees on segments that fit. A user's DNS server or game that sends more than the tunnel's
//! MTU in one datagram is rare but real, and a gateway that drops fragments breaks it without a trace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::ip::{HEADER_V4, HEADER_V6, Header, Packet};
use crate::Time;

/// How long fragments wait for the rest. RFC 791 starts its timer at 15 s; RFC 8200 abandons at 60 s at the latest. The
/// shorter one, because fragments that come at all come together, and waiting ones hold memory that an attacker chose.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// Packets of one owner that may be incomplete at a time; the oldest makes room.
const PER_OWNER: usize = 8;
/// Packets of all owners that may be incomplete at a time, 64 KiB each at most.
const TOTAL: usize = 64;
/// Pieces of one packet. 64 KiB in pieces of the smallest MTU (576) are 119.
const PIECES: usize = 128;
/// Longest payload of an IP packet.
const PAYLOAD_MAX: usize = u16::MAX as usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key<O> {
    owner: O,
    source: IpAddr,
    destination: IpAddr,
    identification: u32,
    protocol: u8,
}

#[derive(Debug)]
struct Partial {
    expires: Time,
    payload: Vec<u8>,
    /// Ranges present, in order, without overlap.
    pieces: Vec<(usize, usize)>,
    /// Length of the whole, once the last fragment is here.
    length: Option<usize>,
    /// The first fragment as it came, to be quoted in an error.
    first: Vec<u8>,
}

/// Incomplete packets. `O` is whose they are, so that nobody's fragments mix with another's.
#[derive(Debug)]
pub struct Reassembly<O> {
    partial: BTreeMap<Key<O>, Partial>,
}

impl<O: Copy + Ord> Default for Reassembly<O> {
    fn default() -> Self {
        Self { partial: BTreeMap::new() }
    }
}

impl<O: Copy + Ord> Reassembly<O> {
    /// Takes a fragment; the whole packet, with a plain header, when it was the missing one.
    ///
    /// Overlapping fragments destroy their packet (RFC 5722): honest senders make none. Exact repetitions are ignored.
    pub fn add(&mut self, owner: O, packet: &Packet<'_>, now: Time) -> Option<Vec<u8>> {
        let fragment = packet.fragment?;
        let key = Key {
            owner,
            source: packet.source,
            destination: packet.destination,
            identification: fragment.identification,
            protocol: if packet.source.is_ipv4() { packet.protocol } else { 0 },
        };
        let start = usize::from(fragment.offset);
        let end = start + packet.payload.len();
        let whole_words = !fragment.more || packet.payload.len().is_multiple_of(8);
        if packet.payload.is_empty() || end > PAYLOAD_MAX || !whole_words {
            self.partial.remove(&key);
            return None;
        }
        if !self.partial.contains_key(&key) {
            self.make_room(owner);
        }
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            expires: now + TIMEOUT,
            payload: Vec::new(),
            pieces: Vec::new(),
            length: None,
            first: Vec::new(),
        });
        match partial.add(packet, start, end, fragment.more) {
            Added::Incomplete => None,
            Added::Contradiction => {
                self.partial.remove(&key);
                None
            }
            Added::Complete => {
                let partial = self.partial.remove(&key)?;
                partial.into_packet(packet)
            }
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.partial.values().map(|partial| partial.expires).min()
    }

    /// Gives up one packet whose time is over and returns whose it was and its first fragment, which is empty when it never
    /// came. Call until `None`.
    pub fn expire(&mut self, now: Time) -> Option<(O, Vec<u8>)> {
        let key = *self.partial.iter().find(|(_, partial)| partial.expires <= now)?.0;
        let partial = self.partial.remove(&key)?;
        Some((key.owner, partial.first))
    }

    /// Drops all fragments of an owner.
    pub fn forget(&mut self, owner: O) {
        self.partial.retain(|key, _| key.owner != owner);
    }

    /// Makes room for one more packet of `owner`. A linear search, over at most 64 entries and only for first fragments.
    fn make_room(&mut self, owner: O) {
        let own = self.partial.keys().filter(|key| key.owner == owner).count();
        if own < PER_OWNER && self.partial.len() < TOTAL {
            return;
        }
        let oldest = self
            .partial
            .iter()
            .filter(|(key, _)| own < PER_OWNER || key.owner == owner)
            .min_by_key(|(_, partial)| partial.expires)
            .map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.partial.remove(&oldest);
        }
    }
}

enum Added {
    Incomplete,
    Complete,
    Contradiction,
}

impl Partial {
    fn add(&mut self, packet: &Packet<'_>, start: usize, end: usize, more: bool) -> Added {
        if self.pieces.contains(&(start, end)) {
            return Added::Incomplete;
        }
        let at = self.pieces.partition_point(|piece| piece.0 < start);
        let overlaps =
            at.checked_sub(1).and_then(|before| self.pieces.get(before)).is_some_and(|p| p.1 > start)
                || self.pieces.get(at).is_some_and(|piece| piece.0 < end);
        let contradicts_length =
            self.length.is_some_and(|length| end > length || !more) || (!more && self.payload.len() > end);
        if overlaps || contradicts_length || self.pieces.len() >= PIECES {
            return Added::Contradiction;
        }
        if self.payload.len() < end {
            self.payload.resize(end, 0);
        }
        self.payload[start..end].copy_from_slice(packet.payload);
        self.pieces.insert(at, (start, end));
        if start == 0 {
            self.first = packet.bytes.to_vec();
        }
        if !more {
            self.length = Some(end);
        }
        let covered: usize = self.pieces.iter().map(|(start, end)| end - start).sum();
        if self.length == Some(covered) { Added::Complete } else { Added::Incomplete }
    }

    fn into_packet(self, last: &Packet<'_>) -> Option<Vec<u8>> {
        // The protocol stands in the first fragment (RFC 8200, section 4.5).
        let protocol = Packet::parse(&self.first).ok()?.protocol;
        let header = Header::new(last.source, last.destination, protocol);
        let mut bytes = vec![0; HEADER_V6 + self.payload.len()];
        let start = header.write(&mut bytes, self.payload.len())?;
        bytes.truncate(start + self.payload.len());
        bytes[start..].copy_from_slice(&self.payload);
        Some(bytes)
    }
}

/// Cuts a packet made here into fragments that fit `mtu`.
#[derive(Debug)]
pub struct Fragments<'a> {
    packet: &'a [u8],
    header: usize,
    mtu: usize,
    identification: u32,
    sent: usize,
}

impl<'a> Fragments<'a> {
    /// `packet` starts with a plain header, as [`Header::write`] makes it. `identification` must not repeat soon for the
    /// same pair of addresses (RFC 6864; RFC 7739).
    #[must_use]
    pub fn new(packet: &'a [u8], mtu: u16, identification: u32) -> Self {
        let header = if packet.first().is_some_and(|first| first >> 4 == 4) { HEADER_V4 } else { HEADER_V6 };
        Self { packet, header, mtu: usize::from(mtu), identification, sent: 0 }
    }

    /// Writes the next fragment and returns its length; `None` after the last one, or when `out` is shorter than the MTU.
    pub fn next(&mut self, out: &mut [u8]) -> Option<usize> {
        let payload = self.packet.get(self.header + self.sent..).filter(|rest| !rest.is_empty())?;
        let v6 = self.header == HEADER_V6;
        let start = if v6 { HEADER_V6 + 8 } else { HEADER_V4 };
        let fits = self.mtu.checked_sub(start)? & !7;
        let more = payload.len() > fits;
        let piece = &payload[..payload.len().min(fits)];
        let out = out.get_mut(..start + piece.len())?;
        out[..self.header].copy_from_slice(&self.packet[..self.header]);
        out[start..].copy_from_slice(piece);
        let length = out.len();
        if v6 {
            out[4..6].copy_from_slice(&u16::try_from(length - HEADER_V6).ok()?.to_be_bytes());
            out[40] = out[6];
            out[41] = 0;
            out[6] = 44;
            let position = u16::try_from(self.sent).ok()? | u16::from(more);
            out[42..44].copy_from_slice(&position.to_be_bytes());
            out[44..48].copy_from_slice(&self.identification.to_be_bytes());
        } else {
            out[2..4].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
            out[4..6].copy_from_slice(&(self.identification as u16).to_be_bytes());
            let position = u16::try_from(self.sent / 8).ok()? | if more { 0x2000 } else { 0 };
            out[6..8].copy_from_slice(&position.to_be_bytes());
            out[10..12].fill(0);
            let sum = super::checksum::Sum::default().with(&out[..HEADER_V4]).finish();
            out[10..12].copy_from_slice(&sum);
        }
        self.sent += piece.len();
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::udp;
    use super::*;

    fn datagram(v6: bool, data: &[u8]) -> Vec<u8> {
        let (from, to) =
            if v6 { ("[fd00::2]:4000", "[2001:db8::1]:53") } else { ("10.8.0.2:4000", "192.0.2.1:53") };
        let mut out = vec![0; 48 + data.len()];
        let length = udp::write(&mut out, from.parse().unwrap(), to.parse().unwrap(), data).unwrap();
        out.truncate(length);
        out
    }

    fn cut(packet: &[u8], mtu: u16, identification: u32) -> Vec<Vec<u8>> {
        let mut fragments = Fragments::new(packet, mtu, identification);
        let mut out = [0; 1500];
        std::iter::from_fn(|| fragments.next(&mut out).map(|length| out[..length].to_vec())).collect()
    }

    fn add(reassembly: &mut Reassembly<u32>, owner: u32, bytes: &[u8], now: Time) -> Option<Vec<u8>> {
        reassembly.add(owner, &Packet::parse(bytes).unwrap(), now)
    }

    proptest! {
        #[test]
        fn a_packet_cut_shuffled_and_doubled_comes_together_again(
            size in 1_usize..20_000, mtu in 576_u16..1500, v6: bool, order in any::<u64>(),
        ) {
            let data: Vec<u8> = (0..size).map(|at| at as u8).collect();
            let packet = datagram(v6, &data);
            let mut pieces = cut(&packet, mtu, 99);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= usize::from(mtu)));
            prop_assume!(pieces.len() > 1);
            pieces.extend(pieces[..1].to_vec());
            let mut state = order | 1;
            for at in (1..pieces.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                pieces.swap(at, (state >> 33) as usize % (at + 1));
            }
            let mut reassembly = Reassembly::default();
            let whole: Vec<_> =
                pieces.iter().filter_map(|piece| add(&mut reassembly, 1, piece, Time::ZERO)).collect();
            prop_assert_eq!(whole.len(), 1);
            let (whole, sent) = (Packet::parse(&whole[0]).unwrap(), Packet::parse(&packet).unwrap());
            prop_assert_eq!(whole.payload, sent.payload);
            prop_assert_eq!((whole.source, whole.destination, whole.fragment), (sent.source, sent.destination, None));
        }

        #[test]
        fn no_fragments_make_it_panic(
            pieces in proptest::collection::vec(
                (0_u16..0x2000, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..64)), 0..40,
            ),
        ) {
            let mut reassembly = Reassembly::default();
            let template = datagram(false, &[0; 64]);
            for (offset, more, payload) in pieces {
                let mut bytes = template[..20].to_vec();
                bytes.extend(&payload);
                let length = (bytes.len() as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&length);
                bytes[6..8].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
                let _ = add(&mut reassembly, 1, &bytes, Time::ZERO);
            }
        }
    }

    #[test]
    fn overlapping_fragments_destroy_their_packet() {
        let packet = datagram(false, &[7; 3000]);
        let pieces = cut(&packet, 1400, 1);
        let mut overlapping = pieces[1].clone();
        // One word earlier than it belongs.
        overlapping[7] -= 1;
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, 1, &pieces[0], Time::ZERO), None);
        assert_eq!(add(&mut reassembly, 1, &overlapping, Time::ZERO), None);
        assert_eq!(add(&mut reassembly, 1, &pieces[1], Time::ZERO), None);
        assert_eq!(add(&mut reassembly, 1, &pieces[2], Time::ZERO), None);
        assert_eq!(reassembly.deadline(), Some(Time::ZERO + TIMEOUT));
    }

    #[test]
    fn fragments_of_two_owners_never_mix() {
        let packet = datagram(false, &[7; 2000]);
        let pieces = cut(&packet, 1400, 1);
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, 1, &pieces[0], Time::ZERO), None);
        assert_eq!(add(&mut reassembly, 2, &pieces[1], Time::ZERO), None);
        assert!(add(&mut reassembly, 1, &pieces[1], Time::ZERO).is_some());
        reassembly.forget(2);
        assert_eq!(reassembly.deadline(), None);
    }

    #[test]
    fn fragments_without_their_rest_are_given_up_with_the_first_one_to_quote() {
        let packet = datagram(true, &[7; 2000]);
        let pieces = cut(&packet, 1400, 1);
        let mut reassembly = Reassembly::default();
        add(&mut reassembly, 5, &pieces[0], Time::ZERO);
        let late = reassembly.deadline().unwrap();
        assert_eq!(reassembly.expire(late - Duration::from_micros(1)), None);
        assert_eq!(reassembly.expire(late), Some((5, pieces[0].clone())));
        assert_eq!(reassembly.expire(late), None);
        assert_eq!(add(&mut reassembly, 5, &pieces[1], late), None);
    }

    #[test]
    fn one_owner_cannot_take_the_room_of_the_others() {
        let mut reassembly = Reassembly::default();
        let victim = cut(&datagram(false, &[1; 2000]), 1400, 1);
        add(&mut reassembly, 1, &victim[0], Time::ZERO);
        for identification in 0..1000 {
            let pieces = cut(&datagram(false, &[2; 2000]), 1400, identification);
            add(&mut reassembly, 2, &pieces[0], Time::from_millis(1));
        }
        assert!(reassembly.partial.len() <= PER_OWNER + 1);
        assert!(add(&mut reassembly, 1, &victim[1], Time::from_millis(2)).is_some());
    }
}
