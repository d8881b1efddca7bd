//! `ebb connect`: a session without root.

use std::net::SocketAddr;
use std::process::Command;

use ebb_core::state::{Rest, State, StateName};
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::process::Process;
use ebb_tests::e2e::server::{PAGE, Web};
use ebb_tests::e2e::world::{HOST, HOST_OUTSIDE, METADATA, PRIVATE, SERVER, SERVER_V6};
use ebb_tests::e2e::{Daemon, Download, Output, World};

use crate::{home, world};

const SOCKS: &str = "127.0.0.1:1080";
const HTTP: &str = "127.0.0.1:8080";

/// `curl` could not connect to the proxy or the server.
const NO_CONNECTION: [i32; 2] = [7, 97];

fn connect(world: &World) -> Process {
    let command = world.ebb_command(&["connect", "alice@home", "--socks5", SOCKS, "--http", HTTP]);
    let mut process = Process::spawn(&world.host, &world.logs(), "connect", command);
    process.await_log("Ctrl-C ends the connection", SOON);
    process
}

fn curl(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--fail", "--max-time", "40"]).args(arguments);
    world.run(&world.host, command)
}

fn through_socks(world: &World, url: &str) -> Output {
    curl(world, &["--socks5-hostname", SOCKS, url])
}

#[test]
fn pages_come_through_both_proxies_of_a_session_that_was_parked() {
    let Some(world) = world() else { return };
    // Only the resolver inside the tunnel knows this name.
    let daemon = Daemon::with_document(&world, &home(&["alice"], "dns: { names: { wiki: 45.45.45.1 } }"));
    daemon.await_state("home", StateName::Active, SOON);
    world.ebb(&["stop", "home", "--wait"]).success();

    let connect = connect(&world);
    let said = connect.log();
    let mut rest = said.as_str();
    let connected = format!("alice@home: connected to {HOST}:41820");
    for progress in ["home: ", "home: active", &connected, "socks5h://", "http://"] {
        let at = rest.find(progress).unwrap_or_else(|| panic!("{progress} is missing in\n{said}"));
        rest = &rest[at + progress.len()..];
    }
    assert_eq!(through_socks(&world, "http://wiki/page").success().stdout, PAGE);
    assert_eq!(through_socks(&world, "http://www.ebb.example/peer").success().stdout.trim(), HOST_OUTSIDE);
    assert_eq!(through_socks(&world, &format!("http://[{SERVER_V6}]/page")).success().stdout, PAGE);
    assert_eq!(curl(&world, &["-x", HTTP, "http://wiki/page"]).success().stdout, PAGE);
    assert_eq!(curl(&world, &["-p", "-x", HTTP, "http://wiki/page"]).success().stdout, PAGE);
    for proxy in [["--socks5-hostname", SOCKS], ["-x", HTTP]] {
        Download::with(&world.host, &proxy, &format!("wiki/bytes/{}", 20 << 20), 20 << 20).finish();
    }
    daemon.await_session("home", "has seen the traffic", SOON, |view| {
        view.users[0].sent_bytes > 40 << 20 && view.users[0].handshake_at.is_some()
    });
}

#[test]
fn what_cannot_be_reached_is_refused_at_once_and_not_by_silence() {
    let Some(world) = world() else { return };
    let everywhere: SocketAddr = "[::]:80".parse().unwrap();
    let of_host = Web::start(&world.host, everywhere);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let _connect = connect(&world);
    assert_eq!(through_socks(&world, "http://www.ebb.example/page").success().stdout, PAGE);

    // A closed port; loopback, the gateway and private addresses; names that lead there; a name that nobody knows.
    let closed = format!("{SERVER}:81");
    let forbidden = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", HOST_OUTSIDE, METADATA, PRIVATE];
    let names = ["loopback.ebb.example", "metadata.ebb.example", "nobody.ebb.example"];
    for host in [&[closed.as_str()][..], &forbidden, &names].concat() {
        let url = format!("http://{host}/page");
        let socks = through_socks(&world, &url);
        assert!(NO_CONNECTION.contains(&socks.code()), "{socks}");
        let http = curl(&world, &["-x", HTTP, &url]).failure(22);
        assert!(http.stderr.contains("502"), "{http}");
    }
    assert_eq!(of_host.visits(), []);
    let visits = world.web.visits();
    assert_eq!(visits.len(), 1, "{visits:?}");
}

#[test]
fn a_connection_brings_a_session_back_that_has_ebbed_away() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], "idleTimeout: 5s"));
    daemon.await_state("home", StateName::Active, SOON);
    let _connect = connect(&world);
    assert_eq!(through_socks(&world, "http://www.ebb.example/page").success().stdout, PAGE);

    let parked = State::Parked { why: Rest::Idle };
    daemon.await_session("home", "has ebbed away", SOON * 3, |view| view.state == parked);
    assert_eq!(through_socks(&world, "http://www.ebb.example/page").success().stdout, PAGE);
    daemon.await_state("home", StateName::Active, SOON);
}

#[test]
fn connecting_needs_a_proxy_that_only_this_machine_can_reach_and_a_user_of_the_session() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    for (arguments, code, words) in [
        (&["connect", "alice@home"][..], 2, "name at least one proxy"),
        (&["connect", "alice@home", "--socks5", "0.0.0.0:1080"], 2, "can be reached by others"),
        (&["connect", "alice", "--socks5", SOCKS], 2, "write USER@SESSION"),
        (&["connect", "alice@work", "--socks5", SOCKS], 1, "there is no session work"),
        (&["connect", "bob@home", "--socks5", SOCKS], 1, "bob is no user of session home"),
        (&["connect", "alice@home", "--socks5", "127.0.0.1:9180"], 1, "cannot listen on 127.0.0.1:9180"),
    ] {
        let output = world.ebb(arguments).failure(code);
        assert!(output.stderr.contains(words), "{words}: {output}");
    }
}
