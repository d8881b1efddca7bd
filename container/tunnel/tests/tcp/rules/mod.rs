//! The rules of the RFCs, one by one, with segments made by hand.

mod closing;
mod hostile;
mod opening;
mod receiving;
mod recovery;
mod sending;
mod silence;

use std::net::SocketAddr;
use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{Budget, Connection, Flags, Options, Segment, Seq, Settings, SynInfo};

/// Our initial sequence number and the peer's. Ours wraps within the first kilobytes.
pub const OURS: u32 = 0xffff_fc00;
pub const THEIRS: u32 = 0x7fff_f000;

pub const ACK: Flags = Flags::ACK;
pub const SYN: Flags = Flags::SYN;
pub const FIN: Flags = Flags::FIN;
pub const RST: Flags = Flags::RST;

/// A segment that our end sent, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Relative to [`OURS`].
    pub seq: u32,
    /// Relative to [`THEIRS`].
    pub ack: u32,
    pub flags: Flags,
    pub window: u16,
    pub options: Options,
    pub payload: Vec<u8>,
    /// SACK blocks relative to [`THEIRS`].
    pub sack: Vec<(u32, u32)>,
}

impl Sent {
    fn is(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }
}

/// One connection and a peer played by the test.
pub struct Rig {
    pub connection: Connection,
    pub now: Time,
    pub budget: Budget,
    /// The window the peer announces, unscaled.
    pub window: u16,
}

pub fn addresses() -> (SocketAddr, SocketAddr) {
    (SocketAddr::from(([10, 77, 0, 1], 80)), SocketAddr::from(([10, 77, 0, 2], 40_000)))
}

pub fn usual_options() -> Options {
    Options { mss: Some(1000), window_scale: Some(4), sack_permitted: true, ..Options::default() }
}

pub fn segment(seq: u32, ack: u32, flags: Flags, payload: &[u8]) -> Segment<'_> {
    Segment {
        source_port: 40_000,
        destination_port: 80,
        seq: Seq(THEIRS.wrapping_add(seq)),
        ack: Seq(OURS.wrapping_add(ack)),
        flags,
        window: 0xffff,
        options: Options::default(),
        payload,
    }
}

impl Rig {
    /// Has answered a SYN that offers `options`.
    pub fn answering(options: Options, settings: &Settings) -> Self {
        let (local, remote) = addresses();
        let budget = Budget::new(64 << 20);
        let now = Time::from_millis(1_000);
        let syn = Segment { options, window: 40_000, ..segment(0, 0, SYN, &[]) };
        let syn = SynInfo::of(&syn).unwrap();
        let connection = Connection::answer(local, remote, &syn, settings, &budget, OURS, now);
        Self { connection, now, budget, window: 0xffff }
    }

    /// Open, 20 ms away from its peer; the peer's MSS is 1000, its window scale 4.
    pub fn open() -> Self {
        Self::open_with(usual_options(), &Settings::default())
    }

    pub fn open_with(options: Options, settings: &Settings) -> Self {
        let mut rig = Self::answering(options, settings);
        assert_eq!(rig.sent().len(), 1);
        rig.pass(20);
        rig.hear(1, 1, ACK, &[]);
        assert!(rig.sent().is_empty());
        assert!(rig.connection.is_open());
        rig
    }

    /// Lets milliseconds pass, with every timer on time, and drops what is sent meanwhile.
    pub fn pass(&mut self, millis: u64) {
        let _ = self.pass_and_collect(millis);
    }

    /// The same; returns what was sent, and when, in milliseconds from now.
    pub fn pass_and_collect(&mut self, millis: u64) -> Vec<(u64, Sent)> {
        let from = self.now;
        let end = from + Duration::from_millis(millis);
        let mut all = Vec::new();
        while let Some(at) = self.connection.deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.connection.expire(self.now);
            let when = self.now.since(from).as_millis() as u64;
            all.extend(self.sent().into_iter().map(|sent| (when, sent)));
        }
        self.now = end;
        all
    }

    /// Delivers a segment.
    pub fn hear(&mut self, seq: u32, ack: u32, flags: Flags, payload: &[u8]) {
        let window = self.window;
        self.hear_segment(&Segment { window, ..segment(seq, ack, flags, payload) });
    }

    /// Delivers an acknowledgment with SACK blocks.
    pub fn hear_sack(&mut self, ack: u32, blocks: &[(u32, u32)]) {
        let mut segment = Segment { window: self.window, ..segment(1, ack, ACK, &[]) };
        for &(left, right) in blocks {
            segment.options.sack.push(Seq(OURS.wrapping_add(left)), Seq(OURS.wrapping_add(right)));
        }
        self.hear_segment(&segment);
    }

    pub fn hear_segment(&mut self, segment: &Segment<'_>) {
        self.connection.receive(segment, self.now);
    }

    /// Everything our end wants to send now.
    pub fn sent(&mut self) -> Vec<Sent> {
        let mut out = [0; 2048];
        let mut all = Vec::new();
        while let Some(length) = self.connection.transmit(&mut out, self.now) {
            let segment = Segment::parse(&out[..length]).unwrap();
            let sack = segment.options.sack.iter();
            all.push(Sent {
                seq: segment.seq.0.wrapping_sub(OURS),
                ack: segment.ack.0.wrapping_sub(THEIRS),
                flags: segment.flags,
                window: segment.window,
                options: segment.options,
                payload: segment.payload.to_vec(),
                sack: sack
                    .map(|(left, right)| (left.0.wrapping_sub(THEIRS), right.0.wrapping_sub(THEIRS)))
                    .collect(),
            });
            assert!(all.len() < 10_000, "transmit does not come to an end");
        }
        all
    }

    /// The one segment our end wants to send now.
    pub fn sent_one(&mut self) -> Sent {
        let mut all = self.sent();
        assert_eq!(all.len(), 1, "{all:?}");
        all.pop().unwrap()
    }

    /// Queues bytes for the peer.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (first, second) = self.connection.writable();
            let head = first.len().min(rest.len());
            let tail = second.len().min(rest.len() - head);
            assert!(head > 0, "no room for {} bytes", rest.len());
            first[..head].copy_from_slice(&rest[..head]);
            second[..tail].copy_from_slice(&rest[head..head + tail]);
            self.connection.commit(head + tail);
            rest = &rest[head + tail..];
        }
    }

    /// Takes all that is readable.
    pub fn read(&mut self) -> Vec<u8> {
        let (first, second) = self.connection.readable();
        let bytes = [first, second].concat();
        self.connection.consume(bytes.len());
        bytes
    }
}

/// Start and length of the data segments among `sent`.
pub fn spans(sent: &[Sent]) -> Vec<(u32, usize)> {
    sent.iter().filter(|sent| !sent.payload.is_empty()).map(|sent| (sent.seq, sent.payload.len())).collect()
}
