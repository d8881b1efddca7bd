//! Sessions that nobody uses, and how they come back.

use std::time::Duration;

use ebb::view::SessionView;
use ebb_core::state::{Rest, State, StateName};
use ebb_tests::e2e::client::config;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::process::lives;
use ebb_tests::e2e::world::SERVER;
use ebb_tests::e2e::{Client, Daemon, World, eventually};

use crate::{home, world};

/// The shortest timeout of the document, the grace after it, a question to the gateway in between, and a slow machine.
const EBB: Duration = Duration::from_secs(45);

fn parked(daemon: &Daemon<'_>, why: &Rest) -> SessionView {
    let what = format!("is parked because {why}");
    let wanted = State::Parked { why: why.clone() };
    daemon.await_session("home", &what, EBB, |view| view.state == wanted)
}

/// Starts the session, connects alice and has her send something.
fn used<'w>(world: &'w World, lines: &str) -> (Daemon<'w>, Client<'w>) {
    let daemon = Daemon::with_document(world, &home(&["alice"], lines));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(world, 1, "alice", "home");
    assert!(alice.pings(SERVER));
    (daemon, alice)
}

fn kinds(daemon: &Daemon<'_>) -> Vec<String> {
    daemon.events("home").iter().rev().map(|note| note.kind.as_str().to_owned()).collect()
}

#[test]
fn a_silent_client_s_session_ebbs_away_and_a_start_brings_it_back_for_the_same_client() {
    let Some(world) = world() else { return };
    let (daemon, alice) = used(&world, "idleTimeout: 5s");
    let file = config(&world, "alice", "home");
    let gateway = daemon.gateway("home");

    parked(&daemon, &Rest::Idle);
    assert!(!lives(gateway), "nothing is left to pay for");
    assert!(!daemon.has_gateway("home"));
    let told = ["vpn.idle.detected", "vpn.auto.shutdown", "vpn.stop.success"];
    assert!(kinds(&daemon).ends_with(&told.map(str::to_owned)), "{:?}", kinds(&daemon));
    assert_eq!(config(&world, "alice", "home"), file, "the file can be had while the session rests");

    let started = world.ebb(&["start", "home", "--wait"]).success();
    assert!(started.stdout.contains("home: active"), "{started}");
    assert_eq!(config(&world, "alice", "home"), file, "the old file is still the right one");
    alice.await_reach(SERVER);

    let stopped = world.ebb(&["stop", "home", "--wait"]).success();
    assert!(stopped.stdout.contains("home: parked"), "{stopped}");
    parked(&daemon, &Rest::Stopped);
}

#[test]
fn keepalives_are_no_use_and_a_new_wake_value_brings_the_session_back() {
    let Some(world) = world() else { return };
    let document = |lines: &str| {
        home(&["alice"], lines).replace("users:\n  -", "defaults: { persistentKeepalive: 1s }\nusers:\n  -")
    };
    let daemon = Daemon::with_document(&world, &document("idleTimeout: 5s"));
    daemon.await_state("home", StateName::Active, SOON);
    let file = config(&world, "alice", "home");
    assert!(file.contains("PersistentKeepalive = 1\n"), "the client sends keepalives");
    let mut alice = Client::new(&world, 1);
    alice.up("home", &file);
    // The first keepalive makes a handshake; nothing else is ever sent.
    daemon.await_session("home", "has alice connected", SOON, |view| view.users[0].connected);
    assert_eq!(daemon.session("home").unwrap().users[0].data_at, None, "a keepalive is not data");

    parked(&daemon, &Rest::Idle);
    daemon.edit(&document("idleTimeout: 5s\nwake: once more"));
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!(config(&world, "alice", "home"), file);
    alice.await_reach(SERVER);
}

#[test]
fn traffic_in_the_grace_period_saves_the_session() {
    let Some(world) = world() else { return };
    let (daemon, alice) = used(&world, "idleTimeout: 12s");
    let gateway = daemon.gateway("home");

    daemon.await_state("home", StateName::Idle, EBB);
    assert!(alice.pings(SERVER));
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!(daemon.gateway("home"), gateway);
    let told = kinds(&daemon);
    assert!(told.iter().all(|kind| kind != "vpn.auto.shutdown"), "{told:?}");
    assert!(alice.pings(SERVER), "the tunnel was never interrupted");
}

#[test]
fn an_open_connection_is_use_even_when_it_is_silent() {
    let Some(world) = world() else { return };
    let (daemon, alice) = used(&world, "idleTimeout: 5s");
    // A request that is never finished: the web server waits for its end, and nobody says a word.
    let connection = alice.namespace.run(|| std::net::TcpStream::connect((SERVER, 80))).unwrap();
    daemon.await_session("home", "counts the connection", SOON, |view| {
        view.because.iter().any(|line| line.contains("1 connection is open"))
    });
    let silence = Duration::from_secs(8);
    eventually("the silence has outlasted the timeout", silence * 4, || {
        let data_at = daemon.session("home").unwrap().users[0].data_at.unwrap();
        let silent = daemon.status().at.duration_since(data_at);
        if silent.unsigned_abs() > silence { Ok(()) } else { Err(format!("{silent}")) }
    });
    assert_eq!(daemon.session("home").unwrap().state_name(), StateName::Active);
    drop(connection);
    parked(&daemon, &Rest::Idle);
}
