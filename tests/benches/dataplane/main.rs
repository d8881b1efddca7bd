//! The data plane of gateways, side by side: `tests/bench-dataplane` starts it and explains the options.
//!
//! Everything runs between three network namespaces for each gateway, with the same client and the same load. In each round every
//! measure without loss and delay is taken of one gateway right after the other, since the speed of a machine drifts. Cost is the
//! CPU time of the gateway's process alone; what the kernel forwards and translates for a gateway with a TUN device outside of its
//! process is not charged to it, so their costs flatter.
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
#![expect(clippy::unwrap_used, reason = "a bench ends where its world is not as it says")]

mod demands;
mod flows;
mod gateway;
mod load;
mod options;
mod table;

use std::time::Duration;

use ebb_tests::e2e::World;
use ebb_tests::e2e::relay::Line;

use crate::gateway::Bed;
use crate::load::Direction;
use crate::options::{Candidate, Kind, Options};
use crate::table::Table;

const FLOWS: usize = 10_000;

/// 40 ms there and back, 200 Mbit/s, and a queue of about one bandwidth-delay product.
const WAN: Line = Line { delay: Duration::from_millis(20), rate: 200_000_000, queue: 1_024_000, loss: 0.0 };

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_some_and(|first| first == flows::SERVE) {
        flows::serve(&arguments.next().unwrap());
    }
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => return println!("{}", options::USAGE),
        Err(error) => {
            println!("{error}\n\n{}", options::USAGE);
            std::process::exit(2);
        }
    };
    let mut table = Table::default();
    for round in 0..options.rounds {
        if options.wants("lan") {
            lan(&options, |measure, index, figure| table.add(measure, index, figure));
        }
        for (index, candidate) in options.candidates.iter().enumerate() {
            // Both ends of a stream through either gateway with NAT are the kernel's; one of them says what those can do.
            if options.wants("wan") && candidate.kind != Kind::Boringtun {
                wan(&options, candidate, round, |measure, figure| table.add(measure, index, figure));
            }
            if options.wants("flows") && candidate.kind == Kind::Ebb {
                on(&options, candidate, None, |bed| {
                    many(&options, bed, |measure, figure| table.add(measure, index, figure));
                });
            }
        }
    }
    if options.quick {
        return println!("bench-dataplane: it starts; nothing was measured");
    }
    let [lan, wan] = [false, true].map(|wan| load::control(wan).unwrap_or("the kernel's default"));
    println!("kernel TCP at both ends: {lan} on the LAN, {wan} on the WAN\n");
    println!("{}", table.medians(&options.candidates));
    print!("{}", demands::judge(&table, &options.candidates));
}

/// Builds a world around a gateway and does something in it.
fn on(options: &Options, candidate: &Candidate, line: Option<(Line, u64)>, work: impl FnOnce(&Bed<'_>)) {
    let Some(world) = World::build(&candidate.program.display().to_string()) else { return };
    work(&Bed::new(&world, candidate, options.client.as_deref(), line));
}

/// All gateways run at once, and wait while one of them is measured.
fn lan(options: &Options, mut add: impl FnMut(&'static str, usize, f64)) {
    let build = |candidate: &Candidate| World::build(&candidate.program.display().to_string());
    let Some(worlds) = options.candidates.iter().map(build).collect::<Option<Vec<_>>>() else { return };
    let beds: Vec<_> = worlds
        .iter()
        .zip(&options.candidates)
        .map(|(world, one)| Bed::new(world, one, options.client.as_deref(), None))
        .collect();
    let mut of_each = |measure: &mut dyn FnMut(&Bed<'_>) -> Vec<(&'static str, f64)>| {
        for (index, bed) in beds.iter().enumerate() {
            for (name, figure) in measure(bed) {
                add(name, index, figure);
            }
        }
    };
    of_each(&mut |bed| vec![("memory at rest, one peer, MiB", bed.memory("VmRSS"))]);
    of_each(&mut |bed| {
        vec![("request and response, p50, ms", load::requests(bed, options.time(2.0)).median())]
    });
    of_each(&mut |bed| {
        let connects = load::connects(bed, options.time(2.0));
        vec![
            ("connect, request and response, p50, ms", connects.median()),
            ("connect, request and response, per second", connects.rate()),
        ]
    });
    for direction in Direction::BOTH {
        let [cpu, rate] = match direction {
            Direction::Down => ["TCP down, CPU s/GB", "TCP down, Mbit/s"],
            Direction::Up => ["TCP up, CPU s/GB", "TCP up, Mbit/s"],
        };
        of_each(&mut |bed| {
            let cost = load::bulk(bed, direction, options.time(0.7), options.time(3.0));
            vec![(cpu, cost.seconds_per_gb()), (rate, cost.mbit())]
        });
    }
    for direction in Direction::BOTH {
        let [cpu, share] = match direction {
            Direction::Down => ["UDP 300 Mbit/s down, CPU s/GB", "UDP 300 Mbit/s down, lost, %"],
            Direction::Up => ["UDP 300 Mbit/s up, CPU s/GB", "UDP 300 Mbit/s up, lost, %"],
        };
        of_each(&mut |bed| {
            let (cost, lost) = load::datagrams(bed, direction, options.time(0.3), options.time(2.0));
            vec![(cpu, cost.seconds_per_gb()), (share, lost * 100.0)]
        });
    }
    of_each(&mut |bed| vec![("memory at most, MiB", bed.memory("VmHWM"))]);
}

fn wan(options: &Options, candidate: &Candidate, round: u32, mut add: impl FnMut(&'static str, f64)) {
    for (loss, [down, up], [fair_down, fair_up]) in demands::WAN {
        let line = Line { loss: loss / 100.0, ..WAN };
        on(options, candidate, Some((line, u64::from(round))), |bed| {
            for (direction, rate, fair) in [(Direction::Down, down, fair_down), (Direction::Up, up, fair_up)]
            {
                let time = options.time(8.0);
                add(rate, load::bulk_from_the_start(bed, direction, time).mbit());
                let shares = load::share(bed, direction, 2, options.time(12.0));
                add(fair, jain(&shares));
            }
        });
    }
}

/// Jain's fairness index: 1 when all have the same, 1/n when one has all.
fn jain(shares: &[f64]) -> f64 {
    let (sum, squares) =
        shares.iter().fold((0.0, 0.0), |(sum, squares), share| (sum + share, squares + share * share));
    sum * sum / (shares.len() as f64 * squares)
}

fn many(options: &Options, bed: &Bed<'_>, mut add: impl FnMut(&'static str, f64)) {
    let count = if options.quick { FLOWS / 100 } else { FLOWS };
    let outcome = flows::run(bed, count);
    assert!(!options.quick || outcome.lost == 0, "{outcome:?}");
    add("10,000 flows, all up after, s", outcome.up);
    add("10,000 flows, lost", outcome.lost as f64);
    add("10,000 flows, memory, MiB", outcome.memory);
}
