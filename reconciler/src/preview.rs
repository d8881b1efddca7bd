//! What would happen: the planner's answer without anybody acting on it.

use std::collections::BTreeSet;

use ebb_core::action::{Action, Plan};
use ebb_core::forecast::{Foreseen, forecast};
use ebb_core::names::Hash;
use ebb_core::plan::{Desired, Inputs, Report, Revision, plan};
use ebb_desired_state::{Change, Document};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::Snapshot;
use crate::store::{MOST_LINES, PlanSummary};

/// A plan and the reasons for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Of which document.
    pub revision: Revision,
    /// How the document differs from the one in force, a line for each difference.
    pub changes: Vec<String>,
    /// What would be done next.
    pub plan: Plan,
    /// Why.
    pub report: Report,
    /// What will happen by the passing of time alone, if it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub foreseen: Vec<Foreseen>,
}

/// What the next pass would do under `desired`, and what will happen up to `until`.
#[must_use]
pub fn of(snapshot: &Snapshot, desired: &Desired, until: Option<Timestamp>) -> Preview {
    let inputs = Inputs {
        desired,
        records: &snapshot.records,
        observed: snapshot.observed.as_ref(),
        evidence: &snapshot.evidence,
        keys: &snapshot.keys,
        in_flight: &BTreeSet::new(),
        approved: snapshot.approved.as_ref(),
        seed: [0; 32],
        now: snapshot.at,
    };
    let (plan, report) = plan(&inputs);
    let foreseen = until.map(|until| forecast(&inputs, until)).unwrap_or_default();
    Preview { revision: desired.revision.clone(), changes: Vec::new(), plan, report, foreseen }
}

/// The same if `document` were in force.
#[must_use]
pub fn of_candidate(snapshot: &Snapshot, document: Document, until: Option<Timestamp>) -> Preview {
    let changes = match &snapshot.desired {
        Some(in_force) => {
            let diff = ebb_desired_state::diff(&in_force.document, &document);
            diff.changes.iter().map(describe).collect()
        }
        None => Vec::new(),
    };
    let revision = Revision(format!("candidate-{}", Hash::of(&document)));
    let preview = of(snapshot, &Desired::new(document, revision), until);
    Preview { changes, ..preview }
}

/// What the next pass would do under `desired`, in a few lines.
#[must_use]
pub fn summary(snapshot: &Snapshot, desired: &Desired) -> PlanSummary {
    let Preview { plan, report, .. } = of(snapshot, desired, None);
    let actions = || plan.actions().filter(|(_, action)| !action.is_bookkeeping());
    let count = |is: fn(&Action) -> bool| actions().filter(|(_, action)| is(action)).count();
    PlanSummary {
        creates: count(|action| matches!(action, Action::Create { .. })),
        deletes: count(|action| matches!(action, Action::Delete { .. })),
        configures: count(|action| matches!(action, Action::Configure { .. })),
        held: report.held_teardowns,
        lines: actions().take(MOST_LINES).map(|(session, action)| format!("{session}: {action}")).collect(),
    }
}

fn describe(change: &Change) -> String {
    let consequence =
        if change.restarts() { " (replaces the gateway: connections through it end)" } else { "" };
    format!("{change}{consequence}")
}
