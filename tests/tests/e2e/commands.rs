//! The command line for programs: JSON from every command, and exit codes.

use std::fs;

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::{Daemon, World};
use serde_json::Value;

use crate::{home, world};

fn json(world: &World, arguments: &[&str], code: i32) -> Value {
    let output = world.ebb(&[arguments, &["-o", "json"]].concat()).failure(code);
    output.json()
}

#[test]
fn every_command_speaks_json() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);

    let status = json(&world, &["status"], 0);
    assert_eq!(status["sessions"][0]["state"], "active");
    assert_eq!(json(&world, &["explain", "home"], 0)["session"], "home");
    assert_eq!(json(&world, &["plan"], 0)["plan"], Value::Array(vec![]));
    assert_eq!(json(&world, &["plan", "--at", "+1h"], 0)["plan"], Value::Array(vec![]));
    assert_eq!(json(&world, &["events"], 0)[0]["kind"], "vpn.provision.success");
    assert_eq!(json(&world, &["schema"], 0)["type"], "object");
    assert_eq!(json(&world, &["validate"], 0)[0]["valid"], true);
    assert_eq!(json(&world, &["keygen"], 0)["publicKey"].as_str().unwrap().len(), 44);
    assert_eq!(json(&world, &["stop", "home", "--wait"], 0)["state"], "parked");
    assert_eq!(json(&world, &["history", "home"], 0)[0]["reason"], "stopped");
    assert_eq!(json(&world, &["history"], 0)[0]["generation"], 1);
    assert_eq!(json(&world, &["start", "home", "--wait"], 0)["state"], "active");
    let revision = status["revision"].as_str().unwrap();
    assert_eq!(json(&world, &["approve", revision], 0)["approved"], revision);
    let config = json(&world, &["config", "alice@home"], 0);
    assert!(config.to_string().contains(&world.endpoint("home", 41820)));

    let bad = world.path("bad.yaml");
    fs::write(&bad, home(&["alice"], "port: 51820")).unwrap();
    let verdict = json(&world, &["validate", &bad.display().to_string()], 2);
    let problem = &verdict[0]["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&Value::from(9), &Value::from(11)));
}

#[test]
fn exit_codes_are_those_of_the_documentation() {
    let Some(world) = world() else { return };
    let documented = world.ebb(&["--help"]).success().stdout;
    let codes = "Exit codes: 0 done, 1 failed or `doctor` found a fault, 2 wrong command line or document, \
                 3 `plan` found something to do";
    let one_line = documented.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(one_line.contains(codes), "{documented}");

    let file = |name: &str, text: &str| {
        let path = world.path(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let bad = file("bad.yaml", &home(&["alice"], "port: 51820"));
    let more = file("more.yaml", &home(&["alice", "bob"], ""));
    ebb_tests::e2e::daemon::write_document(&world, &home(&["alice"], ""));
    let without_daemon: [(&[&str], i32, &str); 9] = [
        (&["validate"], 0, "valid, 1 session(s) of 1 user(s)"),
        (&["validate", &bad], 2, "reserve"),
        (&["validate", "/nowhere.yaml"], 1, "cannot read /nowhere.yaml"),
        (&["validate", "git+https://example.com/vpn.git"], 2, "is no file on this machine"),
        (&["status"], 1, "no daemon answers at 127.0.0.1:9180; start one with `ebb run`"),
        (&["plan"], 3, "create ebb-home-home"),
        (&["plan", &bad], 2, "reserve"),
        (&["stat"], 2, "status"),
        (&[], 2, "Usage"),
    ];
    let check = |cases: &[(&[&str], i32, &str)]| {
        for (arguments, code, words) in cases {
            let output = world.ebb(arguments).failure(*code);
            assert!(format!("{}{}", output.stdout, output.stderr).contains(words), "{words:?}: {output}");
        }
    };
    check(&without_daemon);

    let daemon = Daemon::start(&world, &[]);
    daemon.await_state("home", StateName::Active, SOON);
    check(&[
        (&["plan"], 0, "nothing to do"),
        (&["plan", &more], 3, "bob"),
        (&["plan", &bad], 2, "reserve"),
        (&["plan", "/nowhere.yaml"], 1, "cannot read /nowhere.yaml"),
        (&["explain", "work"], 1, "there is no session work"),
        (&["explain", "Work"], 2, "session name"),
        (&["history", "work"], 1, "there is no session work"),
        (&["history", "home"], 0, "no run of home has ended in the last 30 days"),
        (&["start", "work"], 1, "there is no session work; the document has home"),
        (&["stop", "work"], 1, "there is no session work; the document has home"),
        (&["approve", "0123"], 1, "revision 0123 is not in force"),
        (&["config", "bob@home"], 1, "bob is no user of session home; its users are alice"),
        (&["config", "alice@home", "--mtu", "100"], 2, "1280"),
        (&["config", "alice@home", "--qr"], 0, "█"),
        (&["events", "--type", "desired.accepted"], 0, "with 1 sessions"),
        (&["status", "--api", "127.0.0.1:1"], 1, "no daemon answers at 127.0.0.1:1"),
    ]);
}

#[test]
fn a_mass_teardown_waits_for_an_approval_of_its_revision() {
    let Some(world) = world() else { return };
    let many = "limits: { maxTeardownsPerPass: 0 }\n";
    let with = |text: &str| text.replace("users:\n  -", &format!("{many}users:\n  -"));
    let daemon = Daemon::with_document(&world, &with(&home(&["alice"], "")));
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");
    let nothing = with("version: 1\ndeployment: home\nusers:\n  - name: alice\nsessions: []\n");
    let held = daemon.edit(&nothing);
    daemon.await_session("home", "waits for approval", SOON, |view| {
        view.conditions.iter().any(|condition| condition.reason == "TooManyTeardowns")
    });
    assert_eq!(daemon.gateway("home"), gateway);
    let told = world.ebb(&["status"]).success().stdout;
    let revision = held.revision.unwrap();
    assert!(told.contains(&format!("`ebb approve {revision}`")), "{told}");
    world.ebb(&["approve", &revision]).success();
    ebb_tests::e2e::eventually("the session is gone", SOON, || match daemon.session("home") {
        None => Ok(()),
        Some(view) => Err(view.because.join("; ")),
    });
}
