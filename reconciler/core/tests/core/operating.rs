//! What people decide about a session beside the document.

use ebb_core::condition::ConditionKind;
use ebb_core::operator::Wish;
use ebb_core::plan::Progress;
use ebb_core::record::{Record, RequestKind};
use ebb_core::state::{Rest, State, StateName};
use ebb_desired_state::Suspension;
use jiff::SignedDuration;

use crate::situation::{Situation, condition, name, session};

fn up() -> Situation {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    world.up();
    world.advance(60);
    world
}

fn wish(world: &mut Situation, wish: Wish) {
    let now = world.now;
    world.record("s").take_wish(wish, "carol", now);
}

fn suspend(world: &mut Situation, minutes: i64) {
    let until = world.now + SignedDuration::from_mins(minutes);
    wish(world, Wish::Suspend(Suspension { reason: "incident 42".into(), until }));
}

fn progress(world: &Situation) -> Progress {
    world.plan().1.sessions["s"].progress
}

#[test]
fn a_suspended_session_goes_and_comes_back_by_itself_at_the_end() {
    let mut world = up();
    suspend(&mut world, 30);
    world.settle();
    assert_eq!(*world.state("s"), State::Terminating { why: Rest::Suspended });
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(*world.state("s"), State::Suspended);
    world.ask_for("s", RequestKind::Start);
    world.settle();
    assert_eq!(*world.state("s"), State::Suspended, "a start does not lift it");
    world.advance(30 * 60);
    world.settle();
    assert_eq!(*world.state("s"), State::Provisioning);
    assert_eq!(world.record("s").suspended, None);
}

#[test]
fn a_suspended_session_is_looked_at_again_when_that_ends() {
    let mut world = up();
    let until = world.now + SignedDuration::from_mins(30);
    suspend(&mut world, 30);
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
    let foreseen = world.forecast(60);
    assert!(foreseen.iter().any(|event| event.0.at == until), "{foreseen:?}");
}

#[test]
fn an_edit_of_the_document_does_not_lift_a_suspension() {
    let mut world = up();
    suspend(&mut world, 30);
    world.settle();
    world.edit(|document| document.sessions[0].wake = Some("again".into()));
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(*world.state("s"), State::Suspended);
}

#[test]
fn a_resumed_session_comes_back_at_once() {
    let mut world = up();
    suspend(&mut world, 30);
    world.settle();
    world.advance(60);
    world.run_gateways();
    world.settle();
    wish(&mut world, Wish::Resume);
    world.settle();
    assert_eq!(*world.state("s"), State::Provisioning);
}

#[test]
fn a_suspension_survives_being_stored() {
    let mut world = up();
    suspend(&mut world, 30);
    let record = world.record("s").clone();
    assert!(record.suspended.is_some());
    assert_eq!(Record::from_json(&record.to_json()).unwrap(), record);
}

#[test]
fn nothing_is_done_for_a_detached_session() {
    let mut world = up();
    wish(&mut world, Wish::Detach { reason: "a packet capture runs in it".into() });
    for change in 0..4 {
        match change {
            0 => world.ask_for("s", RequestKind::Stop),
            1 => world.edit(|document| document.sessions[0].port = 41_821),
            2 => world.edit(|document| document.sessions.clear()),
            _ => world.advance(24 * 3600),
        }
        let (plan, _) = world.plan();
        assert!(plan.is_empty(), "{change}: {plan}");
    }
    let condition = condition(&world, "s", ConditionKind::Detached).unwrap();
    assert!(condition.message.contains("packet capture"), "{}", condition.message);
    assert_eq!(progress(&world), Progress::Stalled);
}

#[test]
fn an_adopted_session_is_brought_in_step_again() {
    let mut world = up();
    wish(&mut world, Wish::Detach { reason: "maintenance".into() });
    world.edit(|document| document.sessions[0].port = 41_821);
    world.settle();
    assert_eq!(*world.state("s"), State::Active);
    wish(&mut world, Wish::Adopt);
    world.settle();
    assert_eq!(*world.state("s"), State::Terminating { why: Rest::SpecChanged });
}

#[test]
fn a_detached_session_is_forgotten_once_it_is_undeclared_and_gone() {
    let mut world = up();
    wish(&mut world, Wish::Detach { reason: "moving to another deployment".into() });
    world.edit(|document| document.sessions.clear());
    world.settle();
    assert_eq!(*world.state("s"), State::Active);
    world.vanish("s");
    world.advance(60);
    world.settle();
    assert!(!world.records.contains_key(&name("s")));
}

#[test]
fn detached_sessions_do_not_count_towards_a_mass_teardown() {
    let sessions = [("s", "alice"), ("b", "bob"), ("c", "carol"), ("d", "dave")];
    let mut world = Situation::new(sessions.map(|(name, user)| session(name, &[user])).to_vec());
    world.up();
    wish(&mut world, Wish::Detach { reason: "maintenance".into() });
    world.edit(|document| document.sessions.clear());
    world.settle();
    for gone in ["b", "c", "d"] {
        assert_eq!(world.state(gone).name(), StateName::Terminating, "{gone}");
    }
}

#[test]
fn progress_tells_what_is_there_from_what_is_on_its_way() {
    let mut world = Situation::new(vec![session("s", &["alice"])]);
    let _ = world.pass();
    assert_eq!(progress(&world), Progress::Moving);
    world.settle();
    world.advance(10);
    world.run_gateways();
    world.settle();
    assert_eq!(progress(&world), Progress::Settled);
    world.edit(|document| document.sessions[0].routes.truncate(1));
    assert_eq!(progress(&world), Progress::Moving, "the gateway does not know its new routes");
    world.settle();
    assert_eq!(progress(&world), Progress::Settled);
    world.ask_for("s", RequestKind::Stop);
    let _ = world.pass();
    assert_eq!(progress(&world), Progress::Moving);
    world.advance(60);
    world.run_gateways();
    world.settle();
    assert_eq!(progress(&world), Progress::Settled, "rest is what is wanted of it");
}
