//! Watches one of our connections on the wire and objects to anything that TCP forbids.
//!
//! It knows nothing of the endpoint's inside: what it holds against a segment follows from the segments that went before.

use std::collections::BTreeMap;

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{Flags, HEADER, Segment, Seq};

use super::pattern;

/// Positions in a stream, without wrap: the initial number is at 2^32.
fn position(base: Seq, seq: Seq, near: u64) -> u64 {
    let absolute = seq.0.wrapping_sub(base.0);
    let distance = absolute.wrapping_sub(near as u32) as i32;
    near.wrapping_add_signed(i64::from(distance))
}

const ORIGIN: u64 = 1 << 32;

/// What has been delivered to a connection, as disjoint ranges.
#[derive(Debug, Default)]
struct Delivered(BTreeMap<u64, u64>);

impl Delivered {
    fn add(&mut self, mut from: u64, mut to: u64) {
        if from >= to {
            return;
        }
        while let Some((&left, &right)) = self.0.range(..=to).next_back() {
            if right < from {
                break;
            }
            self.0.remove(&left);
            from = from.min(left);
            to = to.max(right);
        }
        self.0.insert(from, to);
    }

    fn covers(&self, from: u64, to: u64) -> bool {
        self.0.range(..=from).next_back().is_some_and(|(_, &right)| right >= to)
    }
}

/// The watch over one connection.
#[derive(Debug)]
pub struct Observer {
    writes: u64,
    mtu: usize,
    ring_max: u64,
    initial: Option<Seq>,
    remote_initial: Option<Seq>,
    shift_ours: Option<u8>,
    shift_theirs: Option<u8>,
    remote_mss: usize,
    remote_sacks: bool,
    /// Right edge the peer offered.
    edge: u64,
    sent_to: u64,
    fin_at: Option<u64>,
    acked: u64,
    heard_ack: u64,
    promised: u64,
    delivered: Delivered,
    remote_fin: Option<u64>,
    last_size: usize,
    pub segments: u64,
    pub bare: u64,
    pub heard: u64,
    pub data_bytes: u64,
    pub resets: u64,
    pub sack_blocks: u64,
}

impl Observer {
    pub fn new(writes: u64, mtu: u16, ring_max: usize) -> Self {
        Self {
            writes,
            mtu: usize::from(mtu),
            ring_max: ring_max as u64,
            initial: None,
            remote_initial: None,
            shift_ours: None,
            shift_theirs: None,
            remote_mss: 536,
            remote_sacks: false,
            edge: 0,
            sent_to: ORIGIN,
            fin_at: None,
            acked: 0,
            heard_ack: ORIGIN,
            promised: 0,
            delivered: Delivered::default(),
            remote_fin: None,
            last_size: 0,
            segments: 0,
            bare: 0,
            heard: 0,
            data_bytes: 0,
            resets: 0,
            sack_blocks: 0,
        }
    }

    /// A segment reaches our connection.
    pub fn hears(&mut self, bytes: &[u8]) {
        let Some(segment) = Segment::parse(bytes) else { return };
        self.heard += 1;
        let flags = segment.flags;
        if flags.contains(Flags::RST) {
            return;
        }
        if flags.contains(Flags::SYN) && self.remote_initial.is_none() {
            self.remote_initial = Some(segment.seq);
            self.shift_theirs = segment.options.window_scale;
            self.remote_mss = usize::from(segment.options.mss.unwrap_or(536));
            self.remote_sacks = segment.options.sack_permitted;
        }
        if let Some(base) = self.remote_initial {
            let near = self.acked.max(ORIGIN);
            let seq = position(base, segment.seq, near);
            let end = seq + u64::from(segment.sequence_length());
            self.delivered.add(seq, end);
            if flags.contains(Flags::FIN) {
                self.remote_fin = Some(end);
            }
        }
        if let Some(base) = self.initial
            && flags.contains(Flags::ACK)
        {
            let ack = position(base, segment.ack, self.heard_ack);
            let scaled = self.shift_ours.is_some() && !flags.contains(Flags::SYN);
            let shift = if scaled { self.shift_theirs.unwrap_or(0) } else { 0 };
            if ack <= self.sent_to {
                self.heard_ack = self.heard_ack.max(ack);
                self.edge = self.edge.max(ack + (u64::from(segment.window) << shift));
            }
        }
    }

    /// Our connection sends a segment. `consumed` is what the application has read so far.
    pub fn sees(&mut self, bytes: &[u8], consumed: u64, now: Time) {
        self.segments += 1;
        assert!(bytes.len() + 20 <= self.mtu, "{now:?}: {} bytes exceed the MTU", bytes.len());
        assert!(checksum_is_right(bytes), "{now:?}: wrong checksum");
        let segment = Segment::parse(bytes).expect("our own segment parses");
        let flags = segment.flags;
        if flags.contains(Flags::RST) {
            self.resets += 1;
            return;
        }
        if flags.contains(Flags::SYN) {
            let base = *self.initial.get_or_insert(segment.seq);
            assert_eq!(segment.seq, base, "{now:?}: the SYN moved");
            assert!(segment.payload.is_empty() && !flags.contains(Flags::FIN));
            assert_eq!(usize::from(segment.options.mss.expect("a SYN names the MSS")), self.mtu - 40);
            self.shift_ours = segment.options.window_scale;
            self.sent_to = self.sent_to.max(ORIGIN + 1);
        } else {
            assert!(flags.contains(Flags::ACK), "{now:?}: a segment without ACK");
        }
        let base = self.initial.expect("a SYN went first");
        if !flags.contains(Flags::SYN) {
            self.check_data(base, &segment, now);
        }
        if flags.contains(Flags::ACK) {
            self.check_ack(&segment, consumed, now);
        }
    }

    fn check_data(&mut self, base: Seq, segment: &Segment<'_>, now: Time) {
        let seq = position(base, segment.seq, self.sent_to);
        let fin = segment.flags.contains(Flags::FIN);
        let end = seq + segment.payload.len() as u64;
        let whole = end + u64::from(fin);
        assert!(segment.payload.len() <= self.remote_mss, "{now:?}: more than the peer's MSS");
        if segment.payload.is_empty() && !fin {
            self.bare += 1;
            assert!(seq <= self.sent_to, "{now:?}: a bare segment at {seq}, sent up to {}", self.sent_to);
            return;
        }
        self.data_bytes += segment.payload.len() as u64;
        assert!(seq > ORIGIN, "{now:?}: data before the stream");
        assert!(seq <= self.sent_to, "{now:?}: a gap in what was sent");
        if whole > self.sent_to {
            assert!(whole <= self.edge, "{now:?}: sent to {whole}, the window ends at {}", self.edge);
        }
        assert!(
            pattern::matches(self.writes, seq - ORIGIN - 1, segment.payload),
            "{now:?}: bytes at {} are not the application's",
            seq - ORIGIN - 1
        );
        if fin {
            assert_eq!(*self.fin_at.get_or_insert(end), end, "{now:?}: the FIN moved");
        }
        if let Some(fin_at) = self.fin_at {
            assert!(end <= fin_at, "{now:?}: data beyond the FIN");
        }
        self.sent_to = self.sent_to.max(whole);
        self.last_size = segment.payload.len();
    }

    fn check_ack(&mut self, segment: &Segment<'_>, consumed: u64, now: Time) {
        let base = self.remote_initial.expect("an ACK follows a SYN");
        let ack = position(base, segment.ack, self.acked.max(ORIGIN));
        assert!(ack >= self.acked, "{now:?}: the acknowledgment went back");
        assert!(self.delivered.covers(ORIGIN, ack), "{now:?}: acknowledges {ack}, which was not delivered");
        self.acked = ack;
        let syn = segment.flags.contains(Flags::SYN);
        let scaled = !syn && self.shift_theirs.is_some();
        let shift = if scaled { self.shift_ours.unwrap_or(0) } else { 0 };
        let edge = ack + (u64::from(segment.window) << shift);
        assert!(edge >= self.promised, "{now:?}: the window shrank from {} to {edge}", self.promised);
        self.promised = edge;
        let fin = u64::from(self.remote_fin.is_some_and(|fin| ack >= fin));
        assert!(
            edge - (ORIGIN + 1 + consumed) - fin <= self.ring_max,
            "{now:?}: promises more than the ring holds"
        );
        assert!(segment.options.sack.is_empty() || self.remote_sacks, "{now:?}: SACK without leave");
        for (index, &(left, right)) in segment.options.sack.iter().enumerate() {
            let (left, right) = (position(base, left, ack), position(base, right, ack));
            self.sack_blocks += 1;
            assert!(left < right, "{now:?}: an empty SACK block");
            assert!(
                self.delivered.covers(left, right),
                "{now:?}: reports {left}..{right}, which was not delivered"
            );
            let duplicate = index == 0
                && (right <= ack
                    || segment.options.sack.get(1).is_some_and(|&(l, r)| {
                        position(base, l, ack) <= left && right <= position(base, r, ack)
                    }));
            // Just beyond the acknowledged data lies a hole, or it would be acknowledged.
            assert!(duplicate || left > ack, "{now:?}: SACK {left}..{right} at or below {ack}");
        }
    }
}

/// The checksum computed the slow way of RFC 1071.
fn checksum_is_right(bytes: &[u8]) -> bool {
    let mut sum = 0u32;
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
            sum = (sum & 0xffff) + (sum >> 16);
        }
    };
    // 10.77.0.1 and 10.77.0.2 in either order, protocol 6, length.
    add(&[10, 77, 0, 1, 10, 77, 0, 2, 0, 6]);
    add(&(bytes.len() as u16).to_be_bytes());
    add(bytes);
    bytes.len() >= HEADER && sum == 0xffff
}
