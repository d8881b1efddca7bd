//! The document in a blob, and Event Grid, which tells that it was written.

use std::fs;
use std::net::TcpListener;

use ebb::view::StatusView;
use ebb_core::condition::{ConditionKind, Status};
use ebb_core::state::StateName;
use ebb_tests::e2e::daemon::SOON;
use ebb_tests::e2e::{Daemon, Output, World, eventually};
use ebb_tests::fake_blob::{CONTAINER, FakeBlob, NAME};
use serde_json::Value;

use crate::{home, world};

const SECRET: &str = "a secret with 16 characters and more";
/// Beside Azurite, which has the usual ports where gateways run in Azure.
const ACCOUNT: &str = "127.0.0.1:10010";
const HOOK: &str = "http://127.0.0.1:9180/hooks/eventgrid";

/// Examples of Microsoft's pages.
const VALIDATION: &str = include_str!("../../../reconciler/src/http/hooks/event_grid/validation.json");
const CREATED: &str = include_str!("../../../reconciler/src/http/hooks/event_grid/blob-created.json");
const CREATED_CLOUD: &str =
    include_str!("../../../reconciler/src/http/hooks/event_grid/blob-created.cloudevents.json");

fn start<'w>(world: &'w World, document: &str) -> (FakeBlob, Daemon<'w>) {
    let listener = world.host.run(|| TcpListener::bind(ACCOUNT)).unwrap();
    let blob = FakeBlob::start(listener);
    blob.write(document);
    let secret = world.path("secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let (url, secret) = (blob.url(), secret.display().to_string());
    let daemon = Daemon::start(world, &["--document", &url, "--webhook-secret-file", &secret]);
    daemon.await_state("home", StateName::Active, SOON);
    (blob, daemon)
}

/// An example, about this blob.
fn about(example: &str, container: &str, name: &str) -> String {
    example.replace("test-container/blobs/new-file.txt", &format!("{container}/blobs/{name}"))
}

/// Sends something to the hook, with the secret in the query; what came back, with the status in the last line.
fn send(world: &World, secret: &str, options: &[&str], body: &str) -> Output {
    let file = world.path("body");
    fs::write(&file, body).unwrap();
    let (data, url) =
        (format!("@{}", file.display()), format!("{HOOK}?secret={}", secret.replace(' ', "%20")));
    let fixed = ["-w", "\n%{http_code}", "-H", "Content-Type: application/json", "-H", "Expect:"];
    world.curl(&world.host, &[&fixed, options, &["--data-binary", &data, &url]].concat()).success()
}

fn status(output: &Output) -> u16 {
    output.stdout.lines().last().unwrap().parse().unwrap()
}

fn deliveries(daemon: &Daemon<'_>, result: &str) -> u32 {
    let (_, metrics) = daemon.get("/metrics");
    let name = format!("ebb_webhook_deliveries_total{{result=\"{result}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

fn await_refusal(daemon: &Daemon<'_>, reason: &str) -> StatusView {
    eventually(&format!("the document is refused: {reason}"), SOON, || {
        let seen = daemon.status();
        let is_refused = seen.conditions.iter().any(|condition| {
            condition.kind == ConditionKind::DocumentAccepted
                && condition.status == Status::False
                && condition.reason == reason
        });
        if is_refused { Ok(seen) } else { Err(format!("{:?}", seen.conditions)) }
    })
}

fn newest(world: &World) -> Value {
    let history: Value = world.ebb(&["history", "-o", "json"]).success().json();
    history[0].clone()
}

#[test]
fn event_grid_brings_the_next_look_at_the_blob_forward() {
    let Some(world) = world() else { return };
    let (blob, daemon) = start(&world, &home(&["alice"], ""));
    let first = daemon.status().revision;

    let validated = send(&world, SECRET, &["-H", "aeg-event-type: SubscriptionValidation"], VALIDATION);
    assert!(
        validated.stdout.starts_with(r#"{"validationResponse":"512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}"#),
        "{validated}"
    );
    assert_eq!(status(&validated), 200);
    let options = ["-X", "OPTIONS", "-D", "-", "-H", "WebHook-Request-Origin: eventgrid.azure.net"];
    let asked = send(&world, SECRET, &options, "");
    let told = asked.stdout.to_lowercase();
    assert!(told.contains("webhook-allowed-origin: eventgrid.azure.net"), "{asked}");
    assert!(told.contains("webhook-allowed-rate: 60"), "{asked}");

    // A look that fails; the next one by itself is then at least 54 seconds away.
    blob.refuse(Some((503, None)));
    let ours = about(CREATED, CONTAINER, NAME);
    assert_eq!(status(&send(&world, SECRET, &[], &ours)), 202);
    let seen = await_refusal(&daemon, "FetchFailed");
    assert_eq!(seen.revision, first, "what is in force stays");
    blob.refuse(None);
    blob.write(&home(&["alice"], "idleTimeout: 20m"));

    for wrong in ["", "another secret of some length"] {
        assert_eq!(status(&send(&world, wrong, &[], &ours)), 401, "{wrong}");
        assert_eq!(status(&send(&world, wrong, &[], VALIDATION)), 401, "{wrong}");
        assert_eq!(status(&send(&world, wrong, &options, "")), 401, "{wrong}");
    }
    assert_eq!(status(&send(&world, SECRET, &[], "{}")), 400);
    assert_eq!(status(&send(&world, SECRET, &[], &"x".repeat(5_000_001))), 413);
    assert_eq!(status(&send(&world, SECRET, &[], &about(CREATED, CONTAINER, "other.yaml"))), 202);
    assert_eq!((deliveries(&daemon, "accepted"), deliveries(&daemon, "ignored")), (1, 1));
    assert_eq!(daemon.status().revision, first);

    let header = format!("X-Ebb-Secret: {SECRET}");
    let by_header = send(&world, "", &["-H", &header], &about(CREATED_CLOUD, CONTAINER, NAME));
    assert_eq!(status(&by_header), 202);
    eventually("the second version is in force", SOON, || match daemon.status().generation {
        2 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(deliveries(&daemon, "accepted"), 2);
    assert!(!daemon.log().contains(SECRET), "the secret is in the log");

    let many = format!("{HOOK}?secret=wrong&number=[1-100]");
    let codes = world.curl(&world.host, &["-o", "/dev/null", "-w", "%{http_code} ", "-d", "", &many]).stdout;
    assert!(codes.contains("401") && codes.ends_with("429 "), "{codes}");
}

#[test]
fn every_revision_of_a_blob_is_kept_with_its_version_and_can_be_brought_back() {
    let Some(world) = world() else { return };
    let (blob, daemon) = start(&world, &home(&["alice"], "idleTimeout: 11m"));
    let gateway = daemon.gateway("home");
    let first = newest(&world);
    assert_eq!(first["version"].as_str(), Some(blob.versions()[0].as_str()));
    let second = blob.write(&home(&["alice"], "idleTimeout: 12m"));
    world.ebb(&["reconcile", "--wait"]).success();
    assert_eq!(newest(&world)["version"].as_str(), Some(second.as_str()));
    let table = world.ebb(&["history"]).success().stdout;
    assert!(table.contains("VERSION") && table.contains(&second), "{table}");

    let revision = first["revision"].as_str().unwrap();
    world.ebb(&["rollback", revision]).success();
    assert_eq!(blob.text(), Some(home(&["alice"], "idleTimeout: 11m")));
    let newest = newest(&world);
    assert_eq!((newest["generation"].as_u64(), newest["restores"].as_str()), (Some(3), Some(revision)));
    assert_eq!(newest["version"].as_str(), blob.versions().last().map(String::as_str));
    assert_eq!(blob.versions().len(), 3);
    assert_eq!(daemon.gateway("home"), gateway);
}
