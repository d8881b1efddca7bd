//! The document in Git: over HTTP and SSH, with signatures that count.

use std::fs;

use ebb::view::StatusView;
use ebb_core::condition::{ConditionKind, Status};
use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::repository::TOKEN;
use ebb_tests::e2e::{Daemon, Repository, World, eventually};
use nix::sys::signal::Signal;

use crate::{home, world};

/// Options for a repository over HTTP that is looked at every second.
pub fn options(world: &World, repository: &Repository<'_>, signers: Option<&str>) -> Vec<String> {
    let token = world.path("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let url = repository.http_url();
    let token = token.display().to_string();
    let fixed = ["--document", &url, "--git-poll", "1", "--git-token-file", &token];
    let signers = signers.into_iter().flat_map(|file| ["--git-allowed-signers", file]);
    fixed.into_iter().chain(signers).map(str::to_owned).collect()
}

/// A daemon with these options.
pub fn start<'w>(world: &'w World, options: &[String]) -> Daemon<'w> {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Daemon::start(world, &options)
}

/// The status and the reason of a condition of the deployment.
fn condition(status: &StatusView, kind: ConditionKind) -> Option<(Status, String)> {
    let found = status.conditions.iter().find(|condition| condition.kind == kind);
    found.map(|condition| (condition.status, condition.reason.to_string()))
}

/// Waits until a condition of the deployment is as it should be.
pub fn await_condition(daemon: &Daemon<'_>, kind: ConditionKind, status: Status, reason: &str) -> StatusView {
    eventually(&format!("{} is {status:?} ({reason})", kind.as_str()), SOON, || {
        let seen = daemon.status();
        if condition(&seen, kind) == Some((status, reason.to_owned())) {
            Ok(seen)
        } else {
            Err(format!("{seen:?}"))
        }
    })
}

#[test]
fn signed_commits_are_in_force_and_others_change_nothing() {
    let Some(world) = world() else { return };
    let repository = Repository::new(&world);
    repository.key("alice");
    repository.key("mallory");
    let signers = repository.allowed_signers("alice");
    let _server = repository.serve_http();
    let first = repository.push(&home(&["alice"], ""), Some("alice"));
    let daemon = start(&world, &options(&world, &repository, Some(&signers)));
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");
    let status = await_condition(&daemon, ConditionKind::SourceVerified, Status::True, "Verified");
    assert_eq!(status.revision.as_deref(), Some(first.as_str()));

    let nothing = home(&["alice"], "").replace("sessions:\n", "sessions: []\n");
    let nothing = nothing.split_once("  - name: home").unwrap().0.to_owned();
    for (signed_by, reason) in [(None, "Unsigned"), (Some("mallory"), "Untrusted")] {
        repository.push(&nothing, signed_by);
        let status = await_condition(&daemon, ConditionKind::SourceVerified, Status::False, reason);
        assert_eq!(status.revision.as_deref(), Some(first.as_str()), "{reason}");
        assert_eq!(condition(&status, ConditionKind::Ready).unwrap().1, "DocumentRefused");
        assert_eq!(daemon.gateway("home"), gateway, "{reason}");
    }

    let second = repository.push(&home(&["alice"], "idleTimeout: 20m"), Some("alice"));
    let status = await_condition(&daemon, ConditionKind::SourceVerified, Status::True, "Verified");
    assert_eq!((status.revision.as_deref(), status.generation), (Some(second.as_str()), 2));
    assert_eq!(daemon.gateway("home"), gateway, "a longer timeout restarts nothing");
    let history = world.ebb(&["history"]).success().stdout;
    for part in [&first[..12], &second[..12], "alice@example.com", "Alice <alice@example.com>", "#2"] {
        assert!(history.contains(part), "{part} is missing in\n{history}");
    }

    repository.commit(&home(&["alice"], "idleTimeout: 30m"), Some("alice"), &["--amend"]);
    repository.git(&["push", "--quiet", "--force", "origin", "main"]);
    let status = await_condition(&daemon, ConditionKind::DocumentAccepted, Status::False, "HistoryRewritten");
    assert_eq!(status.revision.as_deref(), Some(second.as_str()));

    let edit = world.ebb(&["edit", "--yes"]).failure(1);
    assert!(edit.stderr.contains("change it there"), "{edit}");
    let rollback = world.ebb(&["rollback", &first[..10]]).failure(1);
    assert!(rollback.stderr.contains(&format!("git checkout {first} -- desired-state.yaml")), "{rollback}");
    assert!(!daemon.log().contains(TOKEN), "the token is in the log");
}

#[test]
fn the_last_document_survives_a_restart_without_its_repository() {
    let Some(world) = world() else { return };
    let repository = Repository::new(&world);
    let server = repository.serve_http();
    let commit = repository.push(&home(&["alice"], ""), None);
    let options = options(&world, &repository, None);
    let mut daemon = start(&world, &options);
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");
    server.set_open(false);
    daemon.signal(Signal::SIGTERM);
    daemon.await_end(SOON);
    drop(daemon);

    let daemon = start(&world, &options);
    let status = await_condition(&daemon, ConditionKind::DocumentAccepted, Status::False, "FetchFailed");
    assert_eq!(status.revision.as_deref(), Some(commit.as_str()));
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!(daemon.gateway("home"), gateway);
    server.set_open(true);
    await_condition(&daemon, ConditionKind::Ready, Status::True, "Settled");
}

#[test]
fn a_repository_over_ssh_is_fetched_from_a_known_host_only() {
    let Some(world) = world() else { return };
    let repository = Repository::new(&world);
    let commit = repository.push(&home(&["alice"], ""), None);
    let Some((_server, known_hosts)) = repository.serve_ssh() else { return };
    let (url, key) = (repository.ssh_url(), world.path("client").display().to_string());
    let nobody = world.path("nobody").display().to_string();
    fs::write(&nobody, "").unwrap();
    let start = |known: &str| {
        let options =
            ["--document", &url, "--git-poll", "1", "--git-ssh-key", &key, "--git-known-hosts", known];
        Daemon::start(&world, &options)
    };

    let mut daemon = start(&nobody);
    let status = await_condition(&daemon, ConditionKind::DocumentAccepted, Status::False, "FetchFailed");
    assert!(status.problems[0].contains("Host key verification failed"), "{:?}", status.problems);
    daemon.signal(Signal::SIGTERM);
    daemon.await_end(SOON);
    drop(daemon);

    let daemon = start(&known_hosts);
    daemon.await_state("home", StateName::Active, SOON);
    assert_eq!(daemon.status().revision.as_deref(), Some(commit.as_str()));
}

#[test]
fn a_pipeline_can_wait_for_its_own_commit() {
    let Some(world) = world() else { return };
    let repository = Repository::new(&world);
    let _server = repository.serve_http();
    repository.push(&home(&["alice"], ""), None);
    let mut options = options(&world, &repository, None);
    // Nobody polls here: only the request brings anything.
    options.extend(["--git-poll".to_owned(), "86400".to_owned()]);
    options.drain(2..4);
    let daemon = start(&world, &options);
    daemon.await_state("home", StateName::Active, SOON);

    let good = repository.push(&home(&["alice"], "port: 41821"), None);
    let reconcile = world.ebb(&["reconcile", "--wait", "--revision", &good, "-o", "json"]).success();
    let status: StatusView = reconcile.json();
    assert_eq!((status.revision.as_deref(), status.generation), (Some(good.as_str()), 2));
    assert_eq!(condition(&status, ConditionKind::Ready), Some((Status::True, "Settled".into())));
    assert_eq!(status.sessions[0].state_name(), StateName::Active, "it waited for the new gateway");

    let bad = repository.push(&home(&["alice"], "port: 51820"), None);
    let reconcile = world.ebb(&["reconcile", "--wait", "--revision", &bad]).failure(1);
    assert!(reconcile.stderr.contains("reserve"), "{reconcile}");
    let reconcile = world.ebb(&["reconcile", "--wait", "--revision", &good]).failure(1);
    assert!(reconcile.stderr.contains(&bad), "{reconcile}");
}
