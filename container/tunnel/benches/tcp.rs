//! CPU time per full segment on the paths that every byte takes: `cargo bench -p ebb-tunnel --bench tcp`.
//!
//! An argument picks the benches whose names contain it. A batch is 48 segments, about what one receive call with GRO or one send with GSO carries.

#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has nothing to report")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{Budget, Connection, Flags, Segment, Seq, Settings, SynInfo};

const BATCH: usize = 48;
const PAYLOAD: usize = 1360;
const ROUNDS: usize = 2_000;

fn header(seq: u32, ack: u32, flags: Flags, options: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(40_000u16.to_be_bytes());
    bytes.extend(80u16.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.push(((20 + options.len()) / 4 * 16) as u8);
    bytes.push(flags.bits());
    bytes.extend(0xffffu16.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes
}

fn open(now: Time) -> Connection {
    let local = SocketAddr::from(([10, 77, 0, 1], 80));
    let remote = SocketAddr::from(([10, 77, 0, 2], 40_000));
    // MSS 1360, SACK permitted, window scale 7.
    let syn = header(999, 0, Flags::SYN, &[2, 4, 0x05, 0x50, 1, 1, 4, 2, 1, 3, 3, 7]);
    let syn = SynInfo::of(&Segment::parse(&syn).unwrap()).unwrap();
    let budget = Budget::new(64 << 20);
    let mut connection = Connection::answer(local, remote, &syn, &Settings::default(), &budget, 4_999, now);
    let mut out = [0; 2048];
    connection.transmit(&mut out, now).unwrap();
    let ack = header(1_000, 5_000, Flags::ACK, &[]);
    connection.receive(&Segment::parse(&ack).unwrap(), Time::from_micros(now.as_micros() + 200));
    connection
}

fn report(name: &str, segments: usize, nanoseconds: f64) {
    println!("{name:44} {:8.1} ns per segment of {PAYLOAD} bytes", nanoseconds / segments as f64);
}

/// The best of several runs: the least disturbed one.
fn best(name: &str, mut run: impl FnMut() -> (usize, f64)) {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let (segments, nanoseconds) =
        (0..60).map(|_| run()).min_by(|a, b| (a.1 / a.0 as f64).total_cmp(&(b.1 / b.0 as f64))).unwrap();
    report(name, segments, nanoseconds);
}

/// Uploads: parse, receive, consume, one acknowledgment per batch.
fn receive() -> (usize, f64) {
    let mut now = Time::ZERO;
    let mut connection = open(now);
    let mut batch: Vec<Vec<u8>> = (0..BATCH)
        .map(|_| {
            let mut bytes = header(0, 5_000, Flags::ACK, &[]);
            bytes.extend([7; PAYLOAD]);
            bytes
        })
        .collect();
    let mut seq = 1_000u32;
    let mut out = [0; 2048];
    let mut spent = 0.0;
    for _ in 0..ROUNDS {
        for bytes in &mut batch {
            bytes[4..8].copy_from_slice(&seq.to_be_bytes());
            seq = seq.wrapping_add(PAYLOAD as u32);
        }
        now = Time::from_micros(now.as_micros() + 100);
        let start = Instant::now();
        for bytes in &batch {
            connection.receive(&Segment::parse(bytes).unwrap(), now);
        }
        let (first, second) = connection.readable();
        let count = first.len() + second.len();
        black_box((first, second));
        connection.consume(count);
        while let Some(length) = connection.transmit(&mut out, now) {
            black_box(&out[..length]);
        }
        spent += start.elapsed().as_nanos() as f64;
        assert_eq!(count, BATCH * PAYLOAD);
    }
    (ROUNDS * BATCH, spent)
}

/// Downloads: commit, segments out with checksums, acknowledgments in; every `lose`th segment is reported lost once.
fn send(lose: usize) -> (usize, f64) {
    let mut now = Time::ZERO;
    let mut connection = open(now);
    let mut out = vec![0; 2048];
    let mut spent = 0.0;
    let mut sent = 0;
    let mut acked = 5_000u32;
    let mut arrived: Vec<(u32, u32)> = Vec::new();
    let mut fill = vec![3u8; 1 << 20];
    let mut counter = 0usize;
    for _ in 0..ROUNDS {
        now = Time::from_micros(now.as_micros() + 100);
        let mut wanted = BATCH * PAYLOAD;
        while wanted > 0 && connection.room() > 0 {
            let (first, second) = connection.writable();
            // As readv does it.
            let head = first.len().min(wanted);
            let tail = second.len().min(wanted - head);
            first[..head].copy_from_slice(&fill[..head]);
            second[..tail].copy_from_slice(&fill[..tail]);
            connection.commit(head + tail);
            wanted -= head + tail;
            if head + tail == 0 {
                break;
            }
        }
        black_box(&mut fill);
        let start = Instant::now();
        let mut segments: [(u32, u32); 4096] = [(0, 0); 4096];
        let mut count = 0;
        while let Some(length) = connection.transmit(&mut out, now) {
            if length > 20 {
                let seq = u32::from_be_bytes([out[4], out[5], out[6], out[7]]);
                segments[count] = (seq, seq.wrapping_add(length as u32 - 20));
                count += 1;
            }
        }
        spent += start.elapsed().as_nanos() as f64;
        sent += count;
        // The receiver, not measured.
        for &(left, right) in &segments[..count] {
            counter += 1;
            if lose == 0 || !counter.is_multiple_of(lose) {
                arrived.push((left, right));
            }
        }
        arrived.sort_unstable_by_key(|&(left, _)| left.wrapping_sub(acked) as i32);
        let mut blocks: Vec<(u32, u32)> = Vec::new();
        arrived.retain(|&(left, right)| {
            if left.wrapping_sub(acked) as i32 <= 0 {
                if right.wrapping_sub(acked) as i32 > 0 {
                    acked = right;
                }
                return false;
            }
            match blocks.last_mut() {
                Some(block) if block.1 == left => block.1 = right,
                _ => blocks.push((left, right)),
            }
            true
        });
        let mut options = Vec::new();
        if !blocks.is_empty() {
            let last = &blocks[blocks.len().saturating_sub(3)..];
            options.extend([1, 1, 5, 2 + 8 * last.len() as u8]);
            for (left, right) in last.iter().rev() {
                options.extend(left.to_be_bytes());
                options.extend(right.to_be_bytes());
            }
        }
        let ack = header(1_000, acked, Flags::ACK, &options);
        now = Time::from_micros(now.as_micros() + 100);
        let start = Instant::now();
        connection.receive(&Segment::parse(&ack).unwrap(), now);
        if connection.deadline().is_some_and(|at| at <= now) {
            connection.expire(now);
        }
        spent += start.elapsed().as_nanos() as f64;
    }
    assert!(sent > ROUNDS * 20, "the connection hardly sent: {:?}", connection.statistics());
    (sent, spent)
}

/// Connections opened and dropped, with one small exchange each.
fn connect() -> (usize, f64) {
    let count = 100_000;
    let mut out = [0; 2048];
    let start = Instant::now();
    for _ in 0..count {
        let now = Time::ZERO;
        let mut connection = open(now);
        let mut request = header(1_000, 5_000, Flags::ACK | Flags::PSH, &[]);
        request.extend([1; 64]);
        connection.receive(&Segment::parse(&request).unwrap(), Time::from_micros(300));
        connection.consume(64);
        let (first, _) = connection.writable();
        first[..64].fill(2);
        connection.commit(64);
        while let Some(length) = connection.transmit(&mut out, Time::from_micros(400)) {
            black_box(&out[..length]);
        }
        black_box(&connection);
    }
    (count, start.elapsed().as_nanos() as f64)
}

fn main() {
    println!("Connection is {} bytes; sequence numbers start at {:?}", size_of::<Connection>(), Seq(5_000));
    best("receive: parse, store, consume, 1 ACK/batch", receive);
    best("send: segment, checksum, ACK in", || send(0));
    best("send with 1 % of segments lost", || send(100));
    let (count, nanoseconds) = connect();
    println!("{:44} {:8.1} ns per connection", "open, one exchange, drop", nanoseconds / count as f64);
}
