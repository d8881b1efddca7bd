//! What would happen: the planner's answer without anybody acting on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebb_core::action::{Action, Plan};
use ebb_core::forecast::{Foreseen, Settled, forecast, settled};
use ebb_core::names::Hash;
use ebb_core::observed::Observed;
use ebb_core::plan::{Desired, Inputs, Report, Revision, plan};
use ebb_core::spec::Keys;
use ebb_desired_state::{Change, Document};
use ebb_wire::PublicKey;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::{Snapshot, SourceStatus};
use crate::leadership::Shard;
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

/// What would happen to a deployment in which everything that `from` wants has happened, if `to` came into force.
///
/// Keys are not known here, and nothing in a preview shows them; placeholders stand for them.
#[must_use]
pub fn of_merge(from: Document, to: Document, now: Timestamp, until: Option<Timestamp>) -> Preview {
    let desired = Desired::new(from, Revision("before".to_owned()));
    let documents = [&desired.document, &to];
    let sessions = documents.iter().flat_map(|document| &document.sessions);
    let users = documents.iter().flat_map(|document| &document.users);
    let keys = Keys {
        gateways: sessions.zip(1..).map(|(session, n)| (session.name.clone(), placeholder(n))).collect(),
        users: users.zip(1 << 16..).map(|(user, n)| (user.name.clone(), placeholder(n))).collect(),
    };
    let nothing = Observed {
        asked_at: now,
        gateways: BTreeMap::new(),
        lag: SignedDuration::ZERO,
        unseen: BTreeMap::new(),
        blocked: BTreeMap::new(),
    };
    let Settled { records, observed, evidence } = settled(&Inputs {
        desired: &desired,
        records: &BTreeMap::new(),
        observed: Some(&nothing),
        evidence: &BTreeMap::new(),
        keys: &keys,
        in_flight: &BTreeSet::new(),
        approved: None,
        seed: [0; 32],
        now,
    });
    let snapshot = Snapshot {
        at: now,
        passes: 0,
        desired: Some(Arc::new(desired)),
        source: SourceStatus::default(),
        records,
        observed,
        provider_error: None,
        evidence,
        keys,
        approved: None,
        report: None,
        store_error: None,
        shards: 1,
        led: vec![Shard::FIRST],
    };
    of_candidate(&snapshot, to, until)
}

fn placeholder(number: u32) -> PublicKey {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    PublicKey::from(key)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn document(sessions: &str) -> Document {
        let text = format!(
            "version: 1\ndeployment: home\nusers: [{{ name: alice }}, {{ name: bob }}]\nsessions:\n{sessions}"
        );
        ebb_desired_state::parse(&text).unwrap()
    }

    fn merge(from: &str, to: &str) -> Vec<String> {
        let preview = of_merge(document(from), document(to), Timestamp::UNIX_EPOCH, None);
        let actions = preview.plan.actions().filter(|(_, action)| !action.is_bookkeeping());
        actions.map(|(session, action)| format!("{session}: {action}")).collect()
    }

    const HOME: &str = "  - { name: home, users: [alice], region: eastus2 }\n";
    const WORK: &str = "  - { name: work, users: [bob], region: eastus2 }\n";

    #[test]
    fn a_merge_shows_what_it_does_and_nothing_else() {
        assert_eq!(merge(HOME, HOME), [""; 0]);
        let both = format!("{HOME}{WORK}");
        let added = merge(HOME, &both);
        assert!(added.len() == 1 && added[0].starts_with("work: create"), "{added:?}");
        let removed = merge(&both, HOME);
        assert!(removed.len() == 1 && removed[0].starts_with("work: delete"), "{removed:?}");
        let replaced = merge(HOME, &HOME.replace("eastus2", "westeurope"));
        assert!(replaced.len() == 1 && replaced[0].starts_with("home: delete"), "{replaced:?}");
        let shared = merge(HOME, &HOME.replace("[alice]", "[alice, bob]"));
        assert!(shared.len() == 1 && shared[0].starts_with("home: configure"), "{shared:?}");
    }
}
