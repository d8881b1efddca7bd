//! Gateways in Azure: what an imitation of Azure Resource Manager that starts real gateways can show.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebb_core::state::{Rest, State, StateName};
use ebb_tests::e2e::client::config;
use ebb_tests::e2e::daemon::write_document;
use ebb_tests::e2e::process::lives;
use ebb_tests::e2e::world::SERVER;
use ebb_tests::e2e::{Client, Daemon, Place, World, eventually};
use ebb_tests::fake_arm::{FakeArm, Fate, Fault, Kind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::home;

/// A creation takes half a second here; what it takes beyond that are listings, handshakes and pauses after failures.
const SOON: Duration = Duration::from_secs(40);

/// A gateway of this session is the only thing that there is.
const GROUP: &str = "ebb-home-home";

fn world() -> Option<World> {
    World::build_in(Place::Azure, env!("CARGO_BIN_EXE_ebb-under-test"))
}

fn azure(world: &World) -> &FakeArm {
    world.azure.as_ref().unwrap()
}

/// A document that declares no session.
fn nothing() -> String {
    "version: 1\ndeployment: home\nusers:\n  - name: alice\nsessions: []\n".to_owned()
}

fn await_no_group(azure: &FakeArm) {
    eventually("there is no group", SOON, || match azure.groups().as_slice() {
        [] => Ok(()),
        groups => Err(format!("{groups:?}")),
    });
}

#[test]
fn traffic_flows_through_a_container_group_and_a_new_one_has_the_same_name() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    azure.behave(|behaviour| behaviour.addressless = Duration::from_secs(1));
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    let view = daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    assert!(alice.fetch(&format!("http://{SERVER}/page")).contains("page"));
    let file = config(&world, "alice", "home");
    assert!(
        file.contains("Endpoint = ebb-home-home.a1b2c3d4e5f6a7b8.eastus2.azurecontainer.io:41820"),
        "{file}"
    );
    assert_eq!(azure.count(Kind::Put), 1);

    world.ebb(&["stop", "home"]).success();
    await_no_group(azure);
    daemon.await_state("home", StateName::Parked, SOON);
    world.ebb(&["start", "home", "--wait"]).success();
    let again = daemon.await_state("home", StateName::Active, SOON);
    assert_ne!(view.session_id, again.session_id);
    assert_eq!(config(&world, "alice", "home"), file, "nobody needs a new file");
    alice.await_reach(SERVER);
}

#[test]
fn a_gateway_that_has_ended_by_itself_is_found_and_deleted() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    // It exits with status 0, as at the end of its lease; a listing goes on to say `Succeeded`.
    kill(daemon.gateway("home"), Signal::SIGTERM).unwrap();
    let wanted = State::Parked { why: Rest::LeaseEnded };
    daemon.await_session("home", "is parked", SOON, |view| view.state == wanted);
    await_no_group(azure);
}

#[test]
fn a_container_that_crashes_is_started_again_by_azure_and_configured_again_by_ebb() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    alice.fetch(&format!("http://{SERVER}/page"));
    kill(daemon.gateway("home"), Signal::SIGKILL).unwrap();
    alice.await_reach(SERVER);
    assert_eq!((azure.starts(GROUP), azure.count(Kind::Put)), (2, 1));
}

#[test]
fn an_answer_that_gets_lost_makes_no_second_group_and_restarts_nothing() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    azure.fail(Kind::Put, Fault::LoseAnswer);
    azure.fail(Kind::Delete, Fault::LoseAnswer);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!((azure.starts(GROUP), azure.groups().len(), azure.count(Kind::Put)), (1, 1, 1));
    daemon.edit(&nothing());
    await_no_group(azure);
}

#[test]
fn a_group_that_azure_gives_up_on_is_deleted_and_the_reason_is_shown() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    azure.fate(Fate::Fails("InsufficientCapacity.".into(), "there is no capacity in eastus2".into()));
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_session("home", "tells why", SOON, |view| {
        view.because.iter().any(|line| line.contains("there is no capacity in eastus2"))
    });
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!((azure.groups().len(), azure.count(Kind::Put)), (1, 2));
}

#[test]
fn what_is_not_ebb_s_is_never_touched_even_under_ebb_s_name() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    let port = serde_json::json!([{ "protocol": "UDP", "port": 41820 }]);
    let container =
        serde_json::json!({ "name": "theirs", "properties": { "image": "theirs", "ports": port } });
    let body = serde_json::json!({ "location": "eastus2", "tags": { "Owner": "somebody" }, "properties": {
        "osType": "Linux", "containers": [container], "ipAddress": { "type": "Public", "ports": port },
    } });
    let scope = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ebb";
    let id = format!("{scope}/providers/Microsoft.ContainerInstance/containerGroups/{GROUP}");
    azure.place(&id, &body);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    eventually("the refusal is in the history", SOON, || {
        let said: Vec<_> = daemon.events("home").into_iter().map(|note| note.message).collect();
        if said.iter().any(|line| line.contains("is left alone")) { Ok(()) } else { Err(format!("{said:?}")) }
    });
    daemon.edit(&nothing());
    eventually("the session is forgotten", SOON, || match daemon.session("home") {
        None => Ok(()),
        Some(view) => Err(format!("{view:?}")),
    });
    assert_eq!(azure.groups().len(), 1);
    assert_eq!((azure.count(Kind::Put), azure.count(Kind::Delete)), (0, 0));
}

#[test]
fn while_its_tunnel_is_closed_a_gateway_s_log_tells_of_its_use_and_the_disagreement_is_shown() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    let daemon = Daemon::with_document(&world, &home(&["alice"], "idleTimeout: 1h"));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    assert!(alice.pings(SERVER));
    assert_eq!(azure.count(Kind::Logs), 0, "a log is read only where it is needed");

    // What the daemon itself sends to the gateway is lost; what users send comes from elsewhere.
    let nft = |words: &str| {
        let mut command = std::process::Command::new("nft");
        command.args(words.split(' '));
        world.run(&world.host, command).success();
    };
    nft("add table inet between");
    nft("add chain inet between out { type filter hook output priority 0 ; }");
    nft("add rule inet between out udp dport 41820 drop");
    let stale = Duration::try_from(ebb_core::idle::STALE_AFTER).unwrap();
    // A gateway writes a line a minute.
    let view = daemon.await_session("home", "is known by its log", stale + SOON * 2, |view| {
        view.conditions.iter().any(|condition| condition.reason == "TunnelUnreachable")
    });
    assert!(azure.count(Kind::Logs) >= 1);
    let known = view.conditions.iter().find(|condition| condition.kind.as_str() == "TelemetryKnown").unwrap();
    assert_eq!((view.state_name(), &*known.reason), (StateName::Active, "Fresh"), "{view:?}");
    let disagrees = view.conditions.iter().find(|condition| condition.kind.as_str() == "EvidenceAgrees");
    assert!(disagrees.unwrap().message.contains("drops UDP"), "{disagrees:?}");
    assert!(alice.pings(SERVER), "users have noticed nothing");

    nft("delete table inet between");
    daemon.await_session("home", "is known by its tunnel again", SOON, |view| {
        view.conditions.iter().all(|condition| condition.kind.as_str() != "EvidenceAgrees")
    });
    assert_eq!((azure.count(Kind::Put), azure.count(Kind::Delete)), (1, 0));
}

#[test]
fn a_hundred_passes_at_rest_cost_a_listing_each_and_write_nothing() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    let users: String = (0..3).map(|n| format!("  - name: user{n}\n")).collect();
    // All groups have one address here, unlike in Azure.
    let session = |n| {
        let port = 41820 + n;
        format!("  - {{ name: s{n}, users: [user{n}], region: eastus2, port: {port}, idleTimeout: 1h }}\n")
    };
    let sessions: String = (0..3).map(session).collect();
    let document = format!("version: 1\ndeployment: home\nusers:\n{users}sessions:\n{sessions}");
    let daemon = Daemon::with_document(&world, &document);
    (0..3).for_each(|n| drop(daemon.await_state(&format!("s{n}"), StateName::Active, SOON)));
    // What follows a creation is looked at one by one for as long as listings may be from before it.
    let quiet = || {
        let written = world.storage_writes(0);
        let count = |kind| azure.count(kind);
        (
            written,
            count(Kind::Get),
            count(Kind::Put),
            count(Kind::Patch),
            count(Kind::Delete),
            count(Kind::Post),
        )
    };
    let mut before = quiet();
    eventually("all is at rest", SOON * 2, || {
        world.ebb(&["reconcile", "--wait"]).success();
        let then = std::mem::replace(&mut before, quiet());
        if before == then { Ok(()) } else { Err(format!("{before:?}")) }
    });
    let listings = azure.count(Kind::List);
    for _ in 0..100 {
        world.ebb(&["reconcile", "--wait"]).success();
    }
    assert_eq!(quiet(), before);
    let listings = azure.count(Kind::List) - listings;
    assert!(
        (100..=102).contains(&listings),
        "one for each, and those that are due without a reason: {listings}"
    );
}

#[test]
fn a_group_that_survives_its_delete_is_deleted_again() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    azure.survive(1);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    daemon.edit(&nothing());
    // The first delete is said to have succeeded. It is not believed before the group is gone.
    eventually("it was deleted once", SOON, || match azure.count(Kind::Delete) {
        1 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(azure.groups().len(), 1);
    let recheck = Duration::try_from(ebb_core::plan::DELETE_RECHECK).unwrap();
    eventually("there is no group", recheck + SOON * 2, || match azure.groups().as_slice() {
        [] => Ok(()),
        groups => Err(format!("{groups:?}")),
    });
    eventually("the session is forgotten", SOON, || match daemon.session("home") {
        None => Ok(()),
        Some(view) => Err(format!("{view:?}")),
    });
    assert_eq!((azure.count(Kind::Delete), azure.count(Kind::Put)), (2, 1));
}

/// Waits as the caller says, and starts the daemon again whenever it has died.
fn revived<'w>(
    world: &'w World,
    daemon: &mut Daemon<'w>,
    what: &str,
    mut is: impl FnMut(&Daemon<'w>) -> bool,
) {
    eventually(what, SOON * 2, || {
        if daemon.ended().is_some() {
            *daemon = Daemon::start(world, &[]);
        }
        // It may die between the two lines; then the next look finds it dead.
        if is(daemon) { Ok(()) } else { Err(format!("{:?}", azure(world).calls())) }
    });
}

/// A session comes and goes, and the daemon is killed when its `number`th call of Azure has had its effect, before it hears so.
/// Whether there were as many calls.
fn killed_after(number: usize) -> bool {
    world().is_some_and(|world| killed_in(&world, &home(&["alice"], ""), number))
}

/// The same with this document in this world.
pub(crate) fn killed_in(world: &World, document: &str, number: usize) -> bool {
    let azure = azure(world);
    let (sender, killed) = channel();
    let victim: Arc<Mutex<Option<Pid>>> = Arc::default();
    let of_victim = Arc::clone(&victim);
    azure.interrupt(number, move || {
        let pid = std::iter::repeat_with(|| *of_victim.lock().unwrap()).flatten().next();
        kill(pid.unwrap(), Signal::SIGKILL).unwrap();
        sender.send(()).unwrap();
    });
    write_document(world, document);
    let mut daemon =
        Daemon::run_known(world, world.ebb_command(&["run"]), |pid| *victim.lock().unwrap() = Some(pid));

    revived(world, &mut daemon, "the session is up", |daemon| {
        daemon.try_state("home") == Some(StateName::Active)
    });
    assert_eq!(azure.groups().len(), 1, "one group");
    let pid = azure.pid(GROUP).unwrap();
    write_document(world, &nothing());
    revived(world, &mut daemon, "the session is forgotten", |daemon| daemon.try_sessions() == Some(0));
    assert_eq!(azure.groups(), Vec::<serde_json::Value>::new());
    assert!(!lives(pid), "no orphan");
    let puts = azure.calls().into_iter().filter(|call| call.kind == Kind::Put && call.status < 300).count();
    assert_eq!(puts, 1, "one PUT, so nothing was restarted: {:?}", azure.calls());
    killed.try_recv().is_ok()
}

/// Tests of one range each run side by side.
fn killed_after_each(numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        if !killed_after(number) {
            return;
        }
    }
}

#[test]
fn a_daemon_killed_after_one_to_four_calls_leaves_one_group_and_no_orphan() {
    killed_after_each(1..=4);
}

#[test]
fn a_daemon_killed_after_five_to_eight_calls_leaves_one_group_and_no_orphan() {
    killed_after_each(5..=8);
}

#[test]
fn a_daemon_killed_after_nine_to_twelve_calls_leaves_one_group_and_no_orphan() {
    killed_after_each(9..=12);
}

#[test]
fn a_daemon_killed_after_more_than_twelve_calls_leaves_one_group_and_no_orphan() {
    let past_the_last = (13..=40).any(|number| !killed_after(number));
    assert!(past_the_last, "a session that comes and goes takes more calls than were interrupted here");
}
