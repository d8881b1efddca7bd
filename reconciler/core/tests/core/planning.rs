//! Rules of the planner, one at a time.

use ebb_core::action::{Action, Plan};
use ebb_core::condition::{Condition, ConditionKind};
use ebb_core::fold::Outcome;
use ebb_core::names::GatewayName;
use ebb_core::observed::{Gateway, Phase};
use ebb_core::outcome::{Class, Failure};
use ebb_core::record::RequestKind;
use ebb_core::state::{Rest, State, StateName, Wait};
use ebb_desired_state::Suspension;
use jiff::SignedDuration;

use crate::situation::{Situation, name, session, user};

#[test]
fn a_session_comes_up_and_then_nothing_is_left_to_do() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    assert_eq!(*world.state("s"), State::Active);
    assert!(world.plan().0.is_empty());
}

#[test]
fn users_of_a_removed_session_hold_their_slot_until_it_is_gone() {
    let mut world = Situation::new(vec![session("old", &["alice"])]);
    world.up();
    world.edit(|document| document.sessions = vec![session("new", &["alice"])]);
    world.settle();
    let wait = Wait::User { user: user("alice"), session: name("old") };
    assert_eq!(*world.state("new"), State::Queued { wait });
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(world.state("new").name(), StateName::Provisioning);
}

fn four() -> Situation {
    let sessions = [("a", "alice"), ("b", "bob"), ("c", "carol"), ("d", "dave")];
    let mut world = Situation::new(sessions.map(|(name, user)| session(name, &[user])).to_vec());
    world.up();
    world
}

fn deletes(plan: &Plan) -> Vec<&str> {
    let is_delete = |action: &Action| matches!(action, Action::Delete { .. });
    plan.actions().filter(|(_, action)| is_delete(action)).map(|(session, _)| session.as_str()).collect()
}

#[test]
fn an_edit_that_ends_too_much_ends_nothing_until_it_is_approved() {
    let mut world = four();
    world.edit(|document| document.sessions.clear());
    world.settle();
    assert!(world.records.values().all(|record| record.state == State::Active));
    world.approved = Some(world.revision());
    world.settle();
    assert!(world.records.values().all(|record| record.state.name() == StateName::Terminating));
}

#[test]
fn sessions_in_flight_count_towards_a_mass_teardown() {
    let mut world = four();
    world.in_flight.insert(name("a"));
    world.edit(|document| document.sessions.clear());
    assert_eq!(deletes(&world.pass().0), [""; 0]);
}

#[test]
fn a_held_teardown_stays_held_when_one_of_its_sessions_ends_by_itself() {
    let mut world = four();
    world.edit(|document| document.sessions.clear());
    world.settle();
    world.gateway("a").phase = Phase::Exited { status: Some(1) };
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert!(!world.records.contains_key("a"));
    for held in ["b", "c", "d"] {
        assert_eq!(*world.state(held), State::Active, "{held}");
    }
}

#[test]
fn users_whose_time_is_over_need_no_approval() {
    let mut world = four();
    let soon = world.now + SignedDuration::from_mins(5);
    world.edit(|document| document.users.iter_mut().for_each(|user| user.until = Some(soon)));
    world.settle();
    world.advance(300);
    assert_eq!(deletes(&world.pass().0), ["a", "b", "c", "d"]);
}

#[test]
fn an_edit_that_dates_an_end_back_is_an_edit_that_ends() {
    let mut world = four();
    let past = world.now - SignedDuration::from_hours(24 * 365);
    world.edit(|document| document.sessions.iter_mut().for_each(|session| session.until = Some(past)));
    world.settle();
    assert!(world.records.values().all(|record| record.state == State::Active));
    // Another edit that changes nothing about it releases nothing.
    world.edit(|document| document.limits.active_users = 8);
    world.settle();
    assert!(world.records.values().all(|record| record.state == State::Active));
}

/// A session that was stopped and is going.
fn stopping() -> Situation {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.ask_for("s", RequestKind::Stop);
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Terminating);
    world.advance(1);
    world
}

fn comes_back(mut world: Situation) {
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Provisioning);
}

#[test]
fn a_stopped_session_rests() {
    let mut world = stopping();
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Stopped });
}

#[test]
fn a_start_while_the_gateway_is_still_going_is_not_lost() {
    let mut world = stopping();
    world.ask_for("s", RequestKind::Start);
    comes_back(world);
}

#[test]
fn a_wake_while_the_gateway_is_still_going_is_not_lost() {
    let mut world = stopping();
    world.edit(|_| {});
    world.session("s").wake = Some("again".into());
    comes_back(world);
}

#[test]
fn an_edit_while_the_gateway_is_still_going_is_not_lost() {
    let mut world = stopping();
    world.edit(|_| {});
    world.session("s").dns.upstream = vec![[9, 9, 9, 9].into()];
    comes_back(world);
}

#[test]
fn a_new_api_key_wakes_nobody() {
    let mut world = stopping();
    world.advance(60);
    world.run_gateways();
    world.settle();
    world.edit(|document| document.users[0].api_key_sha256 = Some([3; 32].into()));
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Stopped });
}

#[test]
fn a_gateway_that_took_no_configuration_is_deleted_without_delay() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    let failure = Failure::new(Class::Fatal, "refused");
    world.fold(&name("s"), &Outcome::ConfigureFailed(failure));
    world.ask_for("s", RequestKind::Stop);
    assert_eq!(deletes(&world.pass().0), ["s"]);
}

#[test]
fn failures_of_an_earlier_run_do_not_lengthen_the_pauses_of_a_later_one() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.settle();
    for _ in 0..5 {
        world.fold(&name("s"), &Outcome::CreateFailed(Failure::new(Class::Quota, "full")));
        world.vanish("s");
        world.advance(1000);
        world.settle();
    }
    world.advance(60);
    world.run_gateways();
    world.settle();
    world.ask_for("s", RequestKind::Stop);
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(world.record("s").last_failure, None);
    world.ask_for("s", RequestKind::Start);
    world.settle();
    world.fold(&name("s"), &Outcome::CreateFailed(Failure::new(Class::Quota, "full")));
    assert_eq!(world.record("s").failures, 1);
}

#[test]
fn failures_are_forgotten_once_a_session_has_been_up_for_a_while() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.record("s").failures = 5;
    world.advance(299);
    world.settle();
    assert_eq!(world.record("s").failures, 5);
    world.advance(1);
    world.settle();
    assert_eq!(world.record("s").failures, 0);
}

#[test]
fn a_failure_that_has_been_overcome_is_not_reported() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    let failure = Failure::new(Class::Transient, "no answer");
    world.fold(&name("s"), &Outcome::ConfigureFailed(failure));
    world.advance(15);
    world.settle();
    let (_, report) = world.plan();
    let progressing = |condition: &&Condition| condition.kind == ConditionKind::Progressing;
    assert_eq!(report.sessions["s"].conditions.iter().find(progressing), None);
}

#[test]
fn only_a_look_at_the_end_of_the_grace_period_ends_a_session() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.send("s", "alice");
    world.advance(600);
    world.settle();
    let State::Idle { deadline, .. } = *world.state("s") else { panic!("{:?}", world.state("s")) };
    world.advance(1);
    world.settle();
    world.now = deadline;
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Idle, "its gateway was asked nine seconds ago");
    world.advance(0);
    world.settle();
    assert_eq!(*world.state("s"), State::Terminating { why: Rest::Idle });
}

#[test]
fn traffic_in_the_grace_period_saves_a_session_whose_timeout_is_shorter_than_that() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.session("s").idle.timeout = std::time::Duration::from_secs(5);
    world.up();
    world.send("s", "alice");
    world.advance(5);
    world.settle();
    let State::Idle { deadline, .. } = *world.state("s") else { panic!("{:?}", world.state("s")) };
    world.advance(1);
    world.send("s", "alice");
    world.advance(9);
    assert_eq!(world.now, deadline);
    world.settle();
    let State::Idle { deadline, .. } = *world.state("s") else { panic!("{:?}", world.state("s")) };
    world.advance(10);
    assert_eq!(world.now, deadline, "another grace period");
    world.settle();
    assert_eq!(*world.state("s"), State::Terminating { why: Rest::Idle });
}

#[test]
fn a_start_saves_a_session_in_its_grace_period() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.send("s", "alice");
    world.advance(600);
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Idle);
    world.advance(5);
    world.ask_for("s", RequestKind::Start);
    world.settle();
    assert_eq!(*world.state("s"), State::Active);
    world.advance(599);
    world.settle();
    assert_eq!(*world.state("s"), State::Active);
    world.advance(1);
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Idle);
}

#[test]
fn a_user_who_is_given_a_session_has_its_whole_timeout_to_come() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.send("s", "alice");
    world.advance(590);
    world.edit(|_| {});
    world.session("s").users.push(user("bob"));
    world.settle();
    world.advance(590);
    world.settle();
    assert_eq!(*world.state("s"), State::Active);
}

#[test]
fn starting_a_session_that_waits_does_not_cost_it_its_place() {
    let mut world = Situation::new(vec![session("a", &["alice"])]);
    world.document.limits.active_sessions = 1;
    world.up();
    world.edit(|document| document.sessions.push(session("b", &["bob"])));
    world.settle();
    world.advance(10);
    world.edit(|document| document.sessions.push(session("c", &["carol"])));
    world.settle();
    world.advance(10);
    world.ask_for("b", RequestKind::Start);
    world.settle();
    world.ask_for("a", RequestKind::Stop);
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(world.state("b").name(), StateName::Provisioning);
    assert_eq!(world.state("c").name(), StateName::Queued);
}

#[test]
fn a_start_of_a_waiting_session_replaces_one_of_the_same_user_that_is_still_provisioning() {
    let mut world = Situation::new(vec![session("a", &["alice"]), session("b", &["alice"])]);
    world.settle();
    assert_eq!(world.state("a").name(), StateName::Provisioning);
    world.advance(5);
    world.ask_for("b", RequestKind::Start);
    world.settle();
    assert_eq!(*world.state("a"), State::Terminating { why: Rest::Superseded { by: name("b") } });
}

#[test]
fn a_gateway_that_is_being_deleted_is_not_taken_over() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    let old = world.gateway("s").clone();
    world.ask_for("s", RequestKind::Stop);
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
    world.ask_for("s", RequestKind::Start);
    world.settle();
    // A listing from before shows the earlier run once more.
    let gateway_name = world.gateway_name("s");
    let gateway = Gateway { phase: Phase::Deleting, ..old.clone() };
    world.observed.as_mut().unwrap().gateways.insert(gateway_name, gateway);
    world.settle();
    assert_ne!(world.record("s").run.as_ref().unwrap().id, old.run);
}

#[test]
fn a_gateway_that_is_still_being_created_is_taken_over_as_such() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.settle();
    world.records.clear();
    world.settle();
    assert_eq!(*world.state("s"), State::Provisioning);
}

#[test]
fn a_starting_gateway_is_asked_every_second() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.evidence.clear();
    world.settle();
    let (_, report) = world.plan();
    assert_eq!(report.sessions["s"].state, State::Starting);
    assert_eq!(report.sessions["s"].ask_at, Some(world.now + SignedDuration::from_secs(1)));
}

#[test]
fn a_listing_that_may_be_older_than_the_create_does_not_confirm_a_delete() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.settle();
    world.advance(2);
    world.ask_for("s", RequestKind::Stop);
    world.settle();
    world.vanish("s");
    world.advance(2);
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Terminating);
    world.advance(30);
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Stopped });
}

#[test]
fn a_session_has_one_step_even_if_a_stray_gateway_claims_to_be_its_own() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    let stray = Gateway { run: "stray".to_owned().into(), ..world.gateway("s").clone() };
    let stray_name = GatewayName::listed("ebb-home-copy");
    world.observed.as_mut().unwrap().gateways.insert(stray_name.clone(), stray);
    world.session("s").dns.upstream = vec![[9, 9, 9, 9].into()];
    let (plan, _) = world.plan();
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(deletes(&plan), ["s"]);
}

#[test]
fn a_stray_gateway_that_cannot_be_deleted_is_not_tried_in_every_pass() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    let stray = Gateway { run: "stray".to_owned().into(), session: name("x"), ..world.gateway("s").clone() };
    world.observed.as_mut().unwrap().gateways.insert(GatewayName::listed("ebb-home-copy"), stray);
    let (plan, _) = world.plan();
    assert_eq!(deletes(&plan), ["x"]);
    for (session, action) in plan.actions() {
        if let Action::Store { record, .. } = action {
            world.records.insert(session.clone(), (**record).clone());
        }
    }
    world.fold(&name("x"), &Outcome::DeleteFailed(Failure::new(Class::Transient, "fault")));
    assert_eq!(deletes(&world.plan().0), [""; 0]);
    world.observed.as_mut().unwrap().gateways.retain(|_, gateway| gateway.session == name("s"));
    world.settle();
    assert!(!world.records.contains_key("x"));
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_up() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.settle();
    world.fold(&name("s"), &Outcome::CreateFailed(Failure::new(Class::Transient, "fault")));
    world.vanish("s");
    world.advance(-3600);
    world.settle();
    world.advance(2);
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Provisioning);
}

#[test]
fn a_session_in_flight_is_still_reported() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.in_flight.insert(name("s"));
    let (plan, report) = world.plan();
    assert!(plan.is_empty());
    assert_eq!(report.sessions["s"].state, State::Active);
}

#[test]
fn a_gateway_that_was_taken_over_is_configured_with_no_older_generation_than_it_has() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.telemetry("s").generation = Some(5);
    world.records.clear();
    world.edit(|_| {});
    world.session("s").dns.upstream = vec![[9, 9, 9, 9].into()];
    let (plan, _) = world.pass();
    let offered = plan.actions().find_map(|(_, action)| match action {
        Action::Configure { live } => Some(live.generation),
        _ => None,
    });
    assert_eq!(offered, Some(5));
}

#[test]
fn a_gateway_that_was_created_here_is_never_followed_to_a_newer_generation() {
    // Another daemon has told it something newer. Undoing that is not for this one.
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.telemetry("s").generation = Some(5);
    world.settle();
    assert_eq!(world.record("s").generation.0, 1);
}

#[test]
fn a_listing_from_before_the_clock_was_set_back_is_not_believed() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.vanish("s");
    world.now -= SignedDuration::from_hours(1);
    world.settle();
    assert_eq!(*world.state("s"), State::Active);
}

#[test]
fn handshakes_with_a_gateway_that_has_vanished_are_not_those_of_its_successor() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.send("s", "alice");
    world.settle();
    assert!(world.record("s").run.as_ref().unwrap().first_handshake.is_some());
    world.advance(60);
    world.vanish("s");
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Provisioning);
    assert_eq!(world.record("s").run.as_ref().unwrap().first_handshake, None);
}

#[test]
fn a_gateway_is_asked_again_soon_after_the_clock_was_set_back() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.now -= SignedDuration::from_hours(1);
    let (_, report) = world.plan();
    assert_eq!(report.sessions["s"].ask_at, Some(world.now + SignedDuration::from_secs(15)));
}

fn parked() -> Situation {
    let mut world = stopping();
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Stopped });
    world
}

#[test]
fn taking_a_wake_value_away_wakes_nobody() {
    let mut world = parked();
    world.edit(|_| {});
    world.session("s").wake = Some("again".into());
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Provisioning);
    world.ask_for("s", RequestKind::Stop);
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
    world.edit(|_| {});
    world.session("s").wake = None;
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Stopped });
}

#[test]
fn taking_a_suspension_back_starts_nothing_that_was_parked() {
    let mut world = parked();
    let until = world.now + SignedDuration::from_hours(1);
    world.edit(|_| {});
    world.session("s").suspended = Some(Suspension { reason: "incident".into(), until });
    world.settle();
    assert_eq!(*world.state("s"), State::Suspended);
    world.edit(|_| {});
    world.session("s").suspended = None;
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Stopped });
}

#[test]
fn a_gateway_whose_create_was_not_answered_is_taken_over() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.settle();
    let created = world.gateway("s").run.clone();
    let failure = Failure::new(Class::Transient, "no answer");
    world.fold(&name("s"), &Outcome::CreateFailed(failure));
    assert_eq!(deletes(&world.plan().0), [""; 0]);
    world.advance(2);
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Provisioning);
    // From now on no listing can be from before.
    world.advance(30);
    world.settle();
    assert_eq!(world.record("s").run.as_ref().unwrap().id, created);
}

#[test]
fn a_listing_from_an_earlier_run_brings_its_gateway_not_back() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    let (old, evidence) = (world.gateway("s").clone(), world.evidence["s"].clone());
    world.ask_for("s", RequestKind::Stop);
    world.settle();
    world.advance(5);
    world.vanish("s");
    world.advance(30);
    world.ask_for("s", RequestKind::Start);
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Provisioning);
    let gateway_name = world.gateway_name("s");
    world.observed.as_mut().unwrap().gateways.insert(gateway_name, old.clone());
    world.evidence.insert(name("s"), evidence);
    world.advance(5);
    world.settle();
    assert_ne!(world.record("s").run.as_ref().unwrap().id, old.run);
    assert_eq!(world.state("s").name(), StateName::Provisioning);
}

#[test]
fn a_gateway_that_somebody_else_put_in_place_of_a_running_one_has_to_show_that_it_is_usable() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.advance(60);
    world.gateway("s").run = "other".to_owned().into();
    world.gateway("s").phase = Phase::Creating;
    world.settle();
    assert_eq!(*world.state("s"), State::Provisioning);
    assert_eq!(world.record("s").run.as_ref().unwrap().id.as_str(), "other");
}
