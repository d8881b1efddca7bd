//! Several daemons on one deployment: one leads and the others stand by, or each takes care of its share.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::time::Duration;

use ebb_core::state::{Rest, State, StateName};
use ebb_tests::e2e::daemon::{SOON, write_document};
use ebb_tests::e2e::world::SERVER;
use ebb_tests::e2e::{Client, Daemon, Place, World, eventually};
use ebb_tests::fake_arm::{FakeArm, Kind};
use nix::sys::signal::{Signal, kill};

use crate::home;

/// A lease lasts 30 s, and whoever waits for one asks every 5 s. Then the successor reads, lists and shakes hands.
const TAKEOVER: Duration = Duration::from_secs(30 + 5);

/// What a daemon gets between SIGTERM and its end.
const LAST: Duration = Duration::from_secs(10);

fn world() -> Option<World> {
    let world = World::build_in(Place::Azure, env!("CARGO_BIN_EXE_ebb-under-test"))?;
    world.share_lock();
    Some(world)
}

fn azure(world: &World) -> &FakeArm {
    world.azure.as_ref().unwrap()
}

fn nothing() -> String {
    "version: 1\ndeployment: home\nusers:\n  - name: alice\nsessions: []\n".to_owned()
}

fn await_ready(daemon: &Daemon<'_>, within: Duration) {
    eventually("/readyz says that it is ready", within, || match daemon.get("/readyz") {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_second_daemon_stands_by_and_takes_over_when_the_first_is_killed() {
    let Some(world) = world() else { return };
    write_document(&world, &home(&["alice"], ""));
    let mut first = Daemon::replica(&world, 1, &[]);
    await_ready(&first, SOON);
    first.await_state("home", StateName::Active, SOON);
    let gateway = first.gateway("home");
    let before = first.session("home").unwrap();
    let mut alice = Client::new(&world, 1);
    alice.up("home", &first.ebb(&["config", "alice@home"]).success().stdout);
    alice.await_reach(SERVER);

    let mut second = Daemon::replica(&world, 2, &[]);
    assert_eq!(second.get("/livez").0, 200);
    assert_eq!(second.get("/readyz"), (503, "standing by: another daemon leads\n".to_owned()));
    assert!(second.get("/metrics").1.contains("\nebb_leader 0\n"));
    assert!(first.get("/metrics").1.contains("\nebb_leader 1\n"));

    first.kill();
    assert!(alice.pings(SERVER));
    await_ready(&second, TAKEOVER + SOON);
    let after = second.await_state("home", StateName::Active, SOON);
    assert_eq!((second.gateway("home"), &after.session_id), (gateway, &before.session_id), "the same run");
    assert_eq!(azure(&world).count(Kind::Put), 1);
    assert!(alice.pings(SERVER));
    assert!(second.get("/metrics").1.contains("\nebb_leader 1\n"));

    // It gives the lock back, so the next one need not wait for the lease to end.
    second.signal(Signal::SIGTERM);
    assert!(second.await_end(LAST).success());
    let third = Daemon::replica(&world, 3, &[]);
    await_ready(&third, SOON);
}

#[test]
fn a_leader_that_was_paused_before_a_write_does_not_make_it_when_it_wakes_up() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    write_document(&world, &nothing());
    let mut first = Daemon::replica(&world, 1, &[]);
    await_ready(&first, SOON);
    let second = Daemon::replica(&world, 2, &[]);
    // It has asked whether the group exists, and is stopped before it hears that it does not: the PUT is next.
    let (sender, stopped) = channel();
    let pid = first.pid();
    azure.before_answer(Kind::Get, move || {
        kill(pid, Signal::SIGSTOP).unwrap();
        sender.send(()).unwrap();
    });
    write_document(&world, &home(&["alice"], ""));
    stopped.recv_timeout(SOON).unwrap();
    assert_eq!(azure.count(Kind::Put), 0);

    await_ready(&second, TAKEOVER + SOON);
    second.await_state("home", StateName::Active, SOON);
    second.ebb(&["stop", "home", "--wait"]).success();
    eventually("there is no group", SOON, || match azure.groups().as_slice() {
        [] => Ok(()),
        groups => Err(format!("{groups:?}")),
    });
    let (puts, deletes, written) =
        (azure.count(Kind::Put), azure.count(Kind::Delete), world.storage_writes(1));
    assert_eq!((puts, deletes), (1, 1), "both by the successor");
    assert!(written.len() > 3, "its requests were counted while it led: {written:?}");

    first.signal(Signal::SIGCONT);
    let status = first.await_end(LAST);
    assert_eq!(status.code(), Some(1), "whoever has started it starts it again, and then it stands by");
    assert!(first.log().contains("the lock is lost"), "{}", first.log());
    assert_eq!((azure.count(Kind::Put), azure.count(Kind::Delete)), (puts, deletes));
    assert_eq!(world.storage_writes(1), written);
    assert_eq!(azure.groups(), Vec::<serde_json::Value>::new());
    let wanted = State::Parked { why: Rest::Stopped };
    assert_eq!(second.session("home").unwrap().state, wanted);
}

#[test]
fn a_daemon_that_is_to_end_waits_for_no_answer_longer_than_ten_seconds() {
    let Some(world) = World::build_in(Place::Azure, env!("CARGO_BIN_EXE_ebb-under-test")) else { return };
    let azure = azure(&world);
    let (release, held) = channel::<()>();
    let (sender, asked) = channel();
    azure.before_answer(Kind::Put, move || {
        sender.send(()).unwrap();
        let _ = held.recv();
    });
    let mut daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    asked.recv_timeout(SOON).unwrap();
    daemon.signal(Signal::SIGTERM);
    let status = daemon.await_end(LAST);
    assert!(status.success(), "{status}: {}", daemon.log());
    assert!(daemon.log().contains("not waiting any longer for what is under way: home"), "{}", daemon.log());

    // The group was made all the same; the next daemon finds it.
    release.send(()).unwrap();
    let daemon = Daemon::start(&world, &[]);
    daemon.await_state("home", StateName::Active, SOON * 2);
    assert_eq!((azure.groups().len(), azure.count(Kind::Put)), (1, 1));
}

/// Sessions of four people, three of whom may have theirs at a time.
fn four() -> String {
    let names = ["alice", "bob", "carol", "dave"];
    let users: String = names.map(|name| format!("  - name: {name}\n")).concat();
    let session = |(port, name): (u16, &str)| {
        format!("  - {{ name: of-{name}, users: [{name}], region: eastus2, port: {port} }}\n")
    };
    let sessions: String = (41820..).zip(names).map(session).collect();
    format!(
        "version: 1\ndeployment: home\nlimits: {{ activeSessions: 3, activeUsers: 3 }}\nusers:\n{users}sessions:\n{sessions}"
    )
}

/// Sessions that a daemon takes care of.
fn own(daemon: &Daemon<'_>) -> BTreeSet<String> {
    let metrics = daemon.get("/metrics").1;
    let states = metrics.lines().filter_map(|line| line.strip_prefix("ebb_session_state{session=\""));
    states.filter_map(|rest| Some(rest.split('"').next()?.to_owned())).collect()
}

/// Sessions in a state, as written down.
fn in_state(daemon: &Daemon<'_>, state: StateName) -> BTreeSet<String> {
    let sessions = daemon.status().sessions.into_iter().filter(|view| view.state_name() == state);
    sessions.map(|view| view.session.to_string()).collect()
}

fn await_active(daemon: &Daemon<'_>, number: usize, within: Duration) -> BTreeSet<String> {
    eventually(&format!("{number} sessions are active"), within, || {
        let active = in_state(daemon, StateName::Active);
        if active.len() == number { Ok(active) } else { Err(format!("{active:?}")) }
    })
}

#[test]
fn two_daemons_share_the_sessions_keep_the_limits_together_and_take_over_from_each_other() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    write_document(&world, &four());
    let options = ["--shards", "4"];
    let mut first = Daemon::replica(&world, 1, &options);
    await_ready(&first, SOON);
    await_active(&first, 3, SOON * 2);
    assert_eq!(own(&first).len(), 4, "it is alone");

    let second = Daemon::replica(&world, 2, &options);
    // It hears of the first daemon's seat, the first of its, and two shards change hands.
    await_ready(&second, SOON * 2);
    let all = eventually("each has its share", SOON * 2, || {
        let shards = |daemon: &Daemon<'_>| daemon.get("/metrics").1.matches("ebb_shard_led{").count();
        let (one, two) = (own(&first), own(&second));
        let shared = (shards(&first), shards(&second)) == (2, 2) && one.is_disjoint(&two);
        let all: BTreeSet<_> = one.union(&two).cloned().collect();
        if shared && all.len() == 4 { Ok(all) } else { Err(format!("{one:?} {two:?}")) }
    });
    assert_eq!(all.len(), 4);
    let active = await_active(&first, 3, SOON);
    assert_eq!((azure.groups().len(), azure.count(Kind::Put)), (3, 3), "nothing was restarted");

    // A wish may be told to either of them; the slot goes to whoever waits, wherever that is.
    let waiting = all.difference(&active).next().unwrap().clone();
    let of_first = own(&first);
    let stopped = active.iter().find(|session| of_first.contains(*session)).unwrap_or(&waiting).clone();
    second.ebb(&["stop", &stopped]).success();
    eventually("the waiting session has the slot", SOON * 2, || {
        let active = in_state(&second, StateName::Active);
        assert!(azure.groups().len() <= 3, "never more than the limit: {:?}", azure.groups());
        if active.contains(&waiting) && !active.contains(&stopped) {
            Ok(())
        } else {
            Err(format!("{active:?}"))
        }
    });
    assert_eq!(azure.count(Kind::Put), 4);

    first.kill();
    eventually("the other one has all of them", TAKEOVER + SOON, || {
        let own = own(&second);
        if own.len() == 4 { Ok(()) } else { Err(format!("{own:?}")) }
    });
    await_active(&second, 3, SOON);
    assert_eq!(azure.count(Kind::Put), 4, "nothing was restarted");
    write_document(&world, &nothing());
    eventually("the document is in force and nothing is left", SOON * 3, || {
        let status = second.status();
        let empty = status.sessions.is_empty() && azure.groups().is_empty();
        let held = status.held_teardowns > 0;
        if held {
            second.ebb(&["approve", status.revision.as_deref().unwrap_or_default()]);
        }
        if empty { Ok(()) } else { Err(format!("{:?}", status.sessions)) }
    });
}
