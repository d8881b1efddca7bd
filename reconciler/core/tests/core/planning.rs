//! Rules of the planner, one at a time.

use ebb_core::state::{State, StateName, Wait};

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
    world.run_gateways();
    world.settle();
    assert_eq!(world.state("new").name(), StateName::Provisioning);
}
