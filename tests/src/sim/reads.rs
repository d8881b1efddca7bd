//! How the daemon looks at the world: listings, telemetry, passes.

use std::collections::{BTreeMap, BTreeSet};

use ebb_core::action::Plan;
use ebb_core::evidence::{Evidence, Place, Report as Evident};
use ebb_core::forecast::{Foreseen, forecast};
use ebb_core::observed::{Observed, Phase};
use ebb_core::plan::{self, Inputs, Report};
use ebb_desired_state::SessionName;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;

use super::daemon::{Answer, Daemon};
use super::mutation::{Facts, Mutation};
use super::world::World;

/// Questions that are due within this time of each other are asked together.
const TOGETHER: SignedDuration = SignedDuration::from_secs(3);

impl World {
    /// Takes up answers that have arrived and asks what is due.
    pub(super) fn run_reads(&mut self, daemon: &mut Daemon) {
        if let Some((at, _)) = &daemon.listing
            && *at <= self.now
            && let Some((_, result)) = daemon.listing.take()
        {
            daemon.observed = result.ok();
            // Links stay while the provider cannot be asked.
            if let Some(observed) = &daemon.observed {
                let running = observed.gateways.values().filter(|gateway| gateway.phase == Phase::Running);
                daemon.targets =
                    running.map(|gateway| (gateway.session.clone(), gateway.run.clone())).collect();
            }
            let pause = if daemon.is_moving() { self.pace.list_while_moving } else { self.pace.list_at_rest };
            daemon.list_at = Some(self.now + pause);
            daemon.trigger(self.now + self.pace.coalesce);
        }
        if daemon.listing.is_none() && daemon.list_at.is_some_and(|at| at <= self.now) {
            self.list(daemon);
        }
        let arrived: Vec<_> =
            daemon.asking.iter().filter(|(_, (at, _))| *at <= self.now).map(|(s, _)| s.clone()).collect();
        for session in arrived {
            if let Some((_, answer)) = daemon.asking.remove(&session) {
                self.take_answer(daemon, &session, answer);
                daemon.trigger(self.now + self.pace.coalesce);
            }
        }
        if daemon.ask_at.values().any(|at| *at <= self.now) {
            let soon = self.now + TOGETHER;
            let due: Vec<_> =
                daemon.ask_at.iter().filter(|(_, at)| **at <= soon).map(|(s, _)| s.clone()).collect();
            for session in due {
                daemon.ask_at.remove(&session);
                self.ask(daemon, &session);
            }
        }
    }

    /// Makes a pass and begins to carry out what it plans.
    pub(super) fn pass(&mut self, daemon: &mut Daemon) {
        daemon.pass_at = Some(self.now + self.pace.resync);
        let Some((plan, report)) = self.plan(daemon) else { return };
        self.passes += 1;
        daemon.at_rest = plan.is_empty();
        self.judge_plan(daemon, &plan);
        for step in plan.steps {
            if !daemon.flights.contains_key(&step.session) {
                daemon.begin(&step.session, step.actions, self.now);
            } else if self.mutation == Some(Mutation::IgnoreFlights) {
                self.violate(super::oracle::Rule::Serial, format!("{}: two steps at once", step.session));
            }
        }
        self.set_timers(daemon, &report);
        if daemon.is_moving() {
            let soon = self.now + self.pace.list_while_moving;
            daemon.list_at = Some(daemon.list_at.map_or(soon, |at| at.min(soon)));
        }
        daemon.report = Some(report);
    }

    /// What a pass would decide now.
    pub fn preview(&mut self) -> Option<(Plan, Report)> {
        let daemon = self.daemon.take()?;
        let planned = self.plan(&daemon);
        self.daemon = Some(daemon);
        planned
    }

    /// What time alone will bring until `until`.
    pub fn foresee(&mut self, until: Timestamp) -> Option<Vec<Foreseen>> {
        let seed = self.rng.random();
        let (now, daemon) = (self.clock(), self.daemon.as_ref()?);
        Some(forecast(
            &Inputs {
                desired: daemon.desired.as_ref()?,
                records: &daemon.records,
                observed: daemon.observed.as_ref(),
                evidence: &daemon.evidence,
                keys: &self.store.keys,
                in_flight: &daemon.in_flight(),
                approved: self.store.approved.as_ref(),
                seed,
                now,
            },
            until,
        ))
    }

    fn plan(&mut self, daemon: &Daemon) -> Option<(Plan, Report)> {
        let desired = daemon.desired.as_ref()?;
        let seed = self.rng.random();
        let now = self.clock();
        let in_flight = daemon.in_flight();
        let Some(mutation) = self.mutation else {
            return Some(plan::plan(&Inputs {
                desired,
                records: &daemon.records,
                observed: daemon.observed.as_ref(),
                evidence: &daemon.evidence,
                keys: &self.store.keys,
                in_flight: &in_flight,
                approved: self.store.approved.as_ref(),
                seed,
                now,
            }));
        };
        let mut facts = Facts {
            desired: desired.clone(),
            records: daemon.records.clone(),
            observed: daemon.observed.clone(),
            evidence: daemon.evidence.clone(),
            in_flight,
            approved: self.store.approved.clone(),
            now,
        };
        mutation.bend_facts(&mut facts);
        let (mut plan, report) = plan::plan(&Inputs {
            desired: &facts.desired,
            records: &facts.records,
            observed: facts.observed.as_ref(),
            evidence: &facts.evidence,
            keys: &self.store.keys,
            in_flight: &facts.in_flight,
            approved: facts.approved.as_ref(),
            seed,
            now,
        });
        mutation.bend_plan(&mut plan, &facts, &self.store.keys);
        Some((plan, report))
    }

    fn set_timers(&self, daemon: &mut Daemon, report: &Report) {
        let in_truth = |at: Timestamp| (at - self.skew).max(self.now + SignedDuration::from_millis(1));
        if let Some(next) = report.next {
            daemon.trigger(in_truth(next));
        }
        for (session, of_session) in &report.sessions {
            let Some(at) = of_session.ask_at.map(in_truth) else {
                daemon.ask_at.remove(session);
                continue;
            };
            let due = daemon.ask_at.entry(session.clone()).or_insert(at);
            *due = at.min(*due);
        }
        let known: BTreeSet<&SessionName> = daemon.records.keys().collect();
        daemon.evidence.retain(|session, _| known.contains(session));
    }

    fn list(&mut self, daemon: &mut Daemon) {
        let Some(desired) = &daemon.desired else {
            daemon.list_at = Some(self.now + self.pace.list_at_rest);
            return;
        };
        let lag = self.provider.faults.lag.as_millis();
        let lag = self.rng.random_range(0..=i64::try_from(lag).unwrap_or(0));
        let as_of = self.now - SignedDuration::from_millis(lag);
        let owner = (self.mutation != Some(Mutation::TouchForeign)).then_some(&desired.document.deployment);
        let asked_at = self.clock();
        let promised = self.provider.promised_lag;
        let result = self.provider.list(owner, as_of).map(|gateways| Observed {
            asked_at,
            lag: promised,
            gateways,
            unseen: BTreeMap::new(),
            blocked: BTreeMap::new(),
        });
        let answer_at = self.now + self.pace.this_time(self.pace.list, &mut self.rng);
        daemon.listing = Some((answer_at, result));
    }

    fn ask(&mut self, daemon: &mut Daemon, session: &SessionName) {
        let name = self.name_of(session);
        let Some(run) = daemon.targets.get(session).cloned() else { return };
        self.catch_up(session);
        let (now, reachable, logs) = (self.now, self.is_reachable(session), self.logs);
        // The address may have been given to a gateway of another run in the meantime; its key is the same.
        let silence = || "no answer to the handshake".to_owned();
        let gateway = self.provider.gateway(&name);
        let (telemetry, log) = match gateway {
            Some(gateway) if reachable => (Ok(gateway.ask(now)), None),
            Some(gateway) => {
                gateway.print(now);
                (Err(silence()), gateway.log().filter(|_| logs).cloned())
            }
            None => (Err(silence()), None),
        };
        let takes = if telemetry.is_ok() { self.pace.ask } else { self.pace.give_up };
        let answer_at = now + self.pace.this_time(takes, &mut self.rng);
        daemon.asking.insert(session.clone(), (answer_at, Answer { run, made_at: now, telemetry, log }));
    }

    fn take_answer(&self, daemon: &mut Daemon, session: &SessionName, answer: Answer) {
        let fresh = Evidence::none(answer.run.clone());
        let evidence = daemon.evidence.entry(session.clone()).or_insert_with(|| fresh.clone());
        if evidence.run != answer.run {
            *evidence = fresh;
        }
        match answer.telemetry {
            Ok(telemetry) => {
                let now = self.clock();
                evidence.handshake_at = Some(now);
                evidence.report = Some(Evident::new(&telemetry, Place::Tunnel, now));
                evidence.error = None;
                daemon.evidence_made_at.insert(session.clone(), answer.made_at);
            }
            Err(error) => {
                evidence.error = Some(error);
                if let Some((at, telemetry)) = answer.log {
                    let report = Evident::new(&telemetry, Place::Logs, at + self.skew);
                    if evidence.report.as_ref().is_none_or(|held| held.taken_at < report.taken_at) {
                        evidence.report = Some(report);
                        daemon.evidence_made_at.insert(session.clone(), at);
                    }
                }
            }
        }
    }
}
