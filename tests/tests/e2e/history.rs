//! Documents that were in force, what people do with them, and runs that have ended.

use ebb::store::{RedbStore, Store as _};
use ebb_core::ended::{EndedRun, Used};
use ebb_core::names::{Generation, Hash};
use ebb_core::note::{Note, NoteKind, Outcome};
use ebb_core::record::Record;
use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::{SOON, write_document};
use ebb_tests::e2e::wait::wall_clock;
use ebb_tests::e2e::world::SERVER;
use ebb_tests::e2e::{Client, Daemon, Download, Output, Place, World, eventually};

use crate::{home, world};

fn edit(world: &World, editor: &str) -> Output {
    let mut command = world.ebb_command(&["edit", "--yes"]);
    command.env("VISUAL", "").env("EDITOR", editor);
    world.run(&world.host, command)
}

fn curl(world: &World, arguments: &[&str]) -> Output {
    let key = std::fs::read_to_string(world.path("state/admin.key")).unwrap();
    let key = format!("X-API-Key: {}", key.trim());
    world.curl(&world.host, &[&["-H", &key, "-w", "\n%{http_code}"], arguments].concat()).success()
}

#[test]
fn people_edit_compare_and_bring_back() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], "idleTimeout: 11m"));
    daemon.await_state("home", StateName::Active, SOON);
    let first = daemon.status().revision.unwrap();
    let gateway = daemon.gateway("home");

    let edited = edit(&world, "sed -i s/11m/12m/").success();
    assert!(edited.stderr.contains("12m") && edited.stdout.contains("generation #2"), "{edited}");
    let second = daemon.status().revision.unwrap();
    assert_ne!(first, second);
    assert!(edit(&world, "true").success().stderr.contains("nothing was changed"));
    let invalid = edit(&world, "sed -i s/12m/12/").failure(1);
    assert!(invalid.stderr.contains("idleTimeout") && invalid.stderr.contains("is kept in"), "{invalid}");
    edit(&world, "false").failure(1);
    assert_eq!(daemon.status().revision.as_deref(), Some(second.as_str()));

    let explain = world.ebb(&["explain", "home"]).success().stdout;
    assert!(explain.contains("last changed by admin") && explain.contains("11m -> 12m"), "{explain}");

    let diff = world.ebb(&["diff", &first[..6], "#2"]).success().stdout;
    assert!(diff.contains("11m") && diff.contains("12m"), "{diff}");
    assert!(world.ebb(&["diff", &second]).success().stdout.contains("both say the same"));
    world.ebb(&["diff", "00000000"]).failure(1);

    world.ebb(&["rollback", &first]).success();
    let status = daemon.status();
    assert_eq!((status.revision.as_deref(), status.generation), (Some(first.as_str()), 3));
    let file = std::fs::read_to_string(world.path("desired/desired-state.yaml")).unwrap();
    assert!(file.contains("11m"), "{file}");
    let history = world.ebb(&["history"]).success().stdout;
    assert!(history.contains(&format!("brings {} back", &first[..12])), "{history}");
    world.ebb(&["rollback", &first]).failure(1);
    assert_eq!(daemon.gateway("home"), gateway);
}

#[test]
fn nobody_overwrites_what_they_have_not_seen() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], "idleTimeout: 11m"));
    daemon.await_state("home", StateName::Active, SOON);
    let seen = daemon.status().revision.unwrap();
    daemon.edit(&home(&["alice"], "idleTimeout: 12m"));

    let url = "http://127.0.0.1:9180/api/desired-state";
    let text = home(&["alice"], "idleTimeout: 13m");
    let put = |tag: &str, text: &str| {
        let tag = format!("If-Match: {tag}");
        curl(&world, &["-X", "PUT", "-H", &tag, "--data-binary", text, url]).stdout
    };
    let stale = put(&format!("\"{seen}\""), &text);
    assert!(stale.ends_with("\n412") && stale.contains("changed meanwhile"), "{stale}");
    assert!(curl(&world, &["-X", "PUT", "--data-binary", &text, url]).stdout.ends_with("\n428"));
    let invalid = put("*", &home(&["alice"], "port: 51820"));
    assert!(invalid.ends_with("\n422") && invalid.contains("reserve"), "{invalid}");
    let file = std::fs::read_to_string(world.path("desired/desired-state.yaml")).unwrap();
    assert!(file.contains("12m"), "{file}");

    let current = daemon.status().revision.unwrap();
    let put = put(&format!("\"{current}\""), &text);
    assert!(put.ends_with("\n200") && put.contains("\"generation\":3"), "{put}");
    let got = curl(&world, &[url]).stdout;
    assert_eq!(got, format!("{text}\n200"));
}

#[test]
fn a_session_rests_while_it_is_suspended() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    daemon.await_state("home", StateName::Active, SOON);
    world.ebb(&["suspend", "home", "--until", "+1h"]).failure(2);
    let past = ["suspend", "home", "--reason", "incident 42", "--until", "2020-01-01T00:00:00Z"];
    world.ebb(&past).failure(1);
    world.ebb(&["suspend", "home", "--reason", "incident 42", "--until", "+1h"]).success();
    let view = daemon.await_state("home", StateName::Suspended, SOON);
    assert!(view.because.iter().any(|line| line.contains("incident 42")), "{:?}", view.because);
    let start = world.ebb(&["start", "home"]).failure(1);
    assert!(start.stderr.contains("ebb resume home"), "{start}");
    world.ebb(&["resume", "home"]).success();
    daemon.await_state("home", StateName::Active, SOON);
    let events = world.ebb(&["events", "--type", "operator.suspend"]).success().stdout;
    assert!(events.contains("incident 42"), "{events}");
}

#[test]
fn a_storm_of_edits_causes_few_passes_and_ends_with_the_last() {
    let Some(world) = world() else { return };
    let text = |edit: u32| home(&["alice"], &format!("idleTimeout: {}m", 10 + edit));
    let daemon = Daemon::with_document(&world, &text(0));
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");
    let passes = || -> u64 {
        let (_, metrics) = daemon.get("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("ebb_reconcile_total "));
        line.unwrap().parse().unwrap()
    };
    let before = passes();
    for edit in 1..=1000 {
        write_document(&world, &text(edit));
        ebb_tests::e2e::wait::pause(std::time::Duration::from_millis(10));
    }
    eventually("the last edit is in force", SOON, || {
        let newest: serde_json::Value =
            world.ebb(&["history", "--limit", "1", "-o", "json"]).success().json();
        let changes = newest[0]["changes"].to_string();
        if changes.contains("-> 16h50m") { Ok(()) } else { Err(changes) }
    });
    let made = passes() - before;
    assert!(made < 200, "1000 edits made {made} passes");
    assert_eq!(daemon.gateway("home"), gateway);
}

#[test]
fn an_approval_does_not_outlast_the_time_its_document_is_in_force() {
    let Some(world) = world() else { return };
    let two = home(&["alice"], "")
        .replace("sessions:\n", "  - name: bob\nlimits: { maxTeardownsPerPass: 1 }\nsessions:\n")
        + "  - { name: work, users: [bob], region: local, port: 41821 }\n";
    let none = two.split_once("sessions:\n").unwrap().0.to_owned() + "sessions: []\n";
    let daemon = Daemon::with_document(&world, &two);
    let both_active = || {
        for session in ["home", "work"] {
            daemon.await_state(session, StateName::Active, SOON);
        }
    };
    both_active();
    let first = daemon.status().revision.unwrap();
    let held = || {
        eventually("two teardowns are held", SOON, || match daemon.status().held_teardowns {
            2 => Ok(()),
            other => Err(other.to_string()),
        });
    };
    daemon.edit(&none);
    held();
    let second = daemon.status().revision.unwrap();
    world.ebb(&["approve", &second]).success();
    eventually("both are gone", SOON, || {
        let left = daemon.status().sessions.len();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    });
    world.ebb(&["rollback", &first]).success();
    both_active();
    world.ebb(&["rollback", &second]).success();
    held();
    both_active();
}

#[test]
fn a_merge_can_be_planned_without_a_daemon() {
    let Some(world) = world() else { return };
    let write = |name: &str, text: &str| {
        let path = world.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let base = write("base.yaml", &home(&["alice"], ""));
    let same = write("same.yaml", &format!("# a comment\n{}", home(&["alice"], "")));
    let moved = write("moved.yaml", &home(&["alice"], "port: 41821"));
    let broken = write("broken.yaml", &home(&["alice"], "port: 51820"));
    world.ebb(&["plan", &same, "--from", &base, "--markdown"]).success();
    let plan = world.ebb(&["plan", &moved, "--from", &base, "--at", "+24h", "--markdown"]).failure(3);
    for part in ["### Ebb plan", "41820 -> 41821 (replaces the gateway", "`home`: delete"] {
        assert!(plan.stdout.contains(part), "{part:?} is missing in\n{plan}");
    }
    assert!(world.ebb(&["plan", &broken, "--from", &base]).failure(2).stderr.contains("reserve"));
    assert!(!world.path("state").exists(), "a plan of files leaves nothing behind");
}

#[test]
fn history_older_than_five_days_is_removed() {
    let Some(world) = World::build_in(Place::Host, env!("CARGO_BIN_EXE_ebb-under-test")) else { return };
    let state = world.path("state");
    std::fs::create_dir(&state).unwrap();
    let note = |days: i64, message: &str| Note {
        at: wall_clock() - jiff::SignedDuration::from_hours(24 * days),
        kind: NoteKind::ProvisionFailure,
        outcome: Outcome::Failure,
        session: Some("home".parse().unwrap()),
        run: None,
        user: None,
        message: message.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = RedbStore::open(&state.join("store.redb")).unwrap();
    runtime.block_on(store.append(&[note(6, "six days ago"), note(4, "four days ago")])).unwrap();
    drop(store);
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    eventually("what is old is gone", SOON, || {
        let told: Vec<_> = daemon.events("home").into_iter().map(|note| note.message).collect();
        assert!(told.iter().any(|message| message == "four days ago"), "{told:?}");
        if told.iter().any(|message| message == "six days ago") { Err(format!("{told:?}")) } else { Ok(()) }
    });
}

#[test]
fn a_run_is_shown_after_its_end_with_its_length_its_reason_and_its_bytes() {
    let Some(world) = world() else { return };
    let daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    let session_id = daemon.await_state("home", StateName::Active, SOON).session_id;
    let alice = Client::connected(&world, 1, "alice", "home");
    Download::start(&alice, SERVER, 1 << 20).finish();
    eventually("the daemon has heard of it", SOON, || {
        let sent: u64 = daemon.session("home").unwrap().users.iter().map(|user| user.sent_bytes).sum();
        if sent > 1 << 20 { Ok(()) } else { Err(sent.to_string()) }
    });
    world.ebb(&["stop", "home", "--wait"]).success();

    let runs: Vec<EndedRun> = world.ebb(&["history", "home", "-o", "json"]).success().json();
    let [run] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!((Some(run.run.as_str()), run.reason.as_str()), (session_id.as_deref(), "stopped"));
    assert!(run.began_at < run.active_at.unwrap() && run.active_at.unwrap() < run.ended_at, "{run:?}");
    let used = run.used.as_ref().unwrap();
    assert!(used.sent_bytes > 1 << 20 && used.last_handshake.is_some(), "{run:?}");
    let shown = world.ebb(&["history", "home"]).success().stdout;
    let region = run.region.as_deref().unwrap();
    for part in ["ENDED BECAUSE", "somebody stopped it", region, "MB", &run.run.as_str()[..12]] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
}

#[test]
fn a_run_that_ended_is_kept_for_thirty_days() {
    let Some(world) = World::build_in(Place::Host, env!("CARGO_BIN_EXE_ebb-under-test")) else { return };
    let state = world.path("state");
    std::fs::create_dir(&state).unwrap();
    let run = |id: &str, days: i64| {
        let at = wall_clock() - jiff::SignedDuration::from_hours(24 * days);
        EndedRun {
            session: "old".parse().unwrap(),
            run: id.to_owned().into(),
            generation: Generation(1),
            region: None,
            began_at: at,
            created_at: None,
            active_at: None,
            ended_at: at,
            reason: "removed".into(),
            message: "the document no longer has it".into(),
            used: Some(Used { observed_at: at, last_handshake: None, received_bytes: 0, sent_bytes: 0 }),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = RedbStore::open(&state.join("store.redb")).unwrap();
    let record = Record::new(&"old".parse().unwrap(), Hash::of(&"spec"), None, wall_clock());
    runtime.block_on(async {
        let version = store.put_record(&record, None, Some(&run("thirty-one", 31))).await.unwrap();
        store.remove_record(&record.session, version, Some(&run("twenty-nine", 29))).await.unwrap();
    });
    drop(store);
    let _daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    eventually("what is old is gone", SOON, || {
        let kept: Vec<EndedRun> = world.ebb(&["history", "old", "-o", "json"]).success().json();
        let kept: Vec<_> = kept.iter().map(|run| run.run.as_str()).collect();
        assert!(kept.contains(&"twenty-nine"), "{kept:?}");
        if kept.len() == 1 { Ok(()) } else { Err(format!("{kept:?}")) }
    });
}
