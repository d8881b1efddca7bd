//! Gateways that somebody else changed or removed.

use ebb_core::condition::{ConditionKind, Status, reasons};
use ebb_core::names::Hash;
use ebb_core::note::NoteKind;
use ebb_core::observed::Phase;
use ebb_core::record::RequestKind;
use ebb_core::state::{Rest, State, StateName};
use ebb_desired_state::Drift;

use crate::situation::{Situation, condition, name, session};

fn up_with(drift: Drift) -> Situation {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.document.drift = drift;
    world.up();
    world.advance(60);
    world
}

fn drifted(world: &Situation) -> Option<String> {
    let condition = condition(world, "s", ConditionKind::Drifted)?;
    assert_eq!(condition.status, Status::True);
    Some(condition.reason.into_owned())
}

#[test]
fn a_vanished_gateway_is_created_again_unless_the_document_says_otherwise() {
    let mut world = up_with(Drift::Correct);
    world.vanish("s");
    world.settle();
    assert_eq!(*world.state("s"), State::Provisioning);
    assert_eq!(drifted(&world), None);
}

#[test]
fn a_vanished_gateway_is_left_so_and_reported_with_warn() {
    let mut world = up_with(Drift::Warn);
    world.vanish("s");
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Vanished });
    assert_eq!(drifted(&world).as_deref(), Some(reasons::VANISHED));
    world.advance(3600);
    assert!(world.plan().0.is_empty(), "it stays so");
    assert_eq!(drifted(&world).as_deref(), Some(reasons::VANISHED));
}

#[test]
fn a_vanished_gateway_is_left_so_in_silence_with_ignore() {
    let mut world = up_with(Drift::Ignore);
    world.vanish("s");
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Vanished });
    assert_eq!(drifted(&world), None);
}

#[test]
fn a_session_whose_gateway_vanished_comes_back_when_somebody_starts_it() {
    let mut world = up_with(Drift::Warn);
    world.vanish("s");
    world.settle();
    world.ask_for("s", RequestKind::Start);
    world.settle();
    assert_eq!(*world.state("s"), State::Provisioning);
    assert_eq!(drifted(&world), None);
}

#[test]
fn a_gateway_that_somebody_else_deletes_is_not_raced_with_warn() {
    let mut world = up_with(Drift::Warn);
    world.gateway("s").phase = Phase::Deleting;
    world.settle();
    assert_eq!(*world.state("s"), State::Terminating { why: Rest::Vanished });
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(*world.state("s"), State::Parked { why: Rest::Vanished });
}

#[test]
fn an_old_listing_is_no_drift() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.document.drift = Drift::Warn;
    world.up();
    // The listing was asked for at a time at which it need not have shown the gateway.
    world.vanish("s");
    assert!(world.plan().0.is_empty());
    assert_eq!(drifted(&world), None);
}

#[test]
fn a_changed_gateway_is_replaced_with_correct() {
    let mut world = up_with(Drift::Correct);
    world.gateway("s").hash = Hash::from_tag("somebody else's");
    let (plan, _) = world.pass();
    let notes = plan.actions().filter_map(|(_, action)| match action {
        ebb_core::action::Action::Note { note } => Some(note.kind),
        _ => None,
    });
    assert!(notes.into_iter().any(|kind| kind == NoteKind::DriftDetected), "{plan}");
    assert_eq!(*world.state("s"), State::Terminating { why: Rest::SpecChanged });
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(world.state("s").name(), StateName::Provisioning);
}

#[test]
fn a_changed_gateway_is_left_and_reported_with_warn() {
    for (drift, expected) in [(Drift::Warn, Some(reasons::CHANGED)), (Drift::Ignore, None)] {
        let mut world = up_with(drift);
        world.gateway("s").hash = Hash::from_tag("somebody else's");
        world.settle();
        assert_eq!(*world.state("s"), State::Active);
        assert_eq!(drifted(&world).as_deref(), expected);
    }
}

#[test]
fn gateways_that_were_all_changed_at_once_are_not_all_replaced_at_once() {
    let sessions = [("a", "alice"), ("b", "bob"), ("c", "carol"), ("d", "dave")];
    let mut world = Situation::new(sessions.map(|(name, user)| session(name, &[user])).to_vec());
    world.up();
    for name in ["a", "b", "c", "d"] {
        world.gateway(name).hash = Hash::from_tag("somebody else's");
    }
    world.settle();
    for session in ["a", "b", "c", "d"] {
        assert_eq!(*world.state(session), State::Active);
        let held = condition(&world, session, ConditionKind::TeardownHeld);
        assert!(held.is_some(), "{}", name(session));
    }
    world.approved = Some(world.revision());
    world.settle();
    assert!(world.records.values().all(|record| record.state.name() == StateName::Terminating));
}
