//! The document at a tag: whoever signed the tag vouches for it.

use ebb_core::condition::{ConditionKind, Status};
use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::{Daemon, Repository};

use crate::git::{await_condition, options, start};
use crate::{home, world};

/// Commits a document that nobody signs, and puts the tag there, signed; returns the commit.
fn release(repository: &Repository<'_>, document: &str, signed_by: &str) -> String {
    let commit = repository.push(document, None);
    let key = format!("user.signingKey={}", repository.path(signed_by).display());
    repository.git(&["-c", &key, "tag", "--sign", "--force", "-m", "release", "production"]);
    repository.git(&["push", "--quiet", "--force", "origin", "refs/tags/production"]);
    commit
}

#[test]
fn a_signed_tag_is_in_force_and_one_that_nobody_trusts_changes_nothing() {
    let Some(world) = world() else { return };
    let repository = Repository::new(&world);
    repository.key("alice");
    repository.key("mallory");
    let signers = repository.allowed_signers("alice");
    let _server = repository.serve_http();
    let first = release(&repository, &home(&["alice"], ""), "alice");
    let mut options = options(&world, &repository, Some(&signers));
    options[1] = options[1].replace("ref=main", "ref=refs/tags/production");
    let daemon: Daemon<'_> = start(&world, &options);
    daemon.await_state("home", StateName::Active, SOON);
    let gateway = daemon.gateway("home");
    let status = await_condition(&daemon, ConditionKind::SourceVerified, Status::True, "Verified");
    assert_eq!(status.revision.as_deref(), Some(first.as_str()));

    release(&repository, &home(&["alice"], "port: 41821"), "mallory");
    let status = await_condition(&daemon, ConditionKind::SourceVerified, Status::False, "Untrusted");
    assert_eq!(status.revision.as_deref(), Some(first.as_str()));
    let third = release(&repository, &home(&["alice"], "idleTimeout: 20m"), "alice");
    let status = await_condition(&daemon, ConditionKind::SourceVerified, Status::True, "Verified");
    assert_eq!(status.revision.as_deref(), Some(third.as_str()));
    assert_eq!(daemon.gateway("home"), gateway);
    assert!(world.ebb(&["history"]).success().stdout.contains("alice@example.com"));
}
