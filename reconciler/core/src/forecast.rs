//! What will happen by the passing of time alone.
//!
//! The planner is a function of the present, so the future can be asked by giving it one: in which every provider call succeeds
//! at once, every gateway answers, and users go on as silent or as connected as they are now.

use std::collections::{BTreeMap, BTreeSet};

use ebb_desired_state::SessionName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::{Action, Plan};
use crate::evidence::{Evidence, Place, Report};
use crate::fold::{Outcome, fold};
use crate::note::Note;
use crate::observed::{Endpoint, Gateway, Observed, Phase};
use crate::plan::{Inputs, plan};
use crate::record::Record;

/// Passes at one moment; a planner that has not come to rest by then never will, and its forecast ends there.
const PASSES_AT_ONCE: usize = 64;

/// Moments looked at. A schedule changes twice a day, so this reaches over a year.
const MOMENTS: usize = 1000;

/// Something that will happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Foreseen(pub Note);

/// What will happen from now to `until`, in order.
#[must_use]
pub fn forecast(inputs: &Inputs<'_>, until: Timestamp) -> Vec<Foreseen> {
    let mut world = World::new(inputs);
    for _ in 0..MOMENTS {
        match world.settle(inputs).filter(|next| *next <= until) {
            Some(next) => world.now = next,
            None => break,
        }
    }
    world.foreseen
}

/// A deployment as it is once everything that a document wants has happened.
#[derive(Debug, Clone)]
pub struct Settled {
    /// What is remembered.
    pub records: BTreeMap<SessionName, Record>,
    /// What the provider has.
    pub observed: Option<Observed>,
    /// What is known of use.
    pub evidence: BTreeMap<SessionName, Evidence>,
}

/// What becomes of the present if everything that is due now happens now.
#[must_use]
pub fn settled(inputs: &Inputs<'_>) -> Settled {
    let mut world = World::new(inputs);
    world.settle(inputs);
    let World { records, observed, evidence, .. } = world;
    Settled { records, observed, evidence }
}

struct World {
    records: BTreeMap<SessionName, Record>,
    observed: Option<Observed>,
    evidence: BTreeMap<SessionName, Evidence>,
    now: Timestamp,
    foreseen: Vec<Foreseen>,
}

impl World {
    fn new(inputs: &Inputs<'_>) -> Self {
        Self {
            records: inputs.records.clone(),
            observed: inputs.observed.cloned(),
            evidence: inputs.evidence.clone(),
            now: inputs.now,
            foreseen: Vec::new(),
        }
    }

    /// Lets everything happen that happens now; returns when something happens next.
    fn settle(&mut self, inputs: &Inputs<'_>) -> Option<Timestamp> {
        for _ in 0..PASSES_AT_ONCE {
            self.look(inputs.now);
            let (plan, report) = plan(&Inputs {
                records: &self.records,
                observed: self.observed.as_ref(),
                evidence: &self.evidence,
                in_flight: &BTreeSet::new(),
                now: self.now,
                ..*inputs
            });
            if plan.is_empty() {
                return report.next;
            }
            self.carry_out(plan, &inputs.seed);
        }
        None
    }

    /// Listings and reports are fresh at every moment of the future.
    fn look(&mut self, present: Timestamp) {
        if let Some(observed) = &mut self.observed {
            observed.asked_at = self.now;
        }
        // What is stale at present stays unknown; nobody can foresee that it heals.
        let later = self.now > present;
        for report in self.evidence.values_mut().filter_map(|evidence| evidence.report.as_mut()) {
            if later && present.duration_since(report.taken_at) <= crate::idle::STALE_AFTER {
                report.taken_at = self.now;
            }
        }
    }

    fn carry_out(&mut self, plan: Plan, seed: &[u8; 32]) {
        for step in plan.steps {
            for action in step.actions {
                self.act(&step.session, action, seed);
            }
        }
    }

    fn act(&mut self, session: &SessionName, action: Action, seed: &[u8; 32]) {
        match action {
            Action::EnsureKeys { .. } => {}
            Action::Store { record, .. } => drop(self.records.insert(session.clone(), *record)),
            Action::Forget { .. } => drop(self.records.remove(session)),
            Action::Create { spec } => {
                self.evidence.insert(session.clone(), self.first_evidence(&spec.run));
                let endpoint = Endpoint { host: "as-yet-unknown".to_owned(), port: spec.template.port };
                let endpoint =
                    self.records.get(session).and_then(|record| record.endpoint.clone()).or(Some(endpoint));
                let gateway = Gateway {
                    session: session.clone(),
                    run: spec.run,
                    generation: spec.generation,
                    hash: spec.hash,
                    phase: Phase::Running,
                    endpoint,
                };
                self.observed
                    .iter_mut()
                    .for_each(|o| drop(o.gateways.insert(spec.name.clone(), gateway.clone())));
                self.fold(session, &Outcome::Created, seed);
            }
            Action::Delete { name, .. } => {
                self.observed.iter_mut().for_each(|observed| drop(observed.gateways.remove(&name)));
                self.fold(session, &Outcome::Deleted, seed);
            }
            Action::Configure { live } => {
                let report = self.evidence.get_mut(session).and_then(|evidence| evidence.report.as_mut());
                if let Some(report) = report {
                    report.generation = Some(live.generation);
                    report.digest = Some(live.digest());
                }
            }
            Action::Note { note } => self.foreseen.push(Foreseen(note)),
        }
    }

    fn first_evidence(&self, run: &crate::names::RunId) -> Evidence {
        Evidence {
            run: run.clone(),
            handshake_at: Some(self.now),
            report: Some(Report {
                taken_at: self.now,
                place: Place::Tunnel,
                boot: run.to_string(),
                started_at: self.now,
                generation: None,
                digest: None,
                peers: BTreeMap::new(),
                flows: 0,
                buffered_bytes: 0,
                refused: 0,
            }),
            other: None,
            error: None,
        }
    }

    fn fold(&mut self, session: &SessionName, outcome: &Outcome, seed: &[u8; 32]) {
        if let Some(record) = self.records.get_mut(session) {
            *record = fold(record, outcome, seed, self.now);
        }
    }
}
