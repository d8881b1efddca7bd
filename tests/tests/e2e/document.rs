//! The document: what an edit does, and what a bad one does not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ebb::view::StatusView;
use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::process::Process;
use ebb_tests::e2e::{Daemon, eventually};

use crate::{home, world};

#[test]
fn a_fresh_checkout_comes_to_active_with_nothing_else() {
    let Some(world) = world() else { return };
    if !world.is_about_local("with nothing else than a checkout Ebb runs gateways on the machine itself") {
        return;
    }
    let checkout = world.path("checkout");
    fs::create_dir_all(checkout.join("desired-state")).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../desired-state/desired-state.yaml");
    fs::copy(shipped, checkout.join("desired-state/desired-state.yaml")).unwrap();
    let ebb = |arguments: &[&str]| {
        let mut command = Command::new(world.ebb_program());
        command.args(arguments).current_dir(&checkout);
        command
    };

    let mut daemon = Process::spawn(&world.host, &world.logs(), "daemon", ebb(&["run"]));
    eventually("alice-home is active", SOON, || {
        assert!(daemon.ended().is_none(), "the daemon ended");
        let output = world.run(&world.host, ebb(&["status", "-o", "json"]));
        if !output.status.success() {
            return Err(output.to_string());
        }
        let status: StatusView = output.json();
        match status.sessions.as_slice() {
            [only] if only.session.as_str() == "alice-home" && only.state_name() == StateName::Active => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    });
    let file = world.run(&world.host, ebb(&["config", "alice@alice-home"])).success().stdout;
    assert!(
        file.contains("PrivateKey = ") && file.contains("Endpoint = 127.0.0.1:41820\n"),
        "the file is odd"
    );
    let left: Vec<_> = fs::read_dir(&checkout).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "beside the document there is .ebb and nothing else: {left:?}");
}

#[test]
fn sessions_and_users_come_and_go_with_the_document() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");

    let second = &format!("  - {{ name: work, users: [bob], region: {}, port: 41821 }}\n", world.region());
    let both = home(&["alice"], "").replace("sessions:\n", "  - name: bob\nsessions:\n") + second;
    daemon.edit(&both);
    let work = daemon.await_state("work", StateName::Active, SOON);
    assert_eq!(work.users.iter().map(|user| user.user.as_str()).collect::<Vec<_>>(), ["bob"]);
    assert_ne!(work.endpoint, daemon.session("home").unwrap().endpoint, "each has its own port");

    daemon.edit(&home(&["alice"], ""));
    eventually("work is gone", SOON, || match daemon.session("work") {
        None => Ok(()),
        Some(view) => Err(view.because.join("; ")),
    });
    assert!(!daemon.has_gateway("work"));
    assert_eq!(daemon.gateway("home"), gateway, "the other session's gateway was left alone");
}

#[test]
fn an_edit_is_seen_however_the_file_is_written() {
    let Some(world) = world() else { return };
    let directory = world.path("desired");
    let file = directory.join("desired-state.yaml");
    let text = |timeout: u8| home(&["alice"], &format!("idleTimeout: {timeout}m"));
    let daemon = Daemon::with_document(&world, &text(10));
    daemon.await_state("home", StateName::Active, SOON);
    let generation = |wanted: u64| {
        daemon.await_session("home", &format!("has generation {wanted}"), SOON, |v| v.generation == wanted);
        assert_eq!(daemon.status().problems, [""; 0]);
    };

    daemon.edit(&text(11)); // Renamed into place.
    generation(2);
    fs::write(&file, text(12)).unwrap();
    generation(3);

    // As Kubernetes mounts a ConfigMap: the file leads through a link that is replaced.
    for (version, timeout) in [("..one", 13), ("..two", 14)] {
        fs::create_dir(directory.join(version)).unwrap();
        fs::write(directory.join(version).join("desired-state.yaml"), text(timeout)).unwrap();
    }
    symlink("..one", directory.join("..data")).unwrap();
    symlink("..data/desired-state.yaml", directory.join(".link")).unwrap();
    fs::rename(directory.join(".link"), &file).unwrap();
    generation(4);
    symlink("..two", directory.join("..new")).unwrap();
    fs::rename(directory.join("..new"), directory.join("..data")).unwrap();
    generation(5);
    fs::remove_dir_all(directory.join("..one")).unwrap();
    fs::write(directory.join("..two/desired-state.yaml"), text(15)).unwrap();
    generation(6);
}

#[test]
fn a_bad_edit_changes_nothing_and_says_where_it_is_bad() {
    let Some(world) = world() else { return };
    let good = home(&["alice"], "");
    let daemon = Daemon::with_document(&world, &good);
    daemon.await_state("home", StateName::Active, SOON);
    let (before, gateway) = (daemon.status(), daemon.gateway("home"));
    let file = world.path("desired/desired-state.yaml").display().to_string();

    let reserved = home(&["alice"], "port: 51820");
    let unknown = good.replace("[alice]", "[alice, mallory]");
    let unclosed = good.replace("[alice]", "[alice");
    for (text, place, line, word) in [
        (&reserved, ":9:11", "    port: 51820", "reserve"),
        (&unknown, ":7:20", "    users: [alice, mallory]", "mallory"),
        (&unclosed, ":8:11", &format!("    region: {}", world.region()), ""),
        (&String::new(), "", "", "empty"),
    ] {
        let status = daemon.edit(text);
        assert_eq!(status.revision, before.revision, "the good one stays in force");
        let [problem] = status.problems.as_slice() else { panic!("{:?}", status.problems) };
        for part in [&format!("{file}{place}"), line, word] {
            assert!(problem.contains(part), "{part:?} is missing in\n{problem}");
        }
        assert!(world.ebb(&["status"]).success().stdout.contains(problem.lines().next().unwrap()));

        let validate = world.ebb(&["validate", &file]).failure(2);
        for part in [&format!("{file}{place}"), line, word] {
            assert!(validate.stderr.contains(part), "{part:?} is missing in\n{validate}");
        }
        assert_eq!(daemon.gateway("home"), gateway);
        assert_eq!(daemon.session("home").unwrap().generation, 1);
    }

    let refused = |note: &ebb_core::note::Note| note.kind.as_str() == "desired.rejected";
    let events: Vec<ebb_core::note::Note> = world.ebb(&["events", "-o", "json"]).success().json();
    assert_eq!(events.iter().filter(|note| refused(note)).count(), 4, "one line of history each");
    let status = daemon.edit(&good);
    assert_eq!((status.problems.len(), status.revision), (0, before.revision));
    world.ebb(&["validate", &file]).success();
}
