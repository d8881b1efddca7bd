//! Where users may not go.

use std::net::SocketAddr;
use std::process::Command;

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::server::{PAGE, Web};
use ebb_tests::e2e::world::{HOST_OUTSIDE, METADATA, PRIVATE, SERVER, WIRE_SERVER};
use ebb_tests::e2e::{Client, Daemon, World};

use crate::{home, world};

/// `curl` could not connect.
const REFUSED: i32 = 7;

/// What the host itself gets from there.
fn from_host(world: &World, address: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--max-time", "5", &format!("http://{address}/page?host")]);
    world.run(&world.host, command).success().stdout
}

#[test]
fn what_the_gateway_can_reach_is_not_what_its_users_may_reach() {
    let Some(world) = world() else { return };
    let everywhere: SocketAddr = "[::]:80".parse().unwrap();
    let of_host = Web::start(&world.host, everywhere);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    assert_eq!(alice.fetch(&format!("http://{SERVER}/page")), PAGE);

    for address in [METADATA, WIRE_SERVER, PRIVATE, HOST_OUTSIDE, "[2a0e:45::fe]"] {
        // Without the policy it would work: somebody answers there.
        assert_ne!(from_host(&world, address), "", "{address}");
        let refused = alice.curl(&["--max-time", "5", &format!("http://{address}/page?user")]);
        assert_eq!(refused.code(), REFUSED, "{address}: refused at once, not by silence: {refused}");
    }
    let visits = [world.web.visits(), of_host.visits()].concat();
    assert!(visits.iter().all(|visit| visit.what != "/page?user"), "{visits:?}");
    assert!(visits.iter().filter(|visit| visit.what == "/page?host").count() == 5, "{visits:?}");

    // A private network is reachable once it is named, for the same client and the same gateway.
    let gateway = daemon.gateway("home");
    daemon.edit(&home(&["alice"], "routes: [0.0.0.0/0, \"::/0\", 10.50.0.0/24]"));
    daemon.await_session("home", "has the new routes", SOON, |view| {
        view.generation == 2 && view.conditions.iter().any(|condition| condition.reason == "InStep")
    });
    assert_eq!(alice.fetch(&format!("http://{PRIVATE}/page")), PAGE);
    assert_eq!(alice.curl(&["--max-time", "5", &format!("http://{METADATA}/page")]).code(), REFUSED);
    assert_eq!(daemon.gateway("home"), gateway);
}
