//! Any sequence of segments, calls and pauses. The fuzz target and a property test share it.

use std::net::SocketAddr;
use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{
    Budget, Connection, Flags, Options, Segment, Seq, Settings, State, SynInfo, Timestamps,
};

const RING_MAX: usize = 64 << 10;

/// Reads numbers off the input; zero when it is spent.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn word(&mut self) -> u32 {
        u32::from(self.half()) << 16 | u32::from(self.half())
    }

    /// Mostly near zero, sometimes anywhere: what makes a segment interesting is being almost right.
    fn offset(&mut self) -> u32 {
        match self.byte() {
            0..=99 => 0,
            100..=149 => u32::from(self.byte()),
            150..=189 => (i32::from(self.half() as i16)) as u32,
            190..=239 => u32::from(self.half()),
            _ => self.word(),
        }
    }
}

fn options(input: &mut Input<'_>, next: Seq) -> Options {
    let mut options = Options::default();
    let which = input.byte();
    if which & 1 != 0 {
        options.mss = Some(input.half());
    }
    if which & 2 != 0 {
        options.window_scale = Some(input.byte() % 15);
    }
    options.sack_permitted = which & 4 != 0;
    if which & 8 != 0 {
        options.timestamps = Some(Timestamps { value: input.word(), echo: input.word() });
    }
    if which & 16 != 0 {
        for _ in 0..input.byte() % 5 {
            let left = next.plus(input.offset());
            options.sack.push(left, left.plus(input.offset()));
        }
    }
    options
}

/// Runs a connection through what `bytes` spell out and checks what must hold whatever they are: it does not panic, memory
/// is bounded, sending comes to an end, no timer fires twice at once, no more is readable than was promised, and the budget
/// gets everything back.
pub fn fuzz_connection(bytes: &[u8]) {
    let mut input = Input(bytes);
    let local = SocketAddr::from(([10, 77, 0, 1], 80));
    let remote = SocketAddr::from(([10, 77, 0, 2], 40_000));
    let kind = input.byte();
    let settings = Settings {
        ring_min: 1 << 10,
        ring_max: RING_MAX,
        timestamps: kind & 2 != 0,
        mtu: if kind & 4 != 0 { 1420 } else { 576 },
        ..Settings::default()
    };
    let budget = Budget::new(if kind & 8 != 0 { 20 << 10 } else { 1 << 20 });
    let mut now = Time::from_millis(u64::from(input.half()));
    let isn = input.word();
    let mut theirs = Seq(input.word());
    let mut connection = if kind & 1 != 0 {
        Connection::open(local, remote, &settings, &budget, isn, now)
    } else {
        let syn = SynInfo { seq: theirs, window: input.half(), options: options(&mut input, theirs) };
        theirs = theirs.plus(1);
        Connection::answer(local, remote, &syn, &settings, &budget, isn, now)
    };
    let mut out = [0; 2048];
    // Where our end is, as its segments say.
    let mut ours = Seq(isn);
    let payload = [0x5a; 2048];
    while !input.0.is_empty() {
        match input.byte() % 16 {
            0..=6 => {
                let seq = theirs.plus(input.offset());
                let flags = match input.byte() {
                    0..=127 => Flags::ACK,
                    128..=159 => Flags::ACK | Flags::FIN,
                    160..=191 => Flags::SYN | Flags::ACK,
                    other => Flags::from_bits(other),
                };
                let length = match input.byte() {
                    0..=63 => 0,
                    64..=191 => usize::from(input.byte()),
                    _ => usize::from(input.half()) % payload.len(),
                };
                let segment = Segment {
                    source_port: 40_000,
                    destination_port: 80,
                    seq,
                    ack: ours.plus(input.offset()),
                    flags,
                    window: input.half(),
                    options: options(&mut input, ours),
                    payload: &payload[..length],
                };
                connection.receive(&segment, now);
            }
            7 | 8 => {
                now += Duration::from_micros(u64::from(input.half()) * u64::from(input.byte()));
                connection.expire(now);
            }
            9 => {
                if let Some(at) = connection.deadline() {
                    now = now.max(at);
                    connection.expire(now);
                }
            }
            10 => connection.consume(usize::from(input.half())),
            11 | 12 => {
                let (first, second) = connection.writable();
                let space = first.len() + second.len();
                connection.commit(space.min(usize::from(input.half())));
            }
            13 if input.byte() < 64 => connection.finish(),
            14 if input.byte() < 8 => connection.abort(),
            _ => {}
        }
        let mut count = 0;
        while let Some(length) = connection.transmit(&mut out, now) {
            let segment = Segment::parse(&out[..length]).expect("our own segments parse");
            if !segment.flags.contains(Flags::RST) {
                ours = segment.seq.plus(segment.sequence_length());
                if segment.flags.contains(Flags::ACK) {
                    theirs = segment.ack;
                }
            }
            count += 1;
            assert!(count < 5_000, "sending does not end");
        }
        connection.expire(now);
        while connection.transmit(&mut out, now).is_some() {}
        let deadline = connection.deadline();
        assert!(deadline.is_none_or(|at| at > now), "at {now:?} a timer fires for ever: {connection:?}");
        let (first, second) = connection.readable();
        assert!(first.len() + second.len() <= RING_MAX);
        let statistics = connection.statistics();
        assert!(statistics.memory <= (2 * RING_MAX + (512 << 10)) as u64, "{statistics:?}");
        assert!(budget.used() <= budget.limit());
        let _ = (connection.room(), connection.remote_finished(), connection.local_finished());
    }
    if connection.state() == State::Closed {
        assert!(connection.ended().is_some() && connection.deadline().is_none());
    }
    drop(connection);
    assert_eq!(budget.used(), 0);
}
