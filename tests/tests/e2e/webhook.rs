//! Webhooks: a push is in force without anybody polling.

use std::fs;
use std::process::Command;

use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::{Daemon, Repository, World, eventually};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{home, world};

const SECRET: &str = "It's a Secret to Everybody";

/// GitHub's published example of a push (github.com/octokit/webhooks), without most of the addresses of repository and people.
const PUSH: &str = include_str!("github-push.json");

/// The example, about these commits.
fn payload(before: &str, after: &str) -> String {
    let published = ["6113728f27ae82c7b1a177c8d03f9e96e0adf246", "0000000000000000000000000000000000000000"];
    PUSH.replace(published[0], before).replace(published[1], after)
}

fn signature(secret: &str, signed: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// Posts a delivery; returns the status.
fn deliver(world: &World, path: &str, headers: &[&str], body: &str) -> u16 {
    let file = world.path("body");
    fs::write(&file, body).unwrap();
    let (data, url) = (format!("@{}", file.display()), format!("http://127.0.0.1:9180{path}"));
    let mut arguments = vec![
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        "Content-Type: application/json",
        "-H",
        "Expect:",
    ];
    arguments.extend(headers.iter().flat_map(|header| ["-H", header]));
    arguments.extend(["--data-binary", &data, &url]);
    world.curl(&world.host, &arguments).stdout.parse().unwrap()
}

fn deliveries(daemon: &Daemon<'_>, result: &str) -> u32 {
    let (_, metrics) = daemon.get("/metrics");
    let name = format!("ebb_webhook_deliveries_total{{result=\"{result}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_push_is_in_force_when_a_webhook_tells_of_it() {
    let Some(world) = world() else { return };
    let repository = Repository::new(&world);
    let first = repository.push(&home(&["alice"], ""), None);
    let secret = world.path("secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let url = format!("git+file://{}?ref=main", repository.bare());
    let secret = secret.display().to_string();
    let options =
        ["--document", &url, "--git-poll", "86400", "--git-report", "--webhook-secret-file", &secret];
    let daemon = Daemon::start(&world, &options);
    daemon.await_state("home", StateName::Active, SOON);

    let second = repository.push(&home(&["alice"], "idleTimeout: 20m"), None);
    let body = payload(&first, &second);
    let wrong = format!("X-Hub-Signature-256: {}", signature("another secret", &body));
    assert_eq!(deliver(&world, "/hooks/github", &[&wrong], &body), 401);
    assert_eq!(deliver(&world, "/hooks/github", &[], &body), 401);
    let right = format!("X-Hub-Signature-256: {}", signature(SECRET, &body));
    assert_eq!(deliver(&world, "/hooks/github", &[&right], &(body.clone() + " ")), 401);
    assert_eq!(daemon.status().revision.as_deref(), Some(first.as_str()));

    assert_eq!(deliver(&world, "/hooks/github", &["X-GitHub-Event: push", &right], &body), 202);
    let in_force = |commit: &str| {
        eventually("the push is in force", SOON, || match daemon.status().revision {
            Some(revision) if revision == commit => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    in_force(&second);
    assert_eq!(deliver(&world, "/hooks/github", &["X-GitHub-Event: push", &right], &body), 202);
    assert_eq!((deliveries(&daemon, "accepted"), deliveries(&daemon, "repeated")), (1, 1));

    eventually("the commit has a note", SOON, || {
        let note = Command::new("git")
            .args(["-C", &repository.bare(), "notes", "--ref=ebb/home", "show", &second])
            .output()
            .unwrap();
        let note = String::from_utf8(note.stdout).unwrap();
        if note.contains("Ready=True (Settled)") { Ok(()) } else { Err(note) }
    });

    let large = "x".repeat(5_000_001);
    let signed = format!("X-Hub-Signature-256: {}", signature(SECRET, &large));
    assert_eq!(deliver(&world, "/hooks/github", &[&signed], &large), 413);
    let ping = r#"{"zen":"Keep it logically awesome."}"#;
    let signed = format!("X-Hub-Signature-256: {}", signature(SECRET, ping));
    assert_eq!(deliver(&world, "/hooks/github", &["X-GitHub-Event: ping", &signed], ping), 202);
    assert_eq!(deliveries(&daemon, "ignored"), 1);

    let third = repository.push(&home(&["alice"], "idleTimeout: 30m"), None);
    let now = daemon.status().at.as_second();
    let old = (now - 3600).to_string();
    let timed = |at: &str| {
        let signature = signature(SECRET, &format!("{at}.{{}}"));
        let (time, signature) = (format!("X-Ebb-Timestamp: {at}"), format!("X-Ebb-Signature: {signature}"));
        deliver(&world, "/hooks/forge", &[&time, &signature], "{}")
    };
    assert_eq!(timed(&old), 401);
    assert_eq!(timed(&now.to_string()), 202);
    in_force(&third);
}

#[test]
fn without_a_secret_there_are_no_webhooks() {
    let Some(world) = world() else { return };
    let _daemon = Daemon::with_document(&world, &home(&["alice"], ""));
    let signed = format!("X-Hub-Signature-256: {}", signature("", "{}"));
    assert_eq!(deliver(&world, "/hooks/github", &[&signed], "{}"), 404);
}
