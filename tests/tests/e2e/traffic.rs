//! What users send through a session.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

use ebb_core::state::StateName;
use ebb_tests::e2e::client::config;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::server::{echo, send};
use ebb_tests::e2e::transfer::Pattern;
use ebb_tests::e2e::world::{HOST_OUTSIDE, SERVER, SERVER_V6};
use ebb_tests::e2e::{Client, Daemon, Download, World, eventually};

use crate::{home, world};

const LONG: u64 = 100 << 20;

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

#[test]
fn a_hundred_megabytes_arrive_byte_by_byte_both_ways() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");

    Download::start(&alice, SERVER, LONG).finish();
    Download::start(&alice, &format!("[{SERVER_V6}]"), LONG / 4).finish();

    let file = world.path("upload");
    Pattern::new().write(&mut File::create(&file).unwrap(), LONG).unwrap();
    let file = file.display().to_string();
    let verdict = alice.curl(&["-H", "Expect:", "-T", &file, &format!("http://{SERVER}/")]).success().stdout;
    assert_eq!(verdict, format!("{LONG} bytes, all of them right\n"));
}

#[test]
fn datagrams_pings_and_names_work_over_both_families() {
    let Some(world) = world() else { return };
    let names = "dns: { names: { wiki: 45.45.45.1 } }";
    let daemon = Daemon::with_document(&world, &home(&["alice"], names));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");

    for (server, any) in [(at(SERVER, 7), at("0.0.0.0", 0)), (at(SERVER_V6, 7), at("::", 0))] {
        // Up to what the tunnel carries in one piece, and what the client's kernel has to cut.
        for length in [0, 1, 500, 1372, 4000, 20_000] {
            let datagram = vec![b'x'; length];
            echo(&alice.namespace, any, server, &datagram)
                .unwrap_or_else(|e| panic!("{server}, {length}: {e}"));
        }
    }
    for address in [SERVER, SERVER_V6, "10.8.0.1", "fd65:6262:0:1::1"] {
        assert!(alice.pings(address), "{address}");
    }
    assert_eq!(alice.fetch("http://www.ebb.example/page"), ebb_tests::e2e::server::PAGE);
    assert_eq!(alice.curl(&["-4", "http://www.ebb.example/peer"]).success().stdout.trim(), HOST_OUTSIDE);
    assert_eq!(alice.curl(&["-6", "http://www.ebb.example/peer"]).success().stdout.trim(), "2a0e:45::fe");
    assert_eq!(alice.fetch("http://wiki/peer").trim(), HOST_OUTSIDE);
    let outside: IpAddr = HOST_OUTSIDE.parse().unwrap();
    let asked = world.names.visits();
    assert!(asked.iter().any(|visit| visit.what == "www.ebb.example"), "{asked:?}");
    assert!(asked.iter().all(|visit| visit.from.ip() == outside && visit.what != "wiki"), "{asked:?}");
}

/// `wg-quick` has a resolver set by this command of Debian's openresolv; all it has to do here is to write a file.
const RESOLVCONF: &str = "#!/bin/sh\n[ \"$1\" != -a ] || cat > /etc/resolv.conf\n";

#[test]
fn wg_quick_takes_the_file_as_it_is_printed() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::new(&world, 1);
    let bin = world.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("resolvconf"), RESOLVCONF).unwrap();
    fs::set_permissions(bin.join("resolvconf"), fs::Permissions::from_mode(0o755)).unwrap();
    let file = world.path("home.conf");
    fs::write(&file, config(&world, "alice", "home")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let quick = |verb: &str| {
        let (bin, file) = (bin.display(), file.display());
        let line =
            format!("WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go PATH={bin}:$PATH wg-quick {verb} {file}");
        alice.shell(&line)
    };
    // What a full tunnel leaves outside, wg-quick finds by the route that was there before.
    alice.namespace.ip("route add default via 172.31.1.1");
    quick("up");
    assert_eq!(alice.fetch("http://www.ebb.example/peer").trim(), HOST_OUTSIDE);
    assert!(alice.pings(SERVER_V6));
    quick("down");
    assert!(!alice.pings(SERVER));
}

/// TCP connections that the web server has open.
fn connections(world: &World) -> usize {
    let mut command = std::process::Command::new("ss");
    command.args(["-H", "-t", "-n", "state", "established", "sport", "=", ":80"]);
    world.run(&world.internet, command).success().stdout.lines().count()
}

#[test]
fn a_user_who_is_removed_loses_access_while_the_other_s_download_goes_on() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice", "bob"], ""));
    let before = daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");
    let alice = Client::connected(&world, 1, "alice", "home");
    let bob = Client::connected(&world, 2, "bob", "home");
    world.web.permit(1 << 20);
    let of_alice = Download::gated(&alice, SERVER, 2 << 20);
    let of_bob = Download::gated(&bob, SERVER, 2 << 20);
    of_alice.await_bytes(1 << 20, SOON);
    of_bob.await_bytes(1 << 20, SOON);
    assert_eq!(connections(&world), 2);

    daemon.edit(&home(&["alice"], ""));
    daemon.await_session("home", "has alice alone", SOON, |view| {
        let configured = view.conditions.iter().any(|condition| condition.reason == "InStep");
        view.users.len() == 1 && view.generation > before.generation && configured
    });
    assert!(!bob.pings("10.8.0.1"), "the gateway does not know bob any more");
    eventually("bob's connection is gone", SOON, || match connections(&world) {
        1 => Ok(()),
        other => Err(format!("{other} connections")),
    });
    world.web.permit(2 << 20);
    of_alice.finish();
    assert_eq!(of_bob.progress(), 1 << 20);
    drop(of_bob);
    assert_eq!(daemon.gateway("home"), gateway, "the gateway was not restarted");

    daemon.edit(&home(&["alice", "bob"], ""));
    bob.await_reach(SERVER);
}

#[test]
fn nobody_can_send_from_the_address_of_another_user() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice", "bob"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    let bob = Client::connected(&world, 2, "bob", "home");
    assert!(alice.pings(SERVER));

    for stolen in alice.addresses() {
        let (server, echoes) =
            if stolen.is_ipv4() { (at(SERVER, 7), &world.echo) } else { (at(SERVER_V6, 7), &world.echo_v6) };
        let own = bob.addresses().into_iter().find(|own| own.is_ipv4() == stolen.is_ipv4()).unwrap();
        let (width, scratch) = if stolen.is_ipv4() { (32, "forged-4") } else { (128, "forged-6") };
        bob.namespace.add_address("home", &format!("{stolen}/{width}"));
        send(&bob.namespace, SocketAddr::new(stolen, 0), server, scratch.as_bytes()).unwrap();
        // What is sent later through the same tunnel and comes back shows that the forged one had its chance.
        echo(&bob.namespace, SocketAddr::new(own, 0), server, b"bob's own").unwrap();
        let came: Vec<_> = echoes.visits().into_iter().map(|visit| visit.what).collect();
        assert_eq!(came, ["bob's own"]);
    }
}
