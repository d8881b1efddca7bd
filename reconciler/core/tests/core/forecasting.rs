//! What the forecast sees coming.

use ebb_core::note::NoteKind;
use ebb_desired_state::Schedule;
use jiff::SignedDuration;

use crate::situation::{Situation, session};

/// Minutes from now, and what happens then.
fn foreseen(world: &Situation, minutes: i64) -> Vec<(i64, NoteKind)> {
    let since_now = |at| SignedDuration::as_secs(&world.now.duration_until(at)) / 60;
    world.forecast(minutes).into_iter().map(|foreseen| (since_now(foreseen.0.at), foreseen.0.kind)).collect()
}

fn used() -> Situation {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.send("s", "alice");
    world.settle();
    world
}

#[test]
fn a_session_that_nobody_uses_from_now_on_ends_after_its_timeout() {
    let world = used();
    let end = [(10, NoteKind::IdleDetected), (10, NoteKind::AutoShutdown), (10, NoteKind::StopSuccess)];
    assert_eq!(foreseen(&world, 9), []);
    assert_eq!(foreseen(&world, 45), end);
}

#[test]
fn an_open_connection_keeps_a_session_in_the_forecast_too() {
    let mut world = used();
    world.telemetry("s").peers.values_mut().for_each(|peer| peer.open_flows = 1);
    assert_eq!(foreseen(&world, 45), []);
}

#[test]
fn stale_telemetry_does_not_heal_in_the_forecast() {
    let mut world = used();
    world.telemetry("s").taken_at -= SignedDuration::from_secs(300);
    assert_eq!(foreseen(&world, 45), []);
}

#[test]
fn a_schedule_is_followed_through_days() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    // It is Friday, 8:00 in London.
    let office = Schedule::new("Mon-Fri".parse().unwrap(), "06:00-22:00".parse().unwrap(), "Europe/London");
    world.session("s").schedule = Some(office.unwrap());
    world.session("s").idle.timeout = std::time::Duration::from_hours(20);
    world.up();
    world.send("s", "alice");
    world.settle();
    let (friday_evening, monday_morning) = (14 * 60 - 1, 70 * 60 - 1);
    let stop = [(friday_evening, NoteKind::StopStart), (friday_evening, NoteKind::StopSuccess)];
    let start = [(monday_morning, NoteKind::ProvisionStart), (monday_morning, NoteKind::ProvisionSuccess)];
    assert_eq!(foreseen(&world, 24 * 60), stop);
    assert_eq!(foreseen(&world, 71 * 60), [stop, start].concat());
}

#[test]
fn looking_ahead_changes_nothing() {
    let world = used();
    let before = world.records.clone();
    assert!(!world.forecast(45).is_empty());
    assert_eq!(world.records, before);
}
