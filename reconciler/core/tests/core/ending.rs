//! What is kept of runs that have ended.

use ebb_core::ended::EndedRun;
use ebb_core::fold::Outcome;
use ebb_core::observed::Phase;
use ebb_core::outcome::{Class, Failure};
use ebb_core::record::RequestKind;
use jiff::SignedDuration;

use crate::situation::{Situation, name, session};

fn up() -> Situation {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world
}

/// Lets what is being deleted go.
fn end(world: &mut Situation) {
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
}

fn reasons(world: &Situation) -> Vec<&str> {
    world.ended.iter().map(|ended| ended.reason.as_str()).collect()
}

#[test]
fn an_ended_run_tells_when_it_was_why_it_ended_and_how_it_was_used() {
    let mut world = up();
    let begun = world.now - SignedDuration::from_secs(10);
    let run = world.record("s").run.clone().unwrap();
    world.send("s", "alice");
    let used_at = world.now;
    world.advance(3600);
    world.ask_for("s", RequestKind::Stop);
    world.settle();
    assert_eq!(world.ended, [], "it ends when nothing of it is left, not before");
    // The document may say something else by then.
    world.edit(|document| document.sessions[0].region = "elsewhere".into());
    world.advance(60);
    world.run_gateways();
    let _ = world.pass();
    let [ended] = &world.ended[..] else { panic!("{:?}", world.ended) };
    assert_eq!((&ended.session, &ended.run, ended.generation), (&name("s"), &run.id, run.generation));
    assert_eq!((ended.began_at, ended.created_at, ended.active_at), (begun, Some(begun), run.active_at));
    assert_eq!((ended.ended_at, ended.lasted()), (world.now, SignedDuration::from_secs(3670)));
    assert_eq!((ended.reason.as_str(), ended.message.as_str()), ("stopped", "somebody stopped it"));
    assert_eq!(ended.region.as_deref(), Some("local"), "where it ran");
    let used = ended.used.as_ref().unwrap();
    assert_eq!((used.last_handshake, used.received_bytes, used.sent_bytes), (Some(used_at), 1, 0));
    assert_eq!(world.records["s"].totals.runs, 1);

    let json = serde_json::to_string(ended).unwrap();
    assert_eq!(serde_json::from_str::<EndedRun>(&json).unwrap(), *ended);
}

#[test]
fn a_run_that_ends_with_its_session_is_kept_although_the_record_is_not() {
    let mut world = up();
    world.edit(|document| document.sessions.clear());
    end(&mut world);
    assert!(world.records.is_empty());
    assert_eq!(reasons(&world), ["removed"]);
}

#[test]
fn a_failed_run_ended_because_of_its_failure_and_not_because_of_a_later_one() {
    let mut world = up();
    world.gateway("s").phase = Phase::Failed { message: "no such image".into() };
    let _ = world.pass();
    world.advance(1);
    world.fold(&name("s"), &Outcome::DeleteFailed(Failure::new(Class::Transient, "busy")));
    world.advance(3600);
    end(&mut world);
    assert_eq!(reasons(&world)[0], "failed");
    assert!(!world.ended[0].message.contains("busy"), "{:?}", world.ended);

    let mut world = up();
    world.gateway("s").phase = Phase::Failed { message: "no such image".into() };
    end(&mut world);
    assert!(world.ended[0].message.contains("no such image"), "{:?}", world.ended);
}

#[test]
fn a_run_whose_gateway_vanished_has_ended_when_the_next_begins() {
    let mut world = up();
    let first = world.record("s").run.clone().unwrap().id;
    world.vanish("s");
    world.advance(60);
    let _ = world.pass();
    assert_eq!(reasons(&world), ["vanished"]);
    assert_eq!(world.ended[0].run, first);
    assert_ne!(world.record("s").run.clone().unwrap().id, first);
}

#[test]
fn of_a_run_without_a_report_nobody_says_that_it_was_not_used() {
    let mut world = up();
    world.evidence.clear();
    world.ask_for("s", RequestKind::Stop);
    end(&mut world);
    assert_eq!(world.ended[0].used, None);
}

#[test]
fn an_attempt_that_the_provider_refused_is_no_run_that_ended() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.settle();
    world.vanish("s");
    world.fold(&name("s"), &Outcome::CreateFailed(Failure::new(Class::Quota, "full")));
    world.settle();
    assert_eq!(world.ended, []);
}
