//! Gateways that somebody else changed or removed, and what the document's `drift` says about them.

use ebb_desired_state::Drift;

use super::session::Draft;
use crate::condition::{Condition, ConditionKind, Status, reasons};
use crate::machine::Demand;
use crate::observed::Phase;
use crate::state::{Rest, State};

/// How a gateway differs from what was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drifted {
    /// It is gone or going, and nobody here asked for that.
    Vanished,
    /// It is marked as made from another template.
    Changed,
}

impl Draft<'_> {
    /// How the gateway has drifted in the state that the pass began in. Only a session that is up can tell: in every other state
    /// something is under way.
    fn look_for_drift(&self) -> Option<Drifted> {
        if !self.record.state.name().is_up() {
            return None;
        }
        let run = self.record.run.as_ref()?;
        match self.gateway {
            None => self.believes_absence().then_some(Drifted::Vanished),
            Some(gateway) if gateway.run != run.id => None,
            Some(gateway) if gateway.phase == Phase::Deleting => Some(Drifted::Vanished),
            Some(gateway) => (gateway.hash != run.template).then_some(Drifted::Changed),
        }
    }

    /// Finds drift and applies the policy to what the session wants.
    pub(super) fn judge_drift(&mut self) {
        self.drifted = self.look_for_drift();
        match (self.drifted, self.inputs.desired.document.drift) {
            (Some(Drifted::Changed), Drift::Correct) => self.respecified = true,
            (Some(Drifted::Vanished), Drift::Warn | Drift::Ignore) if self.demand == Demand::Up => {
                self.demand = Demand::Rest(Rest::Vanished);
                self.record.to_mut().wanted_since = None;
            }
            _ => {}
        }
    }

    /// Whether the session rests from now on because its gateway vanished.
    pub(super) fn follows_its_gateway(&self) -> bool {
        self.drifted == Some(Drifted::Vanished) && self.demand == Demand::Rest(Rest::Vanished)
    }

    /// Whether a gateway is replaced because somebody else changed it.
    pub(super) fn is_corrected(&self) -> bool {
        let policy = self.inputs.desired.document.drift;
        self.drifted == Some(Drifted::Changed) && policy == Drift::Correct && !self.held
    }

    /// The condition that says so. With `drift: ignore` there is none.
    pub(super) fn drift_condition(&self) -> Option<Condition> {
        let policy = self.inputs.desired.document.drift;
        let rests = |state: &State| {
            matches!(
                state,
                State::Parked { why: Rest::Vanished } | State::Terminating { why: Rest::Vanished }
            )
        };
        let (reason, message) = match (policy, self.drifted) {
            (Drift::Warn, _) if rests(&self.record.state) => (
                reasons::VANISHED,
                "somebody else removed the gateway, and `drift: warn` leaves that so; \
                 `ebb start` brings the session back",
            ),
            (Drift::Warn, Some(Drifted::Changed)) => (
                reasons::CHANGED,
                "somebody else changed the gateway's tags, and `drift: warn` leaves that so; \
                 `drift: correct` replaces such gateways",
            ),
            (Drift::Correct, Some(Drifted::Changed)) if self.held => (
                reasons::CHANGED,
                "somebody else changed the gateway's tags; replacing it waits for approval like every mass teardown",
            ),
            _ => return None,
        };
        Some(Condition::new(ConditionKind::Drifted, Status::True, reason, message))
    }
}
