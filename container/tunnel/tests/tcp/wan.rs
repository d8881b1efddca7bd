//! Goodput on emulated paths.

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{Budget, Settings, Statistics};

use crate::sim::app::{App, Script};
use crate::sim::host::Ours;
use crate::sim::link::Conditions;
use crate::sim::observer::Observer;
use crate::sim::reference::{Manners, Reference};
use crate::sim::{Host, World};

/// Who sends, and who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    /// Our gateway sends to a client such as a kernel.
    GatewayToClient,
    /// Our client sends to our gateway.
    OursToGateway,
}

/// A path, the same both ways.
#[derive(Clone, Debug)]
struct Path {
    /// Round trip in microseconds.
    rtt: u64,
    /// Bits per second.
    rate: u64,
    queue: u64,
    loss: f64,
    /// Microseconds between batches at our end.
    batch: u64,
}

impl Path {
    fn conditions(&self) -> Conditions {
        Conditions {
            delay: self.rtt / 2,
            rate: self.rate,
            queue: self.queue,
            loss: self.loss,
            ..Conditions::default()
        }
    }
}

/// What came of one stream.
#[derive(Debug)]
struct Outcome {
    /// Mbit/s of payload over the whole time, the handshake and slow start included.
    goodput: f64,
    statistics: Statistics,
}

fn add_stream(world: &mut World, pair: Pair, path: &Path, index: u16, start: Time) -> (usize, usize) {
    let port = 40_000 + index;
    let settings = Settings::default();
    let budget = Budget::new(64 << 20);
    let bulk = Script { write: u64::MAX / 2, ..Script::default() };
    let quiet = Script { finishes: false, ..Script::default() };
    let (down, up) = match pair {
        Pair::GatewayToClient => (bulk, quiet),
        Pair::OursToGateway => (quiet, bulk),
    };
    let isn = 0xffff_0000u32.wrapping_add(u32::from(index).wrapping_mul(0x9e37_79b9));
    let gateway = Ours::passive(port, settings.clone(), budget.clone(), isn, 0);
    let watch = |seed| Some(Observer::new(seed, 1420, 4 << 20));
    let gateway = Host::new(Box::new(gateway), App::new(down, 1, 2), watch(1)).with_batch(path.batch);
    let client = match pair {
        Pair::OursToGateway => {
            let ours = Ours::active(port, settings, budget, 77, start);
            Host::new(Box::new(ours), App::new(up, 2, 1), watch(2)).with_batch(path.batch)
        }
        Pair::GatewayToClient => {
            let peer = Reference::new(port, true, 0x7fff_ff00, Manners::default());
            Host::new(Box::new(peer), App::new(up, 2, 1), None)
        }
    };
    world.connect(gateway, client, start)
}

fn streams(
    pair: Pair,
    path: &Path,
    count: u16,
    stagger: u64,
    seconds: u64,
    seed: u64,
) -> (Vec<Outcome>, World) {
    let conditions = path.conditions();
    let mut world = World::new(conditions.clone(), conditions, seed);
    let mut ends = Vec::new();
    for index in 0..count {
        let start = Time::from_micros(u64::from(index) * stagger);
        ends.push((add_stream(&mut world, pair, path, index, start), start));
    }
    world.run_for_all(Time::from_millis(seconds * 1000));
    let outcomes = ends
        .into_iter()
        .map(|((gateway, client), start)| {
            let (sender, receiver) = match pair {
                Pair::GatewayToClient => (gateway, client),
                Pair::OursToGateway => (client, gateway),
            };
            let read = world.hosts[receiver].app.read;
            let elapsed = world.now.since(start).as_secs_f64();
            let statistics = world.hosts[sender]
                .endpoint
                .connection()
                .or(world.hosts[receiver].endpoint.connection())
                .map(ebb_tunnel::tcp::Connection::statistics)
                .unwrap();
            Outcome { goodput: read as f64 * 8.0 / elapsed / 1e6, statistics }
        })
        .collect();
    (outcomes, world)
}

#[test]
#[ignore = "prints a timeline"]
fn timeline() {
    let get = |name: &str, default: f64| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let path = Path {
        rtt: get("RTT", 40_000.0) as u64,
        rate: get("RATE", 200e6) as u64,
        queue: get("QUEUE", 1_024_000.0) as u64,
        loss: get("LOSS", 0.0),
        batch: get("BATCH", 0.0) as u64,
    };
    let pair = if get("UP", 0.0) > 0.0 { Pair::OursToGateway } else { Pair::GatewayToClient };
    let mut world = World::new(path.conditions(), path.conditions(), get("SEED", 7.0) as u64);
    let count = get("COUNT", 1.0) as u16;
    let ends: Vec<_> = (0..count)
        .map(|index| {
            let start = Time::from_micros(u64::from(index) * get("STAGGER", 0.0) as u64);
            add_stream(&mut world, pair, &path, index, start)
        })
        .collect();
    let step = get("STEP", 100.0) as u64;
    let mut before = vec![0; ends.len()];
    for tick in 1..=(get("SECONDS", 8.0) * 1000.0) as u64 / step {
        world.run_for_all(Time::from_millis(tick * step));
        for (index, &(gateway, client)) in ends.iter().enumerate() {
            let (sender, receiver) =
                if pair == Pair::GatewayToClient { (gateway, client) } else { (client, gateway) };
            let read = world.hosts[receiver].app.read;
            let Some(connection) = world.hosts[sender].endpoint.connection() else { continue };
            let s = connection.statistics();
            println!(
                "{:6} #{index} {:7.1} Mbit/s {:16} cwnd {:8} flight {:8} bw {:7.1} pace {:7.1} rtt {:?} min {:?} retx {} drops {} rto {} spurious {} lost {}",
                tick * step,
                (read - before[index]) as f64 * 8.0 / step as f64 / 1000.0,
                s.phase,
                s.congestion_window,
                s.in_flight,
                s.bandwidth as f64 * 8e-6,
                s.pacing_rate as f64 * 8e-6,
                s.srtt.unwrap_or_default(),
                s.min_rtt.unwrap_or_default(),
                s.retransmits,
                world.links[0].dropped_at_tail + world.links[1].dropped_at_tail,
                s.timeouts,
                s.spurious_retransmits,
                world.links[if pair == Pair::GatewayToClient { 0 } else { 1 }].lost,
            );
            before[index] = read;
        }
    }
    println!("{:.1}", before.iter().sum::<u64>() as f64 * 8e-6 / get("SECONDS", 8.0));
}

fn jain(outcomes: &[Outcome]) -> f64 {
    let sum: f64 = outcomes.iter().map(|outcome| outcome.goodput).sum();
    let squares: f64 = outcomes.iter().map(|outcome| outcome.goodput * outcome.goodput).sum();
    sum * sum / (outcomes.len() as f64 * squares)
}

const WAN: Path = Path { rtt: 40_000, rate: 200_000_000, queue: 1_024_000, loss: 0.0, batch: 0 };

/// Mbit/s of one stream in its first eight seconds at each share of random loss.
const FLOORS: [(f64, f64); 3] = [(0.0, 170.0), (0.001, 165.0), (0.01, 160.0)];

#[test]
fn one_stream_fills_a_long_and_lossy_line() {
    for (loss, floor) in FLOORS {
        for pair in [Pair::GatewayToClient, Pair::OursToGateway] {
            let (outcomes, _) = streams(pair, &Path { loss, ..WAN }, 1, 0, 8, 5);
            let goodput = outcomes[0].goodput;
            assert!(goodput >= floor, "{pair:?}, loss {loss}: {goodput:.1} Mbit/s");
        }
    }
}

#[test]
fn a_burst_of_loss_in_the_first_moments_costs_a_stream_seconds_and_no_more() {
    for loss in [0.0, 0.01] {
        for pair in [Pair::GatewayToClient, Pair::OursToGateway] {
            let path = Path { loss, ..WAN };
            let mut world = World::new(path.conditions(), path.conditions(), 7);
            let (gateway, client) = add_stream(&mut world, pair, &path, 0, Time::ZERO);
            let (link, receiver) = if pair == Pair::GatewayToClient { (0, client) } else { (1, gateway) };
            world.run_for_all(Time::from_millis(150));
            world.links[link].conditions.loss = 1.0;
            world.run_for_all(Time::from_millis(170));
            world.links[link].conditions.loss = loss;
            world.run_for_all(Time::from_millis(2500));
            let before = world.hosts[receiver].app.read;
            world.run_for_all(Time::from_millis(3500));
            let goodput = (world.hosts[receiver].app.read - before) as f64 * 8e-6;
            assert!(goodput >= 120.0, "{pair:?}, loss {loss}: {goodput:.1} Mbit/s");
        }
    }
}

#[test]
fn two_streams_that_begin_together_share_the_line() {
    for (pair, queue) in [(Pair::GatewayToClient, WAN.queue), (Pair::OursToGateway, 50_000)] {
        let (outcomes, _) = streams(pair, &Path { queue, ..WAN }, 2, 0, 12, 5);
        let jain = jain(&outcomes);
        assert!(jain >= 0.9, "{pair:?}, queue {queue}: {jain:.3}");
    }
}

#[test]
#[ignore = "prints the table"]
fn table() {
    let get = |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let seeds = get("SEEDS", 3);
    let cases: Vec<(&str, Path, u16, u64)> = vec![
        ("wan 0", WAN, 1, 8),
        ("wan 0.1%", Path { loss: 0.001, ..WAN }, 1, 8),
        ("wan 1%", Path { loss: 0.01, ..WAN }, 1, 8),
        ("wan 5%", Path { loss: 0.05, ..WAN }, 1, 8),
        ("wan 50 KB queue", Path { queue: 50_000, ..WAN }, 1, 8),
        ("wan 50 KB queue x2", Path { queue: 50_000, ..WAN }, 2, 12),
        ("wan x2", WAN, 2, 12),
        ("wan x2 1%", Path { loss: 0.01, ..WAN }, 2, 12),
        ("wan x4", WAN, 4, 12),
        ("10M 200ms", Path { rtt: 200_000, rate: 10_000_000, queue: 250_000, ..WAN }, 1, 20),
        ("10M 200ms 1%", Path { rtt: 200_000, rate: 10_000_000, queue: 250_000, loss: 0.01, ..WAN }, 1, 20),
        ("1G 5ms", Path { rtt: 5_000, rate: 1_000_000_000, queue: 625_000, ..WAN }, 1, 2),
        ("1G 5ms 0.1%", Path { rtt: 5_000, rate: 1_000_000_000, queue: 625_000, loss: 0.001, ..WAN }, 1, 2),
        ("lan 10G 100us", Path { rtt: 100, rate: 10_000_000_000, queue: 4_000_000, batch: 50, ..WAN }, 1, 1),
        (
            "lan 10G 100us batch 500",
            Path { rtt: 100, rate: 10_000_000_000, queue: 4_000_000, batch: 500, ..WAN },
            1,
            1,
        ),
        ("2M 50ms", Path { rtt: 50_000, rate: 2_000_000, queue: 64_000, ..WAN }, 1, 20),
    ];
    let only = std::env::var("CASE").ok();
    for (name, path, count, seconds) in cases {
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        for pair in [Pair::GatewayToClient, Pair::OursToGateway] {
            for seed in 0..seeds {
                let (outcomes, world) = streams(pair, &path, count, 0, seconds, seed);
                let link = &world.links[if pair == Pair::GatewayToClient { 0 } else { 1 }];
                let sum: f64 = outcomes.iter().map(|outcome| outcome.goodput).sum();
                println!(
                    "{name:24} {pair:?} seed {seed}: {sum:.1} Mbit/s, jain {:.3}, tail drops {:.2} %, backlog {} KB, timeouts {}, memory {} KB",
                    jain(&outcomes),
                    link.dropped_at_tail as f64 * 100.0 / link.offered as f64,
                    link.backlog_max / 1000,
                    outcomes.iter().map(|outcome| outcome.statistics.timeouts).sum::<u64>(),
                    outcomes[0].statistics.memory / 1024,
                );
            }
        }
    }
}

#[test]
#[ignore = "prints fairness for flows that start apart"]
fn staggered() {
    for (queue, loss) in [(1_024_000, 0.0), (1_024_000, 0.001), (1_024_000, 0.01), (50_000, 0.0)] {
        for pair in [Pair::GatewayToClient, Pair::OursToGateway] {
            let mut line = String::new();
            for stagger in [1_000, 20_000, 50_000, 100_000, 200_000, 400_000, 1_000_000] {
                let (outcomes, _) = streams(pair, &Path { queue, loss, ..WAN }, 2, stagger, 12, 3);
                let sum: f64 = outcomes.iter().map(|outcome| outcome.goodput).sum();
                line += &format!("  {}ms {:.2} ({sum:.0})", stagger / 1000, jain(&outcomes));
            }
            println!("Mbit {pair:?} queue {queue} loss {loss}:{line}");
        }
    }
}
