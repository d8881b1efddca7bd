//! `ebb doctor` beside gateways of this machine.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::{SOON, write_document};
use ebb_tests::e2e::{Daemon, World};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::{home, world};

/// What is not as it should be, as `check: message`, after a run with this exit code.
fn faults(world: &World, code: i32) -> Vec<String> {
    let findings: Vec<Value> = world.ebb(&["doctor", "-o", "json"]).failure(code).json();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
    let bad = findings.iter().filter(|one| one["level"] == "fail" || one["level"] == "warn");
    bad.map(|one| format!("{}: {}", text(one, "check"), text(one, "message"))).collect()
}

fn one_fault(world: &World, code: i32, part: &str) {
    let faults = faults(world, code);
    assert!(matches!(faults.as_slice(), [one] if one.contains(part)), "{part}: {faults:?}");
}

#[test]
fn what_gateways_of_this_machine_need_is_looked_at() {
    let Some(world) = world() else { return };
    if world.azure.is_some() {
        return;
    }
    write_document(&world, &home(&["alice"], ""));
    assert_eq!(faults(&world, 0), Vec::<String>::new());

    let taken = world.host.run(|| UdpSocket::bind("[::]:41820").unwrap());
    one_fault(&world, 1, "ports: UDP port 41820 of home cannot be had");
    drop(taken);
    world.host.sysctl("net/ipv4/ping_group_range", "1 0");
    one_fault(&world, 0, "ping sockets: ");
    world.host.sysctl("net/ipv4/ping_group_range", "0 2147483647");
    fs::set_permissions(world.path("state"), fs::Permissions::from_mode(0o755)).unwrap();
    one_fault(&world, 1, "mode 755");
    fs::set_permissions(world.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    let missing = world.ebb(&["doctor", "--gateway", "/nowhere/ebb-gateway"]).failure(1);
    assert!(missing.stdout.contains("/nowhere/ebb-gateway cannot be run"), "{missing}");
    write_document(&world, "version: 1\n");
    assert!(faults(&world, 1).iter().any(|fault| fault.starts_with("document: ")));
}

#[test]
fn gateways_that_run_are_reached_or_named() {
    let Some(world) = world() else { return };
    let mut daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let reach = |code: i32| {
        let output = world.ebb(&["doctor"]);
        let line = output
            .stdout
            .lines()
            .find(|line| line.contains("UDP to gateways"))
            .unwrap_or_default()
            .to_owned();
        assert!(line.starts_with(if code == 0 { "ok" } else { "FAIL" }), "{output}");
        line
    };
    assert!(reach(0).contains("hears from all 1 gateway(s)"));
    let gateway = daemon.gateway("home");
    daemon.kill();
    assert!(reach(0).contains("answers"), "without a daemon it shakes hands itself");
    kill(gateway, Signal::SIGSTOP).unwrap();
    assert!(reach(1).contains("no answer to WireGuard handshakes"));
    kill(gateway, Signal::SIGCONT).unwrap();
}
