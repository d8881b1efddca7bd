//! What goes wrong around Ebb: disks, files and ports. Nothing is lost, the error says what to do, and when the cause is gone, so
//! is the error.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebb_core::state::StateName;
use ebb_tests::e2e::client::config;
use ebb_tests::e2e::daemon::{SOON, write_document};
use ebb_tests::e2e::world::SERVER;
use ebb_tests::e2e::{Client, Daemon, World, eventually};
use nix::mount::{MsFlags, mount};

use crate::{home, world};

/// The daemon reads its document this often when nobody says that it has changed.
const REREAD: Duration = Duration::from_secs(30);

/// A small file system as state directory, which only the host of this world sees.
fn small_disk(world: &World, bytes: u32) -> PathBuf {
    let state = world.path("state");
    fs::create_dir(&state).unwrap();
    let (at, options) = (state.clone(), format!("size={bytes},mode=0700"));
    world
        .host
        .run(move || mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())))
        .unwrap();
    state
}

/// Writes until nothing more fits.
fn fill(world: &World, file: &Path) {
    let file = file.to_owned();
    let full = world.host.run(move || fs::write(file, vec![0; 64 << 20])).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_full_disk_stops_changes_and_nothing_else_and_heals_without_a_restart() {
    let Some(world) = world() else { return };
    if !world.is_about_local("the store of this test is a file; the one in Azure has no disk of ours to fill")
    {
        return;
    }
    let state = small_disk(&world, 16 << 20);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let before = daemon.status();
    let alice = Client::connected(&world, 1, "alice", "home");
    alice.fetch(&format!("http://{SERVER}/page"));

    let filler = state.join("filler");
    fill(&world, &filler);
    // More than what the store has left in the blocks that it holds.
    let edited = format!("{}# {}\n", home(&["alice"], "idleTimeout: 1h\nport: 41900"), "x".repeat(3 << 20));
    let full = daemon.edit(&edited);
    assert_eq!(full.revision, before.revision, "what cannot be kept does not count");
    let said = full.problems.join("\n");
    assert!(said.contains("No space left on device") && said.contains("store.redb"), "{said}");
    alice.fetch(&format!("http://{SERVER}/page"));
    assert_eq!(daemon.session("home").unwrap().state_name(), StateName::Active);

    world.host.run(move || fs::remove_file(filler)).unwrap();
    daemon.await_session("home", "has moved to its new port", REREAD + SOON, |view| {
        let moved = view.endpoint.as_deref().is_some_and(|endpoint| endpoint.ends_with(":41900"));
        moved && view.state_name() == StateName::Active
    });
    assert_eq!(daemon.status().problems, [""; 0]);
}

#[test]
fn a_disk_that_is_full_from_the_start_is_reported_by_name() {
    let Some(world) = world() else { return };
    let state = small_disk(&world, 1 << 20);
    fill(&world, &state.join("filler"));
    write_document(&world, &home(&["alice"], ""));
    let refused = world.ebb(&["run"]).failure(1);
    let at = state.display().to_string();
    assert!(refused.stderr.contains("No space left on device") && refused.stderr.contains(&at), "{refused}");
}

#[test]
fn a_state_directory_that_vanishes_takes_no_session_along() {
    let Some(world) = world() else { return };
    if !world.is_about_local("only the provider `local` keeps its gateways in the state directory") {
        return;
    }
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");
    let alice = Client::connected(&world, 1, "alice", "home");
    let (state, aside) = (world.path("state"), world.path("aside"));
    fs::rename(&state, &aside).unwrap();

    let readyz = |wanted: u16| {
        eventually(&format!("/readyz says {wanted}"), SOON, || match daemon.get("/readyz") {
            (status, said) if status == wanted => Ok(said),
            other => Err(format!("{other:?}")),
        })
    };
    let said = readyz(503);
    assert!(said.contains("cannot list the gateways in") && said.contains("state/local"), "{said}");
    alice.fetch(&format!("http://{SERVER}/page"));
    assert!(ebb_tests::e2e::process::lives(gateway));

    // Nobody must have put a new one in its place.
    fs::rename(&aside, &state).unwrap();
    readyz(200);
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!(daemon.gateway("home"), gateway);
    alice.fetch(&format!("http://{SERVER}/page"));
}

#[test]
fn a_daemon_waits_for_its_document_and_keeps_it_when_it_vanishes() {
    let Some(world) = world() else { return };
    let file = world.path("desired/desired-state.yaml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    let daemon = Daemon::start(&world, &[]);
    let (status, why) = daemon.get("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("no document is in force") && why.contains("No such file"), "{why}");
    let said = world.ebb(&["status"]).success().stdout;
    assert!(
        said.contains("no document is in force; it is expected at") && said.contains("No such file"),
        "{said}"
    );
    assert_eq!(world.ebb(&["plan"]).code(), 1);

    write_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let before = daemon.status();
    assert_eq!(before.problems, [""; 0]);

    let worse: [(&str, &dyn Fn()); 3] = [
        ("No such file", &|| fs::remove_file(&file).unwrap()),
        ("Is a directory", &|| fs::create_dir(&file).unwrap()),
        ("not UTF-8", &|| {
            fs::remove_dir(&file).unwrap();
            fs::write(&file, b"version: 1\ndeployment: \xff\n").unwrap();
        }),
    ];
    for (words, spoil) in worse {
        spoil();
        let what = format!("the status says {words:?}");
        let status = eventually(&what, SOON, || {
            let status = daemon.status();
            let said = status.problems.join("\n");
            if said.contains(words) && said.contains("desired-state.yaml") { Ok(status) } else { Err(said) }
        });
        assert_eq!(status.revision, before.revision);
        assert_eq!(daemon.session("home").unwrap().generation, 1);
    }
    write_document(&world, &home(&["alice"], ""));
    eventually("all is well", SOON, || match daemon.status().problems.as_slice() {
        [] => Ok(()),
        problems => Err(problems.join("\n")),
    });
    daemon.await_state("home", StateName::Active, SOON);
}

#[test]
fn ports_that_others_have_are_reported_or_left_to_them() {
    let Some(world) = world() else { return };
    if !world.is_about_local(
        "only gateways on one host can be in each other's way; a container group has an address of its own",
    ) {
        return;
    }
    let taken = |port: u16| world.host.run(move || UdpSocket::bind(("0.0.0.0", port))).unwrap();
    let other = taken(41820);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    let view = daemon.await_state("home", StateName::Active, SOON);
    assert_eq!(view.endpoint.as_deref(), Some("198.51.100.1:41821"), "the next port that is free");
    let file = config(&world, "alice", "home");

    let second = world.ebb(&["run", "--state", "other-state"]).failure(1);
    for words in ["cannot listen on 127.0.0.1:9180", "in use", "--api"] {
        assert!(second.stderr.contains(words), "{words}: {second}");
    }

    // The port stands in alice's file, so the session keeps it and waits for it.
    world.ebb(&["stop", "home", "--wait"]).success();
    let thief = taken(41821);
    drop(other);
    let failed = world.ebb(&["start", "home", "--wait"]).failure(1);
    assert!(failed.stderr.contains("UDP port 41821 cannot be used"), "{failed}");
    let explained = world.ebb(&["explain", "home"]).success().stdout;
    assert!(explained.contains("UDP port 41821 cannot be used"), "{explained}");
    drop(thief);
    daemon.await_state("home", StateName::Active, Duration::from_secs(90));
    assert_eq!(config(&world, "alice", "home"), file);
}
