//! What the figures have to be: floors that were reached before there was a product, and aims.

use crate::options::{Candidate, Kind};
use crate::table::{Demand, Table};

/// Loss in percent, and what is measured at it, down and up.
pub const WAN: [(f64, [&str; 2], [&str; 2]); 3] = [
    (
        0.0,
        ["WAN down, no loss, Mbit/s", "WAN up, no loss, Mbit/s"],
        ["WAN down, no loss, two streams, Jain", "WAN up, no loss, two streams, Jain"],
    ),
    (
        0.1,
        ["WAN down, 0.1 % loss, Mbit/s", "WAN up, 0.1 % loss, Mbit/s"],
        ["WAN down, 0.1 % loss, two streams, Jain", "WAN up, 0.1 % loss, two streams, Jain"],
    ),
    (
        1.0,
        ["WAN down, 1 % loss, Mbit/s", "WAN up, 1 % loss, Mbit/s"],
        ["WAN down, 1 % loss, two streams, Jain", "WAN up, 1 % loss, two streams, Jain"],
    ),
];

const fn at_most(measure: &'static str, floor: f64, aim: f64) -> Demand {
    Demand { measure, floor: Some(floor), aim: Some(aim), more: false }
}

const fn at_least(measure: &'static str, floor: Option<f64>, aim: Option<f64>) -> Demand {
    Demand { measure, floor, aim, more: true }
}

const AGAINST_WIREGUARD_GO: [Demand; 8] = [
    at_most("TCP down, CPU s/GB", 0.57, 0.45),
    at_most("TCP up, CPU s/GB", 0.57, 0.45),
    at_least("TCP down, Mbit/s", Some(1.5), Some(2.0)),
    at_least("TCP up, Mbit/s", Some(1.5), Some(2.0)),
    at_most("request and response, p50, ms", 1.0, 0.7),
    at_most("connect, request and response, p50, ms", 1.0, 0.7),
    at_most("UDP 300 Mbit/s down, CPU s/GB", 0.5, 0.5),
    at_most("UDP 300 Mbit/s up, CPU s/GB", 0.5, 0.5),
];

const AGAINST_BORINGTUN: [Demand; 2] =
    [at_most("TCP down, CPU s/GB", 0.35, 0.25), at_most("TCP up, CPU s/GB", 0.35, 0.25)];

const BY_ITSELF: [Demand; 4] = [
    at_most("memory at rest, one peer, MiB", 8.0, 4.0),
    at_most("10,000 flows, all up after, s", 10.0, 10.0),
    at_most("10,000 flows, lost", 0.0, 0.0),
    at_most("10,000 flows, memory, MiB", 512.0, 512.0),
];

/// Mbit/s at each loss of [`WAN`].
const WAN_FLOORS: [f64; 3] = [170.0, 165.0, 160.0];
/// Behind a gateway that forwards packets, both ends are the kernel's TCP.
const WAN_OF_KERNEL: f64 = 0.97;
const FAIR: f64 = 0.9;

/// Every demand and whether it is met, as a table.
pub fn judge(table: &Table, candidates: &[Candidate]) -> String {
    let mut text = String::from("| measure | of | figure | floor | aim | |\n|---|---|--:|---|---|---|\n");
    text += &table.ratios(candidates, Kind::WireguardGo, &AGAINST_WIREGUARD_GO);
    text += &table.ratios(candidates, Kind::Boringtun, &AGAINST_BORINGTUN);
    text += &table.bounds(candidates, &BY_ITSELF);
    for ((_, rates, fair), floor) in WAN.iter().zip(WAN_FLOORS) {
        for rate in rates {
            text += &table.bounds(candidates, &[at_least(rate, Some(floor), None)]);
            text +=
                &table.ratios(candidates, Kind::WireguardGo, &[at_least(rate, None, Some(WAN_OF_KERNEL))]);
        }
        for fair in fair {
            text += &table.bounds(candidates, &[at_least(fair, Some(FAIR), None)]);
        }
    }
    text
}
