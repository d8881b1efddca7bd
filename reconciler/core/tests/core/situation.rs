//! A small world for tests of single rules: whatever a plan asks for happens at once, except what a test withholds.

use std::collections::{BTreeMap, BTreeSet};

use ebb_core::action::{Action, Plan};
use ebb_core::condition::{Condition, ConditionKind};
use ebb_core::ended::EndedRun;
use ebb_core::evidence::{Evidence, PeerReport, Place, Report as Telemetry};
use ebb_core::fold::{Outcome, fold};
use ebb_core::forecast::{Foreseen, forecast};
use ebb_core::names::GatewayName;
use ebb_core::observed::{Endpoint, Gateway, Observed, Phase};
use ebb_core::plan::{Desired, Inputs, Report, Revision, plan};
use ebb_core::record::{Record, Request, RequestKind};
use ebb_core::spec::Keys;
use ebb_core::state::State;
use ebb_desired_state::{Document, Drift, Limits, Session, SessionName, User, UserName, VERSION};
use ebb_wire::PublicKey;
use jiff::{SignedDuration, Timestamp};

/// A condition of a session in the next pass.
pub fn condition(world: &Situation, session: &str, kind: ConditionKind) -> Option<Condition> {
    let (_, report) = world.plan();
    report.sessions[session].conditions.iter().find(|condition| condition.kind == kind).cloned()
}

/// Everything a pass is told.
pub struct Situation {
    pub document: Document,
    pub revision: u32,
    pub records: BTreeMap<SessionName, Record>,
    pub observed: Option<Observed>,
    pub evidence: BTreeMap<SessionName, Evidence>,
    pub keys: Keys,
    pub in_flight: BTreeSet<SessionName>,
    pub approved: Option<Revision>,
    /// Runs that have ended, oldest first.
    pub ended: Vec<EndedRun>,
    pub now: Timestamp,
}

pub fn name(session: &str) -> SessionName {
    session.parse().unwrap()
}

pub fn user(user: &str) -> UserName {
    user.parse().unwrap()
}

pub fn session(name: &str, users: &[&str]) -> Session {
    Session::new(name.parse().unwrap(), users.iter().map(|user| user.parse().unwrap()).collect(), "local")
}

impl Situation {
    pub fn new(sessions: Vec<Session>) -> Self {
        let now = "2026-11-20T08:00:00Z".parse().unwrap();
        let users = ["alice", "bob", "carol", "dave", "erin", "frank"];
        Self {
            document: Document {
                version: VERSION,
                deployment: "home".parse().unwrap(),
                limits: Limits { active_users: 9, active_sessions: 9, max_teardowns_per_pass: 3 },
                suspended: None,
                drift: Drift::Correct,
                users: users.iter().map(|name| User::new(user(name))).collect(),
                sessions,
            },
            revision: 1,
            records: BTreeMap::new(),
            observed: Some(Observed {
                asked_at: now,
                lag: SignedDuration::from_secs(30),
                gateways: BTreeMap::new(),
                unseen: BTreeMap::new(),
                blocked: BTreeMap::new(),
            }),
            evidence: BTreeMap::new(),
            keys: Keys::default(),
            in_flight: BTreeSet::new(),
            approved: None,
            ended: Vec::new(),
            now,
        }
    }

    /// Takes a change of the document into force.
    pub fn edit(&mut self, change: impl FnOnce(&mut Document)) {
        change(&mut self.document);
        self.revision += 1;
    }

    pub fn session(&mut self, session: &str) -> &mut Session {
        self.document.sessions.iter_mut().find(|declared| declared.name.as_str() == session).unwrap()
    }

    pub fn record(&mut self, session: &str) -> &mut Record {
        self.records.get_mut(session).unwrap()
    }

    pub fn state(&self, session: &str) -> &State {
        &self.records[session].state
    }

    /// The gateway of a session at the provider.
    pub fn gateway(&mut self, session: &str) -> &mut Gateway {
        let gateway_name = self.gateway_name(session);
        self.observed.as_mut().unwrap().gateways.get_mut(&gateway_name).unwrap()
    }

    pub fn gateway_name(&self, session: &str) -> GatewayName {
        GatewayName::new(&self.document.deployment, &name(session))
    }

    pub fn vanish(&mut self, session: &str) {
        let gateway_name = self.gateway_name(session);
        self.observed.as_mut().unwrap().gateways.remove(&gateway_name);
    }

    pub fn advance(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        if let Some(observed) = &mut self.observed {
            observed.asked_at = self.now;
        }
        // Gateways are asked again and have nothing new to say.
        for evidence in self.evidence.values_mut() {
            evidence.handshake_at = Some(self.now);
            if let Some(report) = &mut evidence.report {
                report.taken_at = self.now;
            }
        }
    }

    pub fn ask_for(&mut self, session: &str, kind: RequestKind) {
        let at = self.now;
        self.record(session).request = Some(Request { kind, at, by: "test".into(), handled: false });
    }

    pub fn plan(&self) -> (Plan, Report) {
        self.with_inputs(plan)
    }

    /// What will happen in the next `minutes`.
    pub fn forecast(&self, minutes: i64) -> Vec<Foreseen> {
        let until = self.now + SignedDuration::from_mins(minutes);
        self.with_inputs(|inputs| forecast(inputs, until))
    }

    fn with_inputs<T>(&self, ask: impl FnOnce(&Inputs<'_>) -> T) -> T {
        let desired = Desired::new(self.document.clone(), self.revision());
        ask(&Inputs {
            desired: &desired,
            records: &self.records,
            observed: self.observed.as_ref(),
            evidence: &self.evidence,
            keys: &self.keys,
            in_flight: &self.in_flight,
            approved: self.approved.as_ref(),
            seed: self.seed(),
            now: self.now,
        })
    }

    /// Another one for each moment.
    fn seed(&self) -> [u8; 32] {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&self.now.as_second().to_le_bytes());
        seed
    }

    pub fn revision(&self) -> Revision {
        Revision(self.revision.to_string())
    }

    /// Plans and carries out.
    pub fn pass(&mut self) -> (Plan, Report) {
        let (plan, report) = self.plan();
        for (session, action) in plan.actions() {
            self.carry_out(session, action);
        }
        (plan, report)
    }

    /// Makes passes, with nothing else happening and no time passing, until nothing is planned.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            if self.pass().0.is_empty() {
                return;
            }
        }
        panic!("the plans do not end: {}", self.plan().0);
    }

    /// Brings every wanted session up, 10 seconds after the beginning.
    pub fn up(&mut self) {
        self.settle();
        self.advance(10);
        self.run_gateways();
        self.settle();
    }

    /// Lets every gateway that is being created run, and every one that is being deleted go.
    pub fn run_gateways(&mut self) {
        let now = self.now;
        let observed = self.observed.as_mut().unwrap();
        observed.gateways.retain(|_, gateway| gateway.phase != Phase::Deleting);
        for gateway in observed.gateways.values_mut().filter(|gateway| gateway.phase == Phase::Creating) {
            gateway.phase = Phase::Running;
            gateway.endpoint = Some(Endpoint { host: "gateway.example".into(), port: 41820 });
            let evidence = Evidence {
                run: gateway.run.clone(),
                handshake_at: Some(now),
                report: Some(Telemetry {
                    taken_at: now,
                    place: Place::Tunnel,
                    boot: "one".into(),
                    started_at: now,
                    generation: None,
                    digest: None,
                    peers: BTreeMap::new(),
                    flows: 0,
                    buffered_bytes: 0,
                    refused: 0,
                }),
                other: None,
                error: None,
            };
            self.evidence.insert(gateway.session.clone(), evidence);
        }
    }

    /// The report of a session's gateway.
    pub fn telemetry(&mut self, session: &str) -> &mut Telemetry {
        self.evidence.get_mut(session).unwrap().report.as_mut().unwrap()
    }

    /// A user shakes hands and sends a packet now.
    pub fn send(&mut self, session: &str, who: &str) {
        let (now, key) = (self.now, self.keys.users[who]);
        let report = PeerReport {
            handshake_at: Some(now),
            data_at: Some(now),
            received_bytes: 1,
            sent_bytes: 0,
            open_flows: 0,
            endpoint: None,
        };
        self.telemetry(session).peers.insert(key, report);
    }

    fn carry_out(&mut self, session: &SessionName, action: &Action) {
        match action {
            Action::EnsureKeys { gateway, users } => {
                if *gateway {
                    self.keys.gateways.insert(session.clone(), PublicKey::from([1; 32]));
                }
                for (n, user) in (2_u8..).zip(users) {
                    let seed = n + 10 * u8::try_from(self.keys.users.len()).unwrap();
                    self.keys.users.insert(user.clone(), PublicKey::from([seed; 32]));
                }
            }
            Action::Store { record, ended } => {
                self.ended.extend(ended.as_deref().cloned());
                self.records.insert(session.clone(), (**record).clone());
            }
            Action::Forget { ended } => {
                self.ended.extend(ended.as_deref().cloned());
                self.records.remove(session);
            }
            Action::Create { spec } => {
                let gateway = Gateway {
                    session: session.clone(),
                    run: spec.run.clone(),
                    generation: spec.generation,
                    hash: spec.hash.clone(),
                    phase: Phase::Creating,
                    endpoint: None,
                };
                self.observed.as_mut().unwrap().gateways.entry(spec.name.clone()).or_insert(gateway);
                self.fold(session, &Outcome::Created);
            }
            Action::Delete { name, .. } => {
                if let Some(gateway) = self.observed.as_mut().unwrap().gateways.get_mut(name) {
                    gateway.phase = Phase::Deleting;
                }
                self.fold(session, &Outcome::Deleted);
            }
            Action::Configure { live } => {
                self.evidence.get_mut(session).unwrap().report.as_mut().unwrap().digest = Some(live.digest());
            }
            Action::Note { .. } => {}
        }
    }

    pub fn fold(&mut self, session: &SessionName, outcome: &Outcome) {
        if let Some(record) = self.records.get(session) {
            let folded = fold(record, outcome, &self.seed(), self.now);
            self.records.insert(session.clone(), folded);
        }
    }
}
