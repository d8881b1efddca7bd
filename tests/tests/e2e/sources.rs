//! Networks that users have to call from.

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::world::SERVER;
use ebb_tests::e2e::{Client, Daemon, eventually};

use crate::{home, world};

/// The document with these networks for alice.
fn from(networks: &str) -> String {
    let lines = format!("  - name: alice\n    sourceIps: [{networks}]\n");
    home(&["alice", "bob"], "").replace("  - name: alice\n", &lines)
}

#[test]
fn a_user_is_refused_from_a_foreign_address_and_accepted_from_a_listed_one() {
    let Some(world) = world() else { return };
    // Clients call from 172.31.NUMBER.2.
    let daemon = Daemon::with_document(&world, &from("198.51.100.0/24"));
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");
    let alice = Client::connected(&world, 1, "alice", "home");
    let bob = Client::connected(&world, 2, "bob", "home");
    assert!(!alice.pings(SERVER), "her address is not listed");
    assert!(bob.pings(SERVER), "his is nobody's business");

    daemon.edit(&from("198.51.100.0/24, 172.31.1.0/24"));
    alice.await_reach(SERVER);
    daemon.edit(&from("172.31.9.0/24"));
    eventually("alice is out", SOON, || {
        if alice.pings(SERVER) { Err("she still gets through".to_owned()) } else { Ok(()) }
    });
    assert!(bob.pings(SERVER));
    let view = daemon.await_state("home", StateName::Active, SOON);
    assert!(
        view.conditions.iter().any(|condition| condition.reason == "InStep"),
        "the daemon is still heard"
    );
    assert_eq!(daemon.gateway("home"), gateway, "nothing was restarted");
}
