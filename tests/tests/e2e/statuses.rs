//! Commit statuses at GitHub: pull requests show what became of a commit.

use std::net::TcpListener;
use std::os::unix::fs::symlink;

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::repository::TOKEN;
use ebb_tests::e2e::server::GitServer;
use ebb_tests::e2e::{Daemon, Repository, World, eventually};
use ebb_tests::fake_github::FakeGithub;

use crate::git::{options, start};
use crate::{home, world};

const API: &str = "127.0.0.1:8419";

struct Forge<'w> {
    repository: Repository<'w>,
    github: FakeGithub,
    _server: GitServer,
}

impl<'w> Forge<'w> {
    fn new(world: &'w World) -> Self {
        let repository = Repository::new(world);
        std::fs::create_dir(world.path("repositories/acme")).unwrap();
        symlink("../vpn.git", world.path("repositories/acme/vpn.git")).unwrap();
        let _server = repository.serve_http();
        let listener = world.host.run(|| TcpListener::bind(API)).unwrap();
        Self { github: FakeGithub::start(listener), repository, _server }
    }

    fn daemon(&self, world: &'w World) -> Daemon<'w> {
        let mut options = options(world, &self.repository, None);
        options[1] = options[1].replace("/vpn.git", "/acme/vpn.git");
        let api = format!("http://{API}");
        let more = ["--git-commit-status", "--git-api", &api, "--git-status-url", "https://ebb.example/"];
        options.extend(more.map(str::to_owned));
        start(world, &options)
    }

    /// Waits until the newest status of a commit is this one; returns its description.
    fn await_status(&self, commit: &str, state: &str) -> String {
        eventually(&format!("the status of {commit} is {state}"), SOON, || {
            let statuses = self.github.statuses(commit);
            match statuses.last() {
                Some(status) if status["state"] == state => {
                    assert_eq!(status["context"], "ebb/home");
                    assert_eq!(status["target_url"], "https://ebb.example/");
                    Ok(status["description"].as_str().unwrap().to_owned())
                }
                _ => Err(format!("{statuses:?}")),
            }
        })
    }
}

#[test]
fn a_commit_has_the_status_of_what_became_of_it() {
    let Some(world) = world() else { return };
    let forge = Forge::new(&world);
    let first = forge.repository.push(&home(&["alice"], ""), None);
    let daemon = forge.daemon(&world);
    daemon.await_state("home", StateName::Active, SOON);
    assert!(forge.await_status(&first, "success").starts_with("Settled: "));

    let bad = forge.repository.push(&home(&["alice"], "port: 51820"), None);
    let description = forge.await_status(&bad, "failure");
    assert!(description.starts_with("Invalid: ") && description.chars().count() <= 140, "{description}");
    assert_eq!(daemon.status().revision.as_deref(), Some(first.as_str()));

    let good = forge.repository.push(&home(&["alice"], "idleTimeout: 20m"), None);
    forge.await_status(&good, "success");
    assert_eq!(forge.github.refused(), 0);
    assert!(!daemon.log().contains(TOKEN), "the token is in the log");
}

#[test]
fn a_forge_that_takes_no_status_disturbs_nothing() {
    let Some(world) = world() else { return };
    let forge = Forge::new(&world);
    forge.github.go_down();
    forge.repository.push(&home(&["alice"], ""), None);
    let daemon = forge.daemon(&world);
    daemon.await_state("home", StateName::Active, SOON);
    eventually("the daemon has tried", SOON, || match forge.github.refused() {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    let second = forge.repository.push(&home(&["alice"], "idleTimeout: 20m"), None);
    eventually("the second commit is in force", SOON, || match daemon.status().revision {
        Some(revision) if revision == second => Ok(()),
        other => Err(format!("{other:?}")),
    });
    eventually("the log says why", SOON, || {
        let log = daemon.log();
        if log.contains("GitHub answered 503") { Ok(()) } else { Err(log) }
    });
}
