//! Gateways in a private network behind a load balancer, which carries datagrams only where its pools say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ebb_core::state::StateName;
use ebb_tests::e2e::client::config;
use ebb_tests::e2e::server::{Names, PAGE};
use ebb_tests::e2e::world::{HOST, INSIDE, PRIVATE, SERVER};
use ebb_tests::e2e::{Client, Daemon, Place, World, eventually};
use ebb_tests::fake_arm::{FakeArm, Fault, Kind, LOAD_BALANCER, SUBNET, schema};
use serde_json::{Value, json};

use crate::azure::killed_in;
use crate::home;

/// As in the other tests with groups.
const SOON: Duration = Duration::from_secs(40);

const GROUP: &str = "ebb-home-home";
const ENTRY: &str = "ebb-home.home";

fn world() -> Option<World> {
    World::build_in(Place::PrivateNetwork, env!("CARGO_BIN_EXE_ebb-under-test"))
}

fn azure(world: &World) -> &FakeArm {
    world.azure.as_ref().unwrap()
}

/// A session in the private network with these further lines.
fn inside(lines: &str) -> String {
    let network = format!("network: {{ mode: vnet, subnet: {SUBNET}, loadBalancer: {LOAD_BALANCER} }}");
    home(&["alice"], &format!("{network}\n{lines}"))
}

fn nothing() -> String {
    "version: 1\ndeployment: home\nusers:\n  - name: alice\nsessions: []\n".to_owned()
}

/// The load balancer without anything of ours and without its versions.
fn foreign(azure: &FakeArm) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("etag");
                map.values_mut().for_each(strip);
            }
            Value::Array(all) => {
                all.retain(|one| one["name"] != ENTRY);
                all.iter_mut().for_each(strip);
            }
            _ => {}
        }
    }
    let mut shown = azure.load_balancer();
    strip(&mut shown);
    shown
}

/// Where the rule of the session leads.
fn led_to(azure: &FakeArm) -> Option<Vec<SocketAddr>> {
    azure.rules().remove(&41820)
}

fn at(address: &str) -> Vec<SocketAddr> {
    vec![SocketAddr::new(address.parse().unwrap(), 41820)]
}

#[test]
fn traffic_flows_through_the_load_balancer_and_follows_the_group_to_another_address() {
    let Some(world) = world() else { return };
    let (azure, before) = (azure(&world), foreign(azure(&world)));
    let daemon = Daemon::with_document(&world, &inside(""));
    daemon.await_state("home", StateName::Active, SOON);
    let file = config(&world, "alice", "home");
    assert!(file.contains(&format!("Endpoint = {HOST}:41820")), "{file}");
    let group = azure.groups().remove(0);
    assert_eq!(group["properties"]["ipAddress"]["type"], "Private");
    let alice = Client::connected(&world, 1, "alice", "home");
    assert_eq!(alice.fetch(&format!("http://{SERVER}/page")), PAGE);
    assert_eq!(led_to(azure), Some(at(INSIDE[0])));

    // Azure moves the group; its old address is nobody's.
    world.private_network.as_ref().unwrap().ip(&format!("address del {}/24 dev eth0", INSIDE[0]));
    azure.restart(GROUP);
    eventually("the rule leads to the new address", SOON, || match led_to(azure) {
        Some(to) if to == at(INSIDE[1]) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    alice.await_reach(SERVER);
    assert_eq!(config(&world, "alice", "home"), file, "nobody needs a new file");
    assert_eq!(azure.count(Kind::Put), 1);

    daemon.edit(&nothing());
    eventually("the group and its rule are gone", SOON, || match (azure.groups().len(), led_to(azure)) {
        (0, None) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(foreign(azure), before);
    assert!(
        azure.load_balancer().to_string().contains("theirs")
            && !azure.load_balancer().to_string().contains(ENTRY)
    );
    if !schema::knows_load_balancers() {
        eprintln!(
            "{} has no network-2024-07-01.json, so requests about load balancers were not checked by it",
            schema::FOLDER
        );
    }
}

#[test]
fn users_reach_private_ranges_that_routes_name_and_names_that_a_private_resolver_knows() {
    let Some(world) = world() else { return };
    let everywhere = SocketAddr::new(PRIVATE.parse().unwrap(), 53);
    let _names = Names::start(&world.internet, everywhere, &[("wiki.corp.example", &[PRIVATE])]);
    let lines = format!("routes: [10.50.0.0/24]\ndns: {{ upstream: [{PRIVATE}] }}");
    let daemon = Daemon::with_document(&world, &inside(&lines));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    assert_eq!(alice.fetch("http://wiki.corp.example/page"), PAGE);
    assert!(!alice.pings(SERVER), "no route names the Internet");
}

#[test]
fn at_rest_nothing_is_written_and_what_somebody_breaks_is_mended() {
    let Some(world) = world() else { return };
    let (azure, before) = (azure(&world), foreign(azure(&world)));
    let daemon = Daemon::with_document(&world, &inside(""));
    daemon.await_state("home", StateName::Active, SOON);
    let alice = Client::connected(&world, 1, "alice", "home");
    alice.fetch(&format!("http://{SERVER}/page"));
    let written = azure.count(Kind::PutLoadBalancer);
    for _ in 0..5 {
        world.ebb(&["reconcile", "--wait"]).success();
    }
    assert_eq!(azure.count(Kind::PutLoadBalancer), written);

    // A deployment of the template writes the load balancer as it is there.
    azure.change_load_balancer(|balancer| {
        for kind in ["loadBalancingRules", "backendAddressPools"] {
            balancer["properties"][kind].as_array_mut().unwrap().retain(|one| one["name"] != ENTRY);
        }
    });
    world.ebb(&["reconcile"]).success();
    alice.await_reach(SERVER);
    assert_eq!((foreign(azure), azure.count(Kind::Put)), (before, 1));
}

#[test]
fn a_change_by_somebody_else_in_between_is_not_overwritten() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    azure.change_load_balancer(|balancer| balancer["tags"]["Note"] = json!("first"));
    // Refused as if somebody had been faster, twice; the third attempt has what they wrote.
    for _ in 0..2 {
        let changed = Fault::Refuse { status: 412, code: "PreconditionFailed", retry_after: None };
        azure.fail(Kind::PutLoadBalancer, changed);
    }
    let daemon = Daemon::with_document(&world, &inside(""));
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!(azure.load_balancer()["tags"]["Note"], "first");
    assert!(azure.count(Kind::LoadBalancer) >= 3);
}

#[test]
fn a_load_balancer_that_cannot_be_changed_is_named_and_the_group_can_still_go() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    for _ in 0..1000 {
        let refused = Fault::Refuse { status: 403, code: "AuthorizationFailed", retry_after: None };
        azure.fail(Kind::PutLoadBalancer, refused);
    }
    let daemon = Daemon::with_document(&world, &inside(""));
    daemon.await_session("home", "names the load balancer", SOON, |view| {
        let mut conditions = view.conditions.iter();
        conditions.any(|condition| condition.message.contains("cannot change the load balancer lb"))
    });
    daemon.edit(&nothing());
    eventually("there is no group", SOON, || match azure.groups().len() {
        0 => Ok(()),
        groups => Err(groups.to_string()),
    });
}

#[test]
fn a_port_that_somebody_else_s_rule_has_is_left_to_them() {
    let Some(world) = world() else { return };
    let (azure, before) = (azure(&world), foreign(azure(&world)));
    let daemon = Daemon::with_document(&world, &inside("port: 443"));
    daemon.await_session("home", "says that the port is taken", SOON, |view| {
        view.conditions.iter().any(|condition| condition.message.contains("RulesUseSameFrontendPort"))
    });
    assert_eq!(foreign(azure), before);
    let theirs: BTreeMap<_, _> = azure.rules();
    assert_eq!(theirs[&443], [SocketAddr::new("10.1.0.250".parse().unwrap(), 443)]);
}

#[test]
fn a_group_that_somebody_else_deletes_leaves_no_rule_behind() {
    let Some(world) = world() else { return };
    let azure = azure(&world);
    let daemon = Daemon::with_document(&world, &format!("drift: warn\n{}", inside("")));
    daemon.await_state("home", StateName::Active, SOON);
    azure.vanish(GROUP);
    eventually("the rule is gone", SOON, || {
        world.ebb(&["reconcile"]).success();
        match led_to(azure) {
            None => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Kills the daemon after each of these calls of Azure, in a world of its own each.
fn killed_after_each(numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        let Some(world) = world() else { return };
        let before = foreign(azure(&world));
        let is_over = !killed_in(&world, &inside(""), number);
        assert_eq!((led_to(azure(&world)), foreign(azure(&world))), (None, before), "after call {number}");
        if is_over {
            return;
        }
    }
}

#[test]
fn a_daemon_killed_after_one_to_eight_calls_leaves_no_rule_and_no_group() {
    killed_after_each(1..=8);
}

#[test]
fn a_daemon_killed_after_nine_to_sixteen_calls_leaves_no_rule_and_no_group() {
    killed_after_each(9..=16);
}

#[test]
fn a_daemon_killed_after_more_than_sixteen_calls_leaves_no_rule_and_no_group() {
    killed_after_each(17..=24);
}
