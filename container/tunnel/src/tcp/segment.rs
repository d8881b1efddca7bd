//! What a TCP segment looks like on the wire (RFC 9293 3.1, 3.2; RFC 7323; RFC 2018).

use std::fmt;
use std::net::SocketAddr;
use std::ops::{BitOr, Deref};

use super::checksum;
use super::seq::Seq;

/// Bytes in a TCP header without options.
pub const HEADER: usize = 20;
/// Bytes in the longest TCP header: the data offset has four bits of 32-bit words.
pub const HEADER_MAX: usize = 60;

/// Control bits (RFC 9293 3.1).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push: hand what has arrived to the application.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field is meaningful.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is meaningful. Ebb ignores it: urgent bytes stay in the stream (RFC 6093 section 6 asks
    /// applications not to use it, and SO_OOBINLINE behaves the same).
    pub const URG: Self = Self(0x20);

    /// From the header's thirteenth octet.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The header's thirteenth octet.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every bit of `other` is set.
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in (0..8).zip("FSRPAUEC".chars()) {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// The timestamps option (RFC 7323 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the receiver's clock as last heard, echoed.
    pub echo: u32,
}

/// Up to four SACK blocks (RFC 2018 section 3): left edge, and the number after the right edge.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(Seq, Seq); 4],
    count: u8,
}

impl SackBlocks {
    /// Adds a block; a fifth does not fit into a header and is dropped.
    pub fn push(&mut self, left: Seq, right: Seq) {
        if let Some(slot) = self.blocks.get_mut(usize::from(self.count)) {
            *slot = (left, right);
            self.count += 1;
        }
    }
}

impl Deref for SackBlocks {
    type Target = [(Seq, Seq)];

    fn deref(&self) -> &Self::Target {
        &self.blocks[..usize::from(self.count)]
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The options that mean something to this endpoint; all others are skipped (RFC 9293 3.2, MUST-6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size the sender can receive (RFC 9293 3.7.1); only on a SYN.
    pub mss: Option<u16>,
    /// Window scale shift, at most 14 (RFC 7323 2.3); only on a SYN.
    pub window_scale: Option<u8>,
    /// SACK permitted (RFC 2018 section 2); only on a SYN.
    pub sack_permitted: bool,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
}

/// One TCP segment, borrowed from the packet it arrived in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Sequence number of the first octet, or of the SYN.
    pub seq: Seq,
    /// Acknowledgment number; meaningful with [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// Receive window of the sender, not yet scaled.
    pub window: u16,
    /// Options.
    pub options: Options,
    /// Data.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a segment from `bytes`: TCP header and payload, already cut to the length the IP header names (frames are
    /// padded). The checksum is not verified: the packet came out of an AEAD that authenticated it as the peer's.
    ///
    /// None when the header is truncated or its data offset is impossible. A malformed option ends the option list and
    /// keeps what came before it.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let length = usize::from(header[12] >> 4) * 4;
        if length < HEADER || bytes.len() < length {
            return None;
        }
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let flags = Flags(header[13]);
        let options =
            if length == HEADER { Options::default() } else { parse_options(&bytes[HEADER..length], flags) };
        Some(Self {
            source_port: half(0),
            destination_port: half(2),
            seq: Seq(word(4)),
            ack: Seq(word(8)),
            flags,
            window: half(14),
            options,
            payload: &bytes[length..],
        })
    }

    /// How much sequence space the segment takes: its data, and one each for SYN and FIN (RFC 9293 3.4).
    #[must_use]
    pub fn sequence_length(&self) -> u32 {
        self.payload.len() as u32
            + u32::from(self.flags.contains(Flags::SYN))
            + u32::from(self.flags.contains(Flags::FIN))
    }
}

fn parse_options(mut bytes: &[u8], flags: Flags) -> Options {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const MSS: u8 = 2;
    const WINDOW_SCALE: u8 = 3;
    const SACK_PERMITTED: u8 = 4;
    const SACK: u8 = 5;
    const TIMESTAMPS: u8 = 8;

    let mut options = Options::default();
    let syn = flags.contains(Flags::SYN);
    while let Some((&kind, rest)) = bytes.split_first() {
        match kind {
            END => break,
            NOTHING => {
                bytes = rest;
                continue;
            }
            _ => {}
        }
        // The length octet counts the kind and itself (RFC 9293 3.2).
        let Some(body) = rest.first().and_then(|&length| bytes.get(2..usize::from(length))) else { break };
        match (kind, body) {
            // These three are ignored outside a SYN: RFC 9293 3.2, RFC 7323 1.3, RFC 2018 2.
            (MSS, &[a, b]) if syn => options.mss = Some(u16::from_be_bytes([a, b])),
            // A larger shift is used as 14: RFC 7323 2.3.
            (WINDOW_SCALE, &[shift]) if syn => options.window_scale = Some(shift.min(14)),
            (SACK_PERMITTED, &[]) if syn => options.sack_permitted = true,
            (SACK, blocks) => {
                for block in blocks.as_chunks::<8>().0 {
                    let [a, b, c, d, e, f, g, h] = *block;
                    options
                        .sack
                        .push(Seq(u32::from_be_bytes([a, b, c, d])), Seq(u32::from_be_bytes([e, f, g, h])));
                }
            }
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                options.timestamps = Some(Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo: u32::from_be_bytes([e, f, g, h]),
                });
            }
            _ => {}
        }
        bytes = &bytes[2 + body.len()..];
    }
    options
}

/// A header about to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    pub seq: Seq,
    pub ack: Seq,
    pub flags: Flags,
    pub window: u16,
    pub options: &'a Options,
}

impl Header<'_> {
    /// Writes the header with a zero checksum and returns its length. `out` must hold [`HEADER_MAX`] bytes.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let mut at = HEADER;
        if !self.options.is_empty() {
            at += self.options.write(&mut out[HEADER..]);
        }
        out[0..2].copy_from_slice(&self.source_port.to_be_bytes());
        out[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        out[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        out[12] = (at / 4) as u8 * 16;
        out[13] = self.flags.bits();
        out[14..16].copy_from_slice(&self.window.to_be_bytes());
        out[16..20].fill(0);
        at
    }
}

impl Options {
    fn is_empty(&self) -> bool {
        self.sack.count == 0
            && self.timestamps.is_none()
            && self.mss.is_none()
            && self.window_scale.is_none()
            && !self.sack_permitted
    }

    fn write(&self, out: &mut [u8]) -> usize {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            put(&[2, 4, a, b]);
        }
        if self.sack_permitted {
            put(&[1, 1, 4, 2]);
        }
        if let Some(shift) = self.window_scale {
            put(&[1, 3, 3, shift]);
        }
        if let Some(timestamps) = self.timestamps {
            put(&[1, 1, 8, 10]);
            put(&timestamps.value.to_be_bytes());
            put(&timestamps.echo.to_be_bytes());
        }
        // Four blocks fill the 40 bytes of options on their own, three fit beside timestamps (RFC 2018 section 3).
        let room = if self.timestamps.is_some() { 3 } else { 4 };
        let blocks = &self.sack[..self.sack.len().min(room)];
        if !blocks.is_empty() {
            put(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (left, right) in blocks {
                put(&left.0.to_be_bytes());
                put(&right.0.to_be_bytes());
            }
        }
        at
    }
}

/// The RST that answers a segment belonging to no connection (RFC 9293 3.10.7.1), written to `out` (20 bytes are enough)
/// with its checksum; `local` is where the segment was sent to. Returns the length.
///
/// None when the segment is itself a RST, or when `out` is too short.
#[must_use]
pub fn reset_for(
    segment: &Segment<'_>,
    local: SocketAddr,
    remote: SocketAddr,
    out: &mut [u8],
) -> Option<usize> {
    if segment.flags.contains(Flags::RST) {
        return None;
    }
    let (seq, ack, flags) = if segment.flags.contains(Flags::ACK) {
        (segment.ack, Seq(0), Flags::RST)
    } else {
        (Seq(0), segment.seq.plus(segment.sequence_length()), Flags::RST | Flags::ACK)
    };
    let header = Header {
        source_port: local.port(),
        destination_port: remote.port(),
        seq,
        ack,
        flags,
        window: 0,
        options: &Options::default(),
    };
    let out = out.get_mut(..HEADER)?;
    header.write(out);
    checksum::Pseudo::new(local.ip(), remote.ip()).fill(out);
    Some(HEADER)
}

/// A client's SYN, kept while the connection it asks for is being made on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynInfo {
    /// The client's initial sequence number.
    pub seq: Seq,
    /// Its window; never scaled on a SYN (RFC 7323 2.2).
    pub window: u16,
    /// What it offers.
    pub options: Options,
}

impl SynInfo {
    /// The facts of a segment that asks for a new connection; none for any other segment. Data on a SYN is left out: it is
    /// not acknowledged, so the client sends it again (RFC 9293 3.10.7.2 permits queueing, no client depends on it).
    #[must_use]
    pub fn of(segment: &Segment<'_>) -> Option<Self> {
        let flags = segment.flags;
        let opens = flags.contains(Flags::SYN)
            && !flags.contains(Flags::ACK)
            && !flags.contains(Flags::RST)
            && !flags.contains(Flags::FIN);
        opens.then_some(Self { seq: segment.seq, window: segment.window, options: segment.options })
    }
}
