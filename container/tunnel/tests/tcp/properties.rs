//! What holds for every network, every application and every peer: bytes out are bytes in, every run ends, and nobody objects
//! on the wire. Each seed is one world.

use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{Budget, End, Settings, State};

use crate::sim::app::{App, Script};
use crate::sim::host::{Endpoint, Ours};
use crate::sim::link::Conditions;
use crate::sim::observer::Observer;
use crate::sim::reference::{Manners, Reference};
use crate::sim::rng::Rng;
use crate::sim::{Host, World};

/// Names the seed when a test fails in it.
struct Named(&'static str, u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed: {} with seed {}", self.0, self.1);
        }
    }
}

/// Runs `world` for each seed; `TCP_SEED` picks one.
fn for_seeds(name: &'static str, count: u64, run: impl Fn(u64)) {
    let one = std::env::var("TCP_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in one.map_or(0..count, |seed: u64| seed..seed + 1) {
        let _named = Named(name, seed);
        run(seed);
    }
}

fn conditions(rng: &mut Rng) -> Conditions {
    let rate = rng.pick(&[0, 300_000, 2_000_000, 20_000_000, 200_000_000, 1_000_000_000]);
    let harsh = rng.chance(0.5);
    Conditions {
        delay: rng.pick(&[0, 50, 1_000, 10_000, 40_000, 150_000]),
        rate,
        queue: rng.pick(&[6_000, 30_000, 200_000, 2_000_000]),
        loss: if harsh { rng.pick(&[0.0, 0.001, 0.01, 0.05, 0.2]) } else { 0.0 },
        reorder: if harsh { rng.pick(&[0.0, 0.01, 0.2]) } else { 0.0 },
        reorder_by: rng.pick(&[200, 5_000, 60_000]),
        duplicate: if harsh { rng.pick(&[0.0, 0.01, 0.2]) } else { 0.0 },
        ..Conditions::default()
    }
}

fn script(rng: &mut Rng, slowest: u64) -> Script {
    // As much as the slower link carries in some seconds, so that a run takes about the same time anywhere.
    let most = if slowest == 0 { 3_000_000 } else { (slowest / 8 * 4).min(3_000_000) };
    let write = match rng.below(6) {
        0 => 0,
        1 => rng.between(1, 10),
        2 | 3 => rng.between(1, 20_000),
        _ => rng.between(1, most),
    };
    let slow = write.max(1) / rng.between(1, 8) + 1_000;
    Script {
        write,
        write_rate: if rng.chance(0.2) { slow } else { 0 },
        chunk: rng.pick(&[1, 7, 100, 1_380, 16_384, 65_536, 1 << 20]),
        read_rate: if rng.chance(0.2) { most / rng.between(2, 20) + 2_000 } else { 0 },
        read_from: Time::from_millis(if rng.chance(0.2) { rng.below(8_000) } else { 0 }),
        write_after: 0,
        write_from: Time::from_millis(if rng.chance(0.2) { rng.below(5_000) } else { 0 }),
        finishes: true,
    }
}

fn settings(rng: &mut Rng) -> Settings {
    Settings {
        mtu: rng.pick(&[576, 1280, 1420, 1420, 1500]),
        ring_min: rng.pick(&[4 << 10, 16 << 10]),
        ring_max: rng.pick(&[32 << 10, 256 << 10, 4 << 20]),
        timestamps: rng.chance(0.2),
        time_wait: Duration::from_secs(2),
        ..Settings::default()
    }
}

fn manners(rng: &mut Rng) -> Manners {
    let shift = rng.pick(&[None, Some(1), Some(7), Some(10)]);
    Manners {
        mss: rng.pick(&[100, 536, 1_240, 1_380, 1_380, 1_460]),
        names_mss: rng.chance(0.95),
        buffer: rng.pick(&[1_500, 10_000, 65_535, 1 << 20, 4 << 20]),
        shift,
        sacks: rng.chance(0.85),
        timestamps: rng.chance(0.3),
        acks_at_once: rng.chance(0.3),
        ack_delay: rng.pick(&[1_000, 40_000, 200_000]),
        window: None,
    }
}

/// Numbers on both sides of every wrap that matters.
fn isn(rng: &mut Rng) -> u32 {
    let near: u32 = rng.pick(&[0, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000]);
    near.wrapping_sub(rng.below(100_000) as u32)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pairing {
    GatewayAndClient,
    ClientOfOursAndServer,
    OursBoth,
    BothOpen,
}

fn run_world(seed: u64, pairing: Pairing) {
    let mut rng = Rng::new(seed);
    let down = conditions(&mut rng);
    let mut up = conditions(&mut rng);
    if rng.chance(0.5) {
        up = down.clone();
    }
    let harsh = down.loss.max(up.loss) >= 0.05;
    let slowest = [down.rate, up.rate].into_iter().filter(|&rate| rate > 0).min().unwrap_or(0);
    let mut world = World::new(down, up, rng.next());
    let mut first = script(&mut rng, slowest);
    let mut second = script(&mut rng, slowest);
    // Request and response, either way round.
    match rng.below(4) {
        0 => first.write_after = second.write,
        1 => second.write_after = first.write,
        _ => {}
    }
    first.read_rate = first.read_rate.max(if first.read_rate > 0 { second.write / 30 + 1 } else { 0 });
    second.read_rate = second.read_rate.max(if second.read_rate > 0 { first.write / 30 + 1 } else { 0 });
    let (settings_a, settings_b) = (settings(&mut rng), settings(&mut rng));
    let manners = manners(&mut rng);
    if !manners.sacks || manners.mss < 500 || manners.buffer < 10_000 {
        // Such a peer repairs one loss per round trip, or a timeout.
        first.write = first.write.min(100_000);
        second.write = second.write.min(100_000);
    }
    if harsh {
        // CUBIC crawls at such loss.
        match pairing {
            Pairing::GatewayAndClient => second.write = second.write.min(200_000),
            Pairing::ClientOfOursAndServer => first.write = first.write.min(200_000),
            _ => {}
        }
    }
    first.write_after = first.write_after.min(second.write);
    second.write_after = second.write_after.min(first.write);
    let budget = Budget::new(rng.pick(&[512 << 10, 64 << 20]));
    let watch = |seed, settings: &Settings| {
        Some(Observer::new(seed, settings.mtu, settings.ring_max.next_power_of_two()))
    };
    let connect = rng.pick(&[0, 0, 30_000, 1_500_000]);
    let (isn_a, isn_b) = (isn(&mut rng), isn(&mut rng));
    let now = Time::ZERO;
    let batch = rng.pick(&[0, 0, 100, 2_000]);
    let a: Box<dyn Endpoint> = match pairing {
        Pairing::GatewayAndClient | Pairing::OursBoth => {
            Box::new(Ours::passive(40_000, settings_a.clone(), budget.clone(), isn_a, connect))
        }
        Pairing::BothOpen => Box::new(Ours::opening(40_000, settings_a.clone(), budget.clone(), isn_a, now)),
        Pairing::ClientOfOursAndServer => Box::new(Reference::new(40_000, false, isn_a, manners.clone())),
    };
    let b: Box<dyn Endpoint> = match pairing {
        Pairing::GatewayAndClient => Box::new(Reference::new(40_000, true, isn_b, manners)),
        _ => Box::new(Ours::active(40_000, settings_b.clone(), budget.clone(), isn_b, now)),
    };
    let watch_a = (pairing != Pairing::ClientOfOursAndServer).then(|| watch(1, &settings_a)).flatten();
    let watch_b = (pairing != Pairing::GatewayAndClient).then(|| watch(2, &settings_b)).flatten();
    let (out, back) = (first.write, second.write);
    let host_a = Host::new(a, App::new(first, 1, 2), watch_a).with_batch(batch);
    let host_b = Host::new(b, App::new(second, 2, 1), watch_b).with_batch(batch);
    let (a, b) = world.connect(host_a, host_b, now);

    let over = world.run(Time::from_millis(900_000));
    let states: Vec<_> = [a, b]
        .iter()
        .map(|&host| world.hosts[host].endpoint.connection().map(|c| (c.state(), c.ended(), c.statistics())))
        .collect();
    assert!(
        over,
        "still running at {:?}: {states:?}, read {} of {back} and {} of {out}",
        world.now, world.hosts[a].app.read, world.hosts[b].app.read
    );
    assert_eq!(world.hosts[b].app.read, out, "{states:?}");
    assert_eq!(world.hosts[a].app.read, back, "{states:?}");
    for host in [a, b] {
        let Some(connection) = world.hosts[host].endpoint.connection() else { continue };
        // A last acknowledgment may be lost until the other end has left TIME-WAIT; a RST then answers the FIN, after
        // every byte has arrived.
        assert!(matches!(connection.ended(), None | Some(End::Finished | End::Reset)), "{states:?}");
    }
    // Whoever is in TIME-WAIT leaves it, and every byte of memory comes back.
    world.run_for_all(Time::from_micros(world.now.as_micros() + 30_000_000));
    for host in [a, b] {
        let Some(connection) = world.hosts[host].endpoint.connection() else { continue };
        assert_eq!(connection.state(), State::Closed, "{states:?}");
    }
    drop(world);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_gateway_and_any_client_exchange_every_byte() {
    for_seeds("gateway", 1_500, |seed| run_world(seed, Pairing::GatewayAndClient));
}

#[test]
fn our_client_and_any_server_exchange_every_byte() {
    for_seeds("client", 1_000, |seed| run_world(seed, Pairing::ClientOfOursAndServer));
}

#[test]
fn two_of_ours_exchange_every_byte() {
    for_seeds("both", 1_500, |seed| run_world(seed, Pairing::OursBoth));
}

#[test]
fn two_of_ours_that_open_at_the_same_time_exchange_every_byte() {
    for_seeds("simultaneous", 500, |seed| run_world(seed, Pairing::BothOpen));
}
