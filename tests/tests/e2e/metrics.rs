//! What Prometheus reads.

use std::fs;
use std::process::Command;

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::world::SERVER;
use ebb_tests::e2e::{Client, Daemon, Download, World, eventually};

use crate::{home, world};

/// Names of `prometheus_wireguard_exporter` and of `wireguard_exporter`, on which people have built dashboards.
const EXPORTERS: [&str; 9] = [
    "wireguard_sent_bytes_total",
    "wireguard_received_bytes_total",
    "wireguard_latest_handshake_seconds",
    "wireguard_device_info",
    "wireguard_peer_info",
    "wireguard_peer_allowed_ips_info",
    "wireguard_peer_receive_bytes_total",
    "wireguard_peer_transmit_bytes_total",
    "wireguard_peer_last_handshake_seconds",
];

/// The value of every sample whose name and labels contain all of `parts`.
fn samples(text: &str, name: &str, parts: &[&str]) -> Vec<f64> {
    let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let lines = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.map(|line| line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).unwrap()).collect()
}

fn check(world: &World, text: &str) {
    let file = world.path("exposition");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("sh");
    command.args(["-ec", &format!("promtool check metrics < {}", file.display())]);
    let output = world.run(&world.host, command).success();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "promtool has no complaint");
}

#[test]
fn the_metrics_are_well_formed_and_tell_the_truth() {
    let Some(world) = world() else { return };
    let region = world.region();
    let second = &format!("  - {{ name: work, users: [bob], region: {region}, port: 41821 }}\n");
    let document = home(&["alice"], "").replace("sessions:\n", "  - name: bob\nsessions:\n") + second;
    let daemon = Daemon::with_document(&world, &document);
    daemon.await_state("home", StateName::Active, SOON);
    daemon.await_state("work", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    let began = daemon.status().at.as_second();
    let length = 5 << 20;
    Download::start(&alice, SERVER, length).finish();

    let text = eventually("the download shows", SOON * 2, || {
        let (status, text) = daemon.get("/metrics");
        assert_eq!(status, 200);
        let sent: f64 =
            samples(&text, "wireguard_sent_bytes_total", &["friendly_name=\"alice\""]).iter().sum();
        if sent > length as f64 { Ok(text) } else { Err(format!("{sent} bytes")) }
    });
    check(&world, &text);
    for name in EXPORTERS {
        assert!(!samples(&text, name, &[]).is_empty(), "{name} is missing");
    }
    let key = daemon.session("home").unwrap().users[0].public_key.unwrap().to_string();
    let region = format!("region=\"{region}\"");
    let set_a = ["interface=\"home\"", "session=\"home\"", &region, "allowed_ips=\"10.8.0.2/32,", &key];
    let set_b = ["device=\"home\"", &key];
    let one = |name: &str, labels: &[&str]| match samples(&text, name, labels).as_slice() {
        [value] => *value,
        other => panic!("{name} with {labels:?}: {other:?}"),
    };
    let length = length as f64;
    // Headers of packets add little to a download, repetitions on a busy machine some more; acknowledgements are much less than
    // what they acknowledge.
    let sent = one("wireguard_sent_bytes_total", &set_a);
    assert!((length..length * 2.0).contains(&sent), "{sent}");
    let received = one("wireguard_received_bytes_total", &set_a);
    assert!((1000.0..length / 5.0).contains(&received), "{received}");
    assert_eq!(one("wireguard_peer_transmit_bytes_total", &set_b), sent);
    assert_eq!(one("wireguard_peer_receive_bytes_total", &set_b), received);
    let handshake = one("wireguard_latest_handshake_seconds", &set_a);
    assert!((handshake - began as f64).abs() < 60.0, "a time, not an age: {handshake}");
    assert_eq!(one("wireguard_peer_last_handshake_seconds", &set_b), handshake);
    assert_eq!(one("wireguard_peer_connected", &set_a), 1.0);
    assert_eq!(one("wireguard_latest_handshake_seconds", &["interface=\"work\""]), 0.0, "never");
    assert_eq!(samples(&text, "wireguard_latest_handshake_delay_seconds", &["interface=\"work\""]), [0.0; 0]);
    assert_eq!(one("ebb_sessions", &["state=\"active\""]), 2.0);
    assert_eq!(one("ebb_session_state", &["session=\"home\"", "state=\"active\""]), 1.0);
    assert_eq!(one("ebb_desired_rejected", &[]), 0.0);
    assert_eq!((one("ebb_leader", &[]), one("ebb_shards", &[]), one("ebb_strays", &[])), (1.0, 1.0, 0.0));
    assert_eq!((one("ebb_store_available", &[]), one("ebb_shard_led", &["shard=\"0\""])), (1.0, 1.0));
    assert!(one("ebb_reconcile_total", &[]) >= 5.0);
    assert!(text.ends_with('\n') && !text.contains("172.31."), "where people are is nobody's business");

    let (status, of_home) = daemon.get("/metrics/home");
    assert_eq!(status, 200);
    check(&world, &of_home);
    assert_eq!(samples(&of_home, "wireguard_device_info", &[]).len(), 1, "one device for each target");
    assert!(!of_home.contains("work"));
    assert_eq!(daemon.get("/metrics/nowhere").0, 404);
    assert_eq!((daemon.get("/livez").0, daemon.get("/readyz").0), (200, 200));
}
