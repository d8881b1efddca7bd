//! The gateway needs no privilege.

use std::fs;

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::world::{SERVER, SERVER_V6, Wrapped};
use ebb_tests::e2e::{Client, Daemon, Download};

use crate::{home, world};

const DROP: &str = "setpriv --reuid nobody --regid nogroup --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs";

#[test]
fn a_gateway_without_any_privilege_carries_everything() {
    let Some(world) = world() else { return };
    let options = world.wrap_gateways(&Wrapped { user: Some("nobody"), by: DROP, ..Wrapped::default() });
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    ebb_tests::e2e::daemon::write_document(&world, &home(&["alice"], ""));
    let daemon = Daemon::start(&world, &options);
    daemon.await_state("home", StateName::Active, SOON);

    let status = fs::read_to_string(format!("/proc/{}/status", daemon.gateway("home"))).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Uid:"), ["65534"; 4].join("\t"));
    assert_eq!(field("Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");

    let alice = Client::connected(&world, 1, "alice", "home");
    for server in [SERVER, &format!("[{SERVER_V6}]")] {
        Download::start(&alice, server, 10 << 20).finish();
    }
    assert!(alice.pings(SERVER) && alice.pings(SERVER_V6));
    alice.fetch("http://www.ebb.example/page");
    world.ebb(&["gateway", "health", "--port", "41820"]).success();
    world.ebb(&["stop", "home", "--wait"]).success();
    world.ebb(&["gateway", "health", "--port", "41820"]).failure(1);
}
