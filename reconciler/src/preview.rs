//! What would happen: the planner's answer without anybody acting on it.

use std::collections::BTreeSet;

use ebb_core::action::Plan;
use ebb_core::names::Hash;
use ebb_core::plan::{Desired, Inputs, Report, Revision, plan};
use ebb_desired_state::Document;
use serde::{Deserialize, Serialize};

use crate::engine::Snapshot;

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
}

/// What the next pass would do under `desired`.
#[must_use]
pub fn of(snapshot: &Snapshot, desired: &Desired) -> Preview {
    let (plan, report) = plan(&Inputs {
        desired,
        records: &snapshot.records,
        observed: snapshot.observed.as_ref(),
        evidence: &snapshot.evidence,
        keys: &snapshot.keys,
        in_flight: &BTreeSet::new(),
        approved: None,
        seed: [0; 32],
        now: snapshot.at,
    });
    Preview { revision: desired.revision.clone(), changes: Vec::new(), plan, report }
}

/// What the next pass would do if `document` were in force.
#[must_use]
pub fn of_candidate(snapshot: &Snapshot, document: Document) -> Preview {
    let changes = match &snapshot.desired {
        Some(in_force) => {
            let diff = ebb_desired_state::diff(&in_force.document, &document);
            diff.changes.iter().map(ToString::to_string).collect()
        }
        None => Vec::new(),
    };
    let revision = Revision(format!("candidate-{}", Hash::of(&document)));
    let preview = of(snapshot, &Desired::new(document, revision));
    Preview { changes, ..preview }
}
