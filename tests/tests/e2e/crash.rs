//! Processes that die, and what does not die with them.

use std::time::Duration;

use ebb_core::state::{Rest, State, StateName};
use ebb_tests::e2e::client::config;
use ebb_tests::e2e::daemon::{SOON, last_words};
use ebb_tests::e2e::process::lives;
use ebb_tests::e2e::world::{SERVER, Wrapped};
use ebb_tests::e2e::{Client, Daemon, Download, eventually};
use nix::sys::signal::{Signal, kill};

use crate::{home, world};

#[test]
fn a_killed_daemon_takes_nobody_s_connection_along_and_its_successor_adopts_the_gateway() {
    let Some(world) = world() else { return };
    let mut daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    let before = daemon.session("home").unwrap();
    let gateway = daemon.gateway("home");
    world.web.permit(1 << 20);
    let download = Download::gated(&alice, SERVER, 3 << 20);
    download.await_bytes(1 << 20, SOON);

    daemon.kill();
    world.web.permit(2 << 20);
    download.await_bytes(2 << 20, SOON);
    assert!(lives(gateway));
    let refused = world.ebb(&["status"]).failure(1);
    assert!(refused.stderr.contains("no daemon answers at 127.0.0.1:9180"), "{refused}");

    let daemon = Daemon::start(&world, &[]);
    let after = daemon.await_session("home", "is known again", SOON, |view| {
        view.state_name() == StateName::Active && view.conditions.iter().any(|c| c.reason == "Fresh")
    });
    assert_eq!(daemon.gateway("home"), gateway, "adopted, not replaced");
    assert_eq!((after.session_id, after.since), (before.session_id, before.since), "the same run");
    world.web.permit(3 << 20);
    download.finish();
    assert_eq!(daemon.gateway_log("home").matches("\"started\"").count(), 1);
}

#[test]
fn a_killed_gateway_is_replaced_under_the_same_key_port_and_addresses() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let file = config(&world, "alice", "home");
    let mut alice = Client::new(&world, 1);
    alice.up("home", &file);
    assert!(alice.pings(SERVER));
    let gateway = daemon.gateway("home");

    kill(gateway, Signal::SIGKILL).unwrap();
    eventually("there is another gateway", SOON, || {
        let view = daemon.session("home").unwrap();
        let other = daemon.try_gateway("home").filter(|other| *other != gateway);
        let replaced = view.state_name() == StateName::Active && other.is_some();
        if replaced { Ok(()) } else { Err(format!("{other:?}: {}", view.because.join("; "))) }
    });
    assert_eq!(config(&world, "alice", "home"), file);
    alice.await_reach(SERVER);
}

#[test]
fn a_second_daemon_is_refused_and_sigterm_leaves_the_gateways() {
    let Some(world) = world() else { return };
    let mut daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");

    let second = world.ebb(&["run", "--api", "127.0.0.1:9181"]).failure(1);
    let holder = format!("process {}", daemon.pid());
    assert!(second.stderr.contains(&holder), "it names the holder: {second}");
    assert_eq!(daemon.session("home").unwrap().state_name(), StateName::Active);

    daemon.signal(Signal::SIGTERM);
    let status = daemon.await_end(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    assert!(lives(gateway));
    let daemon = Daemon::start(&world, &[]);
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!(daemon.gateway("home"), gateway);
}

/// Shorter than the daemon allows, and longer than it ever waits between two questions to its gateways.
const LEASE: u64 = 20;

#[test]
fn a_gateway_without_daemon_and_users_ends_itself_when_its_lease_is_over() {
    let Some(world) = world() else { return };
    let wrapped = Wrapped { boot: &format!(".leaseSeconds = {LEASE}"), ..Wrapped::default() };
    let options = world.wrap_gateways(&wrapped);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    ebb_tests::e2e::daemon::write_document(&world, &home(&["alice"], ""));
    let mut daemon = Daemon::start(&world, &options);
    daemon.await_state("home", StateName::Active, SOON);
    let file = config(&world, "alice", "home");
    let gateway = daemon.gateway("home");

    daemon.kill();
    eventually("the gateway ends", Duration::from_secs(LEASE) + SOON, || {
        if lives(gateway) { Err("it lives".to_owned()) } else { Ok(()) }
    });
    let (status, words) = last_words(&world, "home");
    assert!(status == 0 && words.contains("ended: neither the daemon nor a user"), "{status}: {words}");

    let daemon = Daemon::start(&world, &options);
    let wanted = State::Parked { why: Rest::LeaseEnded };
    let parked = daemon.await_session("home", "is parked", SOON, |view| view.state == wanted);
    assert!(parked.because[0].contains("heard of nobody for its lease time"), "{parked:?}");
    world.ebb(&["start", "home", "--wait"]).success();
    assert_eq!(config(&world, "alice", "home"), file);
}
