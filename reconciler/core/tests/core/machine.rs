//! The transition table and the diagram of the session machine, kept as files so that a change of the machine is seen in review.
//!
//! `EXPECTORATE=overwrite cargo nextest run -p ebb-core` writes them anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;

use ebb_core::machine::{Demand, Event, Machine, Operation, Presence, Slot};
use ebb_core::names::Generation;
use ebb_core::state::{Rest, State, StateName, Wait};
use ebb_desired_state::SessionName;
use jiff::Timestamp;

const LATER: Timestamp = Timestamp::MAX;

/// One of each state; `Parked` and `Terminating` once for each way on.
fn states() -> Vec<(String, State)> {
    let mut states = vec![
        State::Queued { wait: Wait::Turn },
        State::Parked { why: Rest::Idle },
        State::BackingOff { until: LATER },
        State::Suspended,
        State::Provisioning,
    ];
    for why in [Rest::Idle, Rest::SpecChanged, Rest::Failed, Rest::Suspended] {
        states.push(State::Terminating { why });
    }
    states.extend([State::Starting, State::Active, State::Idle { since: LATER, deadline: LATER }]);
    states.into_iter().map(|state| (label(&state), state)).collect()
}

fn events() -> Vec<(&'static str, Event)> {
    let provider = Event::Provider;
    vec![
        ("provider: absent", provider(Presence::Absent)),
        ("provider: creating", provider(Presence::Creating)),
        ("provider: running", provider(Presence::Running)),
        ("provider: ended (status 0)", provider(Presence::Ended)),
        ("provider: broken", provider(Presence::Broken)),
        ("provider: deleting", provider(Presence::Deleting)),
        ("spec changed", Event::SpecChanged),
        ("wanted", Event::Demand(Demand::Up)),
        ("not wanted: stopped", Event::Demand(Demand::Rest(Rest::Stopped))),
        ("not wanted: suspended", Event::Demand(Demand::Rest(Rest::Suspended))),
        ("slot free", Event::Slot(Slot::Free)),
        ("slot taken", Event::Slot(Slot::Taken(Wait::Sessions { limit: 3 }))),
        ("connected", Event::Connected),
        ("in use", Event::InUse),
        ("silent", Event::Silent { since: LATER, deadline: LATER }),
        ("deadline passed", Event::Deadline),
        ("create failed", Event::CreateFailed { retry_at: LATER }),
    ]
}

fn label(state: &State) -> String {
    match state {
        State::Parked { why } | State::Terminating { why } => format!("{}({})", state.name(), why.as_str()),
        State::Queued { .. }
        | State::BackingOff { .. }
        | State::Suspended
        | State::Provisioning
        | State::Starting
        | State::Active
        | State::Idle { .. } => state.name().to_string(),
    }
}

fn superstate(name: StateName) -> &'static str {
    match (name.is_down(), name.is_up()) {
        (true, _) => "down",
        (_, true) => "up",
        (false, false) => "moving",
    }
}

fn restore(state: &State) -> Machine<'static> {
    static SESSION: LazyLock<SessionName> = LazyLock::new(|| "s".parse().unwrap());
    Machine::restore(&SESSION, Generation(1), state, LATER)
}

fn after(state: &State, event: &Event) -> State {
    let mut machine = restore(state);
    machine.tell(event.clone());
    machine.state()
}

fn operations(state: &State) -> BTreeSet<Operation> {
    restore(state).effects().map(|effect| effect.operation).collect()
}

#[test]
fn the_transition_table_is_the_committed_one() {
    let mut table = String::from("What must hold in a state\n\n");
    for (name, state) in states() {
        let _ = writeln!(table, "  {name:<26}{:?}", operations(&state));
    }
    table.push_str("\nWhat moves a session\n");
    for (name, state) in states() {
        let _ = writeln!(table, "\n{name}");
        for (fact, event) in events() {
            let next = after(&state, &event);
            if next != state {
                let _ = writeln!(table, "  {fact:<28}-> {}", label(&next));
            }
        }
    }
    expectorate::assert_contents("doc/transitions.txt", &table);
}

#[test]
fn the_diagram_is_the_committed_one() {
    let mut arrows = BTreeSet::new();
    for (_, state) in states() {
        for (fact, event) in events() {
            let next = after(&state, &event);
            if next.name() != state.name() {
                arrows.insert((state.name(), next.name(), fact.split(" (").next().unwrap_or(fact)));
            }
        }
    }
    let mut diagram = String::from("```mermaid\nstateDiagram-v2\n    [*] --> queued\n");
    for group in ["down", "moving", "up"] {
        let _ = writeln!(diagram, "    state {group} {{");
        for name in StateName::ALL.into_iter().filter(|name| superstate(*name) == group) {
            let _ = writeln!(diagram, "        {name}");
        }
        diagram.push_str("    }\n");
    }
    let mut pairs: Vec<(StateName, StateName)> = arrows.iter().map(|(from, to, _)| (*from, *to)).collect();
    pairs.dedup();
    for (from, to) in pairs {
        let facts: Vec<_> =
            arrows.iter().filter(|(f, t, _)| (*f, *t) == (from, to)).map(|(_, _, fact)| *fact).collect();
        let _ = writeln!(diagram, "    {from} --> {to}: {}", facts.join(" / ").replace(':', ""));
    }
    diagram.push_str("```\n");
    expectorate::assert_contents("doc/session-machine.md", &diagram);
}

#[test]
fn restoring_a_machine_changes_neither_its_state_nor_what_must_hold() {
    for (name, state) in states() {
        let once = restore(&state);
        assert_eq!(once.state(), state, "{name}");
        assert!(once.transitions().is_empty(), "{name}");
        let twice = restore(&once.state());
        assert!(twice.effects().eq(once.effects()), "{name}");
    }
}

#[test]
fn what_must_hold_depends_on_the_state_alone_and_not_on_the_way_there() {
    for (name, state) in states() {
        for (fact, event) in events() {
            let mut moved = restore(&state);
            moved.tell(event);
            assert!(moved.effects().eq(restore(&moved.state()).effects()), "{name}, {fact}");
        }
    }
}

#[test]
fn a_termination_ends_only_when_the_provider_says_that_nothing_is_there() {
    for (name, state) in states().into_iter().filter(|(_, state)| state.name() == StateName::Terminating) {
        for (fact, event) in events() {
            let ends = after(&state, &event).name() != StateName::Terminating;
            assert_eq!(ends, event == Event::Provider(Presence::Absent), "{name}, {fact}");
        }
    }
}

#[test]
fn a_session_never_skips_the_handshake_on_its_way_to_active() {
    for (name, state) in states() {
        for (fact, event) in events() {
            if after(&state, &event) == State::Active && state != State::Active {
                let usable = matches!(state.name(), StateName::Starting | StateName::Idle);
                assert!(usable && matches!(event, Event::Connected | Event::InUse), "{name}, {fact}");
            }
        }
    }
}
