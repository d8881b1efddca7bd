//! The session state machine.
//!
//! The machine is level-triggered like everything else: each pass restores it from the stored [`State`], tells it the present
//! facts as [`Event`]s and reads from it the next state and the standing [`Effect`]s. Restoring runs the entry actions of the
//! state and its superstates again, by design of statig; that is what makes an effect *standing*: as long as a session is up,
//! every pass emits "a gateway must exist", and whether anything has to be done about it is seen by comparing with what is
//! observed. Exit actions withdraw what entry actions emitted. Effects are keyed by session, generation and operation, so that
//! emitting one twice means nothing.

use std::collections::BTreeSet;

use ebb_desired_state::SessionName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use statig::prelude::*;

use crate::names::Generation;
use crate::state::{Rest, State, Wait};

/// One fact about the present, as far as it can move a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the provider has. Not sent while that is unknown.
    Provider(Presence),
    /// The document wants another gateway than the present run has.
    SpecChanged,
    /// Whether the session is wanted now.
    Demand(Demand),
    /// Whether there is room for a session that is wanted.
    Slot(Slot),
    /// The control handshake succeeded and the gateway has the peers it should have.
    Connected,
    /// The evidence says that somebody uses the session.
    InUse,
    /// The evidence says that nobody used the session since then.
    Silent {
        /// When the silence began.
        since: Timestamp,
        /// When the grace period ends if nothing changes.
        deadline: Timestamp,
    },
    /// The time limit of the present state has passed.
    Deadline,
    /// Creating the gateway failed.
    CreateFailed {
        /// When to try again.
        retry_at: Timestamp,
    },
}

/// What the provider has under the session's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Absent,
    /// A gateway that does not run yet.
    Creating,
    /// A running gateway with an address.
    Running,
    /// A gateway that ended itself with status 0.
    Ended,
    /// A gateway that failed.
    Broken,
    /// A gateway that is being deleted.
    Deleting,
}

/// Whether a session is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// It should run as soon as there is room.
    Up,
    /// It should not run.
    Rest(Rest),
}

/// Whether there is room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// There is.
    Free,
    /// There is not.
    Taken(Wait),
}

/// Something that has to hold as long as the session stays in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Effect<'a> {
    /// For which session.
    pub session: &'a SessionName,
    /// For which generation of it.
    pub generation: Generation,
    /// What.
    pub operation: Operation,
}

/// What an [`Effect`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// A gateway with this generation's properties must exist.
    EnsureGateway,
    /// No gateway may exist.
    EnsureNoGateway,
    /// The gateway must have this generation's peers, routes and names.
    EnsureConfigured,
}

/// What has to hold, and what moved, as far as the machine was told.
#[derive(Debug)]
struct Context {
    retry_at: Timestamp,
    operations: BTreeSet<Operation>,
    transitions: Vec<(State, State)>,
}

impl Context {
    fn emit(&mut self, operation: Operation) {
        self.operations.insert(operation);
    }

    fn withdraw(&mut self, operation: Operation) {
        self.operations.remove(&operation);
    }
}

/// A session's machine during one pass.
pub struct Machine<'a> {
    session: &'a SessionName,
    generation: Generation,
    inner: InitializedStateMachine<Session>,
    context: Context,
}

impl<'a> Machine<'a> {
    /// Restores the machine of `session` in `state`. A session that fails during this pass is tried again at `retry_at`.
    #[must_use]
    pub fn restore(
        session: &'a SessionName,
        generation: Generation,
        state: &State,
        retry_at: Timestamp,
    ) -> Self {
        let mut context = Context { retry_at, operations: BTreeSet::new(), transitions: Vec::new() };
        let mut inner = Session.uninitialized_state_machine().init_with_context(&mut context);
        inner.handle_with_context(&Input::Restore(state.clone()), &mut context);
        Self { session, generation, inner, context }
    }

    /// Tells one fact.
    pub fn tell(&mut self, event: Event) {
        self.inner.handle_with_context(&Input::Event(event), &mut self.context);
    }

    /// The state after everything told so far.
    #[must_use]
    pub fn state(&self) -> State {
        stored(self.inner.state())
    }

    /// What has to hold in that state.
    pub fn effects(&self) -> impl Iterator<Item = Effect<'a>> {
        let effect = |operation| Effect { session: self.session, generation: self.generation, operation };
        self.context.operations.iter().copied().map(effect)
    }

    /// The transitions since the restore, in order.
    #[must_use]
    pub fn transitions(&self) -> &[(State, State)] {
        &self.context.transitions
    }
}

enum Input {
    Restore(State),
    Event(Event),
}

struct Session;

#[state_machine(
    initial = "Node::restoring()",
    state(name = "Node", derive(Debug, Clone, PartialEq, Eq)),
    superstate(name = "Group", derive(Debug)),
    after_transition = "Self::moved",
    event_identifier = "input",
    visibility = "pub(self)"
)]
impl Session {
    /// Where every machine begins, for the moment until it is told where it was.
    #[state]
    fn restoring(input: &Input) -> Outcome<Node> {
        match input {
            Input::Restore(state) => Transition(node(state)),
            Input::Event(_) => Handled,
        }
    }

    // ---- down ----

    #[superstate(entry_action = "leave_nothing", exit_action = "allow_something")]
    fn down(input: &Input) -> Outcome<Node> {
        match event(input) {
            Some(Event::Demand(Demand::Rest(Rest::Suspended))) => Transition(Node::suspended()),
            Some(Event::Demand(Demand::Rest(why))) => Transition(Node::parked(why.clone())),
            Some(_) | None => Handled,
        }
    }

    #[state(superstate = "down")]
    fn queued(wait: &Wait, input: &Input) -> Outcome<Node> {
        match event(input) {
            Some(Event::Slot(Slot::Free)) => Transition(Node::provisioning()),
            Some(Event::Slot(Slot::Taken(other))) if other != wait => Transition(Node::queued(other.clone())),
            Some(_) | None => Super,
        }
    }

    #[state(superstate = "down")]
    fn parked(why: &Rest, input: &Input) -> Outcome<Node> {
        match event(input) {
            Some(Event::Demand(Demand::Up)) => Transition(Node::queued(Wait::Turn)),
            Some(Event::Demand(Demand::Rest(same))) if same == why => Handled,
            Some(_) | None => Super,
        }
    }

    #[state(superstate = "down")]
    fn backing_off(until: &Timestamp, input: &Input) -> Outcome<Node> {
        let _ = until;
        match event(input) {
            Some(Event::Deadline | Event::SpecChanged) => Transition(Node::queued(Wait::Turn)),
            Some(_) | None => Super,
        }
    }

    #[state(superstate = "down")]
    fn suspended(input: &Input) -> Outcome<Node> {
        match event(input) {
            Some(Event::Demand(Demand::Up)) => Transition(Node::queued(Wait::Turn)),
            Some(Event::Demand(Demand::Rest(Rest::Suspended))) => Handled,
            Some(_) | None => Super,
        }
    }

    // ---- moving ----

    #[superstate]
    fn moving() -> Outcome<Node> {
        Handled
    }

    #[state(superstate = "moving", entry_action = "want_gateway", exit_action = "want_no_gateway")]
    fn provisioning(input: &Input) -> Outcome<Node> {
        match event(input) {
            Some(Event::Provider(Presence::Running)) => Transition(Node::starting()),
            Some(Event::Provider(Presence::Ended | Presence::Broken) | Event::Deadline) => {
                Transition(Node::terminating(Rest::Failed))
            }
            Some(Event::CreateFailed { retry_at }) => Transition(Node::backing_off(*retry_at)),
            Some(Event::SpecChanged) => Transition(Node::terminating(Rest::SpecChanged)),
            Some(Event::Demand(Demand::Rest(why))) => Transition(Node::terminating(why.clone())),
            Some(_) | None => Super,
        }
    }

    #[state(superstate = "moving", entry_action = "leave_nothing", exit_action = "allow_something")]
    fn terminating(why: &Rest, context: &mut Context, input: &Input) -> Outcome<Node> {
        match (event(input), why) {
            (Some(Event::Provider(Presence::Absent)), Rest::SpecChanged) => {
                Transition(Node::queued(Wait::Turn))
            }
            (Some(Event::Provider(Presence::Absent)), Rest::Failed) => {
                Transition(Node::backing_off(context.retry_at))
            }
            (Some(Event::Provider(Presence::Absent)), Rest::Suspended) => Transition(Node::suspended()),
            (Some(Event::Provider(Presence::Absent)), why) => Transition(Node::parked(why.clone())),
            (Some(_) | None, _) => Super,
        }
    }

    // ---- up ----

    #[superstate(entry_action = "want_gateway_and_peers", exit_action = "want_neither")]
    fn up(input: &Input) -> Outcome<Node> {
        match event(input) {
            Some(Event::Demand(Demand::Rest(why))) => Transition(Node::terminating(why.clone())),
            Some(Event::SpecChanged) => Transition(Node::terminating(Rest::SpecChanged)),
            Some(Event::Provider(Presence::Ended)) => Transition(Node::terminating(Rest::LeaseEnded)),
            Some(Event::Provider(Presence::Broken | Presence::Deleting)) => {
                Transition(Node::terminating(Rest::Failed))
            }
            Some(Event::Provider(Presence::Absent)) => Transition(Node::provisioning()),
            Some(_) | None => Handled,
        }
    }

    #[state(superstate = "up")]
    fn starting(input: &Input) -> Outcome<Node> {
        match event(input) {
            Some(Event::Connected) => Transition(Node::active()),
            Some(Event::Deadline) => Transition(Node::terminating(Rest::Failed)),
            Some(_) | None => Super,
        }
    }

    #[state(superstate = "up")]
    fn active(input: &Input) -> Outcome<Node> {
        match event(input) {
            Some(Event::Silent { since, deadline }) => Transition(Node::idle(*since, *deadline)),
            Some(_) | None => Super,
        }
    }

    #[state(superstate = "up")]
    fn idle(since: &Timestamp, deadline: &Timestamp, input: &Input) -> Outcome<Node> {
        let _ = (since, deadline);
        match event(input) {
            Some(Event::InUse) => Transition(Node::active()),
            Some(Event::Deadline) => Transition(Node::terminating(Rest::Idle)),
            Some(_) | None => Super,
        }
    }

    // ---- entry and exit actions ----

    #[action]
    fn leave_nothing(context: &mut Context) {
        context.emit(Operation::EnsureNoGateway);
    }

    #[action]
    fn allow_something(context: &mut Context) {
        context.withdraw(Operation::EnsureNoGateway);
    }

    #[action]
    fn want_gateway(context: &mut Context) {
        context.emit(Operation::EnsureGateway);
    }

    #[action]
    fn want_no_gateway(context: &mut Context) {
        context.withdraw(Operation::EnsureGateway);
    }

    #[action]
    fn want_gateway_and_peers(context: &mut Context) {
        context.emit(Operation::EnsureGateway);
        context.emit(Operation::EnsureConfigured);
    }

    #[action]
    fn want_neither(context: &mut Context) {
        context.withdraw(Operation::EnsureGateway);
        context.withdraw(Operation::EnsureConfigured);
    }
}

impl Session {
    fn moved(&mut self, from: &Node, to: &Node, context: &mut Context) {
        if *from != Node::restoring() {
            context.transitions.push((stored(from), stored(to)));
        }
    }
}

fn event(input: &Input) -> Option<&Event> {
    match input {
        Input::Event(event) => Some(event),
        Input::Restore(_) => None,
    }
}

fn node(state: &State) -> Node {
    match state.clone() {
        State::Queued { wait } => Node::queued(wait),
        State::Parked { why } => Node::parked(why),
        State::BackingOff { until } => Node::backing_off(until),
        State::Suspended => Node::suspended(),
        State::Provisioning => Node::provisioning(),
        State::Terminating { why } => Node::terminating(why),
        State::Starting => Node::starting(),
        State::Active => Node::active(),
        State::Idle { since, deadline } => Node::idle(since, deadline),
    }
}

fn stored(node: &Node) -> State {
    match node.clone() {
        // No machine is asked before it is restored, and restoring is no transition.
        Node::Restoring {} => State::Queued { wait: Wait::Turn },
        Node::Queued { wait } => State::Queued { wait },
        Node::Parked { why } => State::Parked { why },
        Node::BackingOff { until } => State::BackingOff { until },
        Node::Suspended {} => State::Suspended,
        Node::Provisioning {} => State::Provisioning,
        Node::Terminating { why } => State::Terminating { why },
        Node::Starting {} => State::Starting,
        Node::Active {} => State::Active,
        Node::Idle { since, deadline } => State::Idle { since, deadline },
    }
}
