//! One pass of the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ebb_core::action::{Action, Plan, Step};
use ebb_core::observed::Scope;
use ebb_core::plan::{Inputs, Progress, Report, plan};
use jiff::SignedDuration;
use tokio::time::Instant;

use super::{Busy, Engine, step};
use crate::clock;
use crate::secrets::SecretName;
use crate::store::StoreError;
use crate::telemetry::Target;

/// Without any reason a pass is made this often: whatever was missed is seen then.
const RESYNC: Duration = Duration::from_secs(60);

/// Where several daemons share the sessions, what the others have written is read this often: a slot that one of them frees is
/// taken up that late, and so is a wish for a session of another's.
const FOLLOW: Duration = Duration::from_secs(5);

/// How often old lines of history and old runs are looked for. Neither matters to the hour.
const SWEEP: Duration = Duration::from_secs(3600);

/// How old a line of history is when it goes: what operates a service is looked into within days.
const HISTORY: SignedDuration = SignedDuration::from_hours(5 * 24);

/// How long ago a run ended when it goes: a month of them answers who used what since the last bill.
const ENDED_RUNS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Passes take at most this share of a core: after one that took 5 ms the next waits 95 ms. With few sessions that is
/// nothing, with thousands it keeps a storm of news from becoming a storm of passes.
const DUTY: u32 = 20;

/// What ends a bill waits for nobody: creates of hundreds of sessions can take long where one is made at a time.
fn waits_for_turn(step: &Step) -> bool {
    !step.actions.iter().any(|action| matches!(action, Action::Delete { .. }))
}

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
        let seen = *self.led.borrow();
        let follow = self.follow_at.is_some_and(|at| at <= began);
        if (follow || self.records_doubtful) && !self.reread().await {
            return;
        }
        self.look_up_keys().await;
        self.sweep(began);
        if let Some((mut plan, mut report)) = self.plan() {
            self.keep_own(&mut plan, &mut report);
            self.pass_at = report.next.map_or(self.pass_at, |at| clock::instant_at(at).min(self.pass_at));
            self.remember(report);
            self.start_steps(plan);
            self.keep_links();
        }
        let in_flight = self.in_flight.iter();
        let shards = in_flight.map(|session| self.parts.leadership.shard_of(session)).collect();
        self.busy.send_replace(Busy { seen, shards });
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

    /// Everything is planned from everything, so that limits hold for all; what is not this daemon's is carried out by another,
    /// which also knows how it is.
    fn keep_own(&self, plan: &mut Plan, report: &mut Report) {
        let leadership = &self.parts.leadership;
        if leadership.count() == 1 {
            return;
        }
        plan.steps.retain(|step| leadership.holds(&step.session));
        for session in report.sessions.values_mut().filter(|session| !leadership.holds(&session.session)) {
            session.progress = Progress::Settled;
            session.conditions.clear();
            (session.verdict, session.next, session.ask_at) = (None, None, None);
            if let Some(record) = self.records.get(&session.session) {
                (session.state, session.since) = (record.state.clone(), record.since);
            }
        }
        report.next = report.sessions.values().filter_map(|session| session.next).min();
    }

    /// Somebody else wrote, or a write failed half-way: what the store says is what counts.
    async fn reread(&mut self) -> bool {
        let is_shared = self.follow_at.is_some();
        match self.read_store(is_shared).await {
            Ok(()) => {
                self.records_doubtful = false;
                self.store_error = None;
                self.follow_at = is_shared.then(|| Instant::now() + FOLLOW);
                true
            }
            Err(error) => {
                tracing::error!("{error}");
                self.store_error = Some(error.to_string());
                self.pass_at = Instant::now() + Duration::from_secs(1);
                self.follow_at = is_shared.then_some(self.pass_at);
                false
            }
        }
    }

    async fn read_store(&mut self, is_shared: bool) -> Result<(), StoreError> {
        if is_shared {
            self.intake.follow(&self.parts).await?;
            let approved = self.parts.store.approved().await?;
            self.approved = approved.filter(|revision| !revision.0.is_empty());
        }
        self.read_records().await
    }

    /// Old lines of history and old runs go.
    fn sweep(&mut self, now: Instant) {
        if now < self.sweep_at || !self.parts.leadership.holds_first() {
            return;
        }
        self.sweep_at = now + SWEEP;
        let (store, now) = (self.parts.store.clone(), clock::now());
        let (Ok(notes_before), Ok(runs_before)) = (now.checked_sub(HISTORY), now.checked_sub(ENDED_RUNS))
        else {
            return;
        };
        tokio::spawn(async move {
            match store.sweep_notes(notes_before).await {
                Ok(0) => {}
                Ok(swept) => tracing::info!("removed {swept} lines of history that were older than 5 days"),
                Err(error) => tracing::warn!("{error}"),
            }
            match store.sweep_runs(runs_before).await {
                Ok(0) => {}
                Ok(swept) => tracing::info!("removed {swept} runs that ended more than 30 days ago"),
                Err(error) => tracing::warn!("{error}"),
            }
        });
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
                stopping: self.stopping.subscribe(),
            };
            let (sender, turns) =
                (self.results.0.clone(), waits_for_turn(&step).then(|| Arc::clone(&self.turns)));
            tokio::spawn(async move {
                let _turn = match &turns {
                    Some(turns) => turns.acquire().await.ok(),
                    None => None,
                };
                // In a box, which takes up room only from now on.
                let done = Box::pin(worker.carry_out(step)).await;
                let _ = sender.send(done).await;
            });
        }
    }

    /// Keeps the report. Of a session whose last step is still being carried out the planner has only the record from before
    /// it, so what was said when the step began stands: nobody sees a session go back and forth.
    fn remember(&mut self, mut report: Report) {
        let before = self.report.take();
        for name in &self.in_flight {
            if let Some(said) = before.as_ref().and_then(|before| before.sessions.get(name)) {
                report.sessions.insert(name.clone(), said.clone());
            }
        }
        self.report = Some(Arc::new(report));
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
            let is_up = is_up && self.parts.leadership.holds(&gateway.session);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn step(actions: &[Value]) -> Step {
        let actions = actions.iter().map(|action| serde_json::from_value(action.clone()).unwrap());
        Step { session: "home".parse().unwrap(), actions: actions.collect() }
    }

    #[test]
    fn a_teardown_waits_for_no_turn_and_everything_else_does() {
        let keys = json!({ "do": "ensureKeys", "gateway": true, "users": [] });
        let delete = json!({ "do": "delete", "name": "ebb-home", "run": "r", "why": { "because": "idle" } });
        assert!(waits_for_turn(&step(&[])));
        assert!(waits_for_turn(&step(std::slice::from_ref(&keys))));
        assert!(!waits_for_turn(&step(&[keys, delete])));
    }
}
