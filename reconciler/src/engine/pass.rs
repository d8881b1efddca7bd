//! One pass of the loop.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_core::action::Plan;
use ebb_core::observed::Scope;
use ebb_core::plan::{Inputs, Report, plan};
use tokio::time::Instant;

use super::{Engine, step};
use crate::clock;
use crate::secrets::SecretName;
use crate::telemetry::Target;

/// Without any reason a pass is made this often: whatever was missed is seen then.
const RESYNC: Duration = Duration::from_secs(60);

/// Passes take at most this share of a core: after one that took 5 ms the next waits 95 ms. With few sessions that is
/// nothing, with thousands it keeps a storm of news from becoming a storm of passes.
const DUTY: u32 = 20;

impl Engine {
    pub(super) async fn pass(&mut self) {
        let began = Instant::now();
        self.start_listing(began);
        let not_before = self.fetching.hold_until().map_or(self.not_before, |at| at.max(self.not_before));
        if began < not_before {
            self.pass_at = not_before;
            return;
        }
        self.pass_at = began + RESYNC;
        if self.records_doubtful && !self.reread().await {
            return;
        }
        self.look_up_keys().await;
        if let Some((plan, report)) = self.plan() {
            self.pass_at = report.next.map_or(self.pass_at, |at| clock::instant_at(at).min(self.pass_at));
            self.remember(report);
            self.start_steps(plan);
            self.keep_links();
        }
        self.acknowledge();
        let counters = &self.parts.counters;
        counters.passes.inc();
        counters.pass_seconds.observe(began.elapsed().as_secs_f64());
        counters.last_pass.set(clock::now().as_second());
        self.passes.send_modify(|passes| *passes += 1);
        self.not_before = began + began.elapsed() * DUTY;
    }

    /// A request to reconcile is handled when the document has been fetched, the provider has been asked, and a pass has followed.
    fn acknowledge(&mut self) {
        let Some(requested) = self.judged else { return };
        let asked = self.observed.as_ref().is_some_and(|observed| observed.asked_at >= requested);
        if asked || self.provider_error.is_some() || self.intake.desired().is_none() {
            self.intake.handled(requested);
            self.judged = None;
        }
    }

    fn plan(&self) -> Option<(Plan, Report)> {
        Some(plan(&Inputs {
            desired: self.intake.desired()?,
            records: &self.records,
            observed: self.observed.as_ref(),
            evidence: &self.evidence,
            keys: &self.keys,
            in_flight: &self.in_flight,
            approved: self.approved.as_ref(),
            seed: rand::random(),
            now: clock::now(),
        }))
    }

    /// Somebody else wrote, or a write failed half-way: what the store says is what counts.
    async fn reread(&mut self) -> bool {
        if !self.in_flight.is_empty() {
            // Their results would overwrite what is read now.
            return true;
        }
        match self.read_records().await {
            Ok(()) => {
                self.records_doubtful = false;
                self.store_error = None;
                true
            }
            Err(error) => {
                tracing::error!("{error}");
                self.store_error = Some(error.to_string());
                self.pass_at = Instant::now() + Duration::from_secs(1);
                false
            }
        }
    }

    fn start_listing(&mut self, now: Instant) {
        let Some(desired) = self.intake.desired() else { return };
        if self.listing || now < self.list_at {
            return;
        }
        let scope = Scope::of(&desired.document, &self.records);
        self.listing = true;
        let (provider, sender) = (self.parts.provider.clone(), self.listings.0.clone());
        tokio::spawn(async move {
            let mut listed = provider.list(&scope).await;
            if let Ok(observed) = &mut listed {
                provider.tend(&scope, observed).await;
            }
            let _ = sender.send(listed).await;
        });
    }

    /// Finds the keys that exist already, so that a restart does not ask for them to be made.
    async fn look_up_keys(&mut self) {
        let Some(desired) = self.intake.desired() else { return };
        let sessions = &desired.document.sessions;
        let gateways = sessions.iter().map(|session| &session.name);
        let gateways = gateways.filter(|name| !self.keys.gateways.contains_key(*name));
        let users = desired.document.users.iter().filter(|user| self.keys.user(user).is_none());
        let users = users.map(|user| &user.name);
        let wanted: Vec<SecretName> = gateways
            .map(|name| SecretName::Gateway(name.clone()))
            .chain(users.map(|name| SecretName::User(name.clone())))
            .filter(|name| !self.keys_missing.contains(name))
            .collect();
        for name in wanted {
            match self.parts.secrets.get(&name).await {
                Ok(Some(key)) => self.take_key(&name, key.public()),
                // It is made by a step, which says so when it has.
                Ok(None) => {
                    self.keys_missing.insert(name);
                }
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    fn start_steps(&mut self, plan: Plan) {
        for step in plan.steps {
            self.in_flight.insert(step.session.clone());
            let worker = step::Worker {
                parts: self.parts.clone(),
                control_key: self.links.key(),
                configurer: self.links.configurer(&step.session),
                record: self.records.get(&step.session).cloned(),
                version: self.versions.get(&step.session).copied(),
            };
            let sender = self.results.0.clone();
            tokio::spawn(async move {
                let _ = sender.send(worker.carry_out(step).await).await;
            });
        }
    }

    /// Keeps the report. Of a session whose last step is still being carried out the planner has only the record from before
    /// it, so what was said when the step began stands: nobody sees a session go back and forth.
    fn remember(&mut self, mut report: Report) {
        for (name, of_session) in self.report.take().into_iter().flat_map(|old| old.sessions) {
            if self.in_flight.contains(&name) {
                report.sessions.insert(name, of_session);
            }
        }
        self.report = Some(report);
    }

    /// Links follow what is observed: one for each session that is up and whose gateway has an address.
    fn keep_links(&mut self) {
        let mut targets = BTreeMap::new();
        let gateways = self.observed.iter().flat_map(|observed| &observed.gateways);
        for (name, gateway) in gateways {
            let is_up = self.records.get(&gateway.session).is_some_and(|record| {
                let this_run = record.run.as_ref().is_some_and(|run| run.id == gateway.run);
                this_run && record.state.name().is_up()
            });
            let key = self.keys.gateways.get(&gateway.session);
            if let (true, Some(endpoint), Some(key)) = (is_up, &gateway.endpoint, key) {
                let target = Target {
                    gateway: name.clone(),
                    run: gateway.run.clone(),
                    endpoint: endpoint.clone(),
                    gateway_key: *key,
                };
                targets.insert(gateway.session.clone(), target);
            }
        }
        if self.observed.is_some() {
            self.links.keep(targets);
        }
        let records = &self.records;
        self.evidence.retain(|session, evidence| {
            records.get(session).is_some_and(|r| r.run.as_ref().is_some_and(|run| run.id == evidence.run))
        });
        for (name, of_session) in self.report.iter().flat_map(|report| &report.sessions) {
            self.links.ask_at(name, of_session.ask_at);
        }
    }
}
