//! Carries out steps as the daemon does: one step of a session at a time, its actions in order, up to the first failure.

use std::collections::VecDeque;

use ebb_core::action::Action;
use ebb_core::fold::{Outcome, fold};
use ebb_core::outcome::{Class, Failure};
use ebb_core::state::Rest;
use ebb_desired_state::SessionName;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;

use super::daemon::Daemon;
use super::mutation::Mutation;
use super::world::World;

/// A step that is being carried out.
#[derive(Debug, Clone)]
pub struct Flight {
    actions: VecDeque<Action>,
    stage: Stage,
    /// When its next stage is reached.
    pub due: Timestamp,
}

#[derive(Debug, Clone)]
enum Stage {
    /// The next action is to be begun.
    Begin,
    /// The request is on its way.
    Request,
    /// The answer is on its way.
    Answer(Outcome, Next),
}

/// How a step goes on after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Action,
    Stop,
}

/// What became of a flight after one stage.
enum Progress {
    /// It goes on at this time.
    At(Timestamp),
    /// It has ended.
    Over,
    /// The daemon crashed.
    Crashed,
}

impl Flight {
    /// A flight that begins now.
    #[must_use]
    pub fn new(actions: VecDeque<Action>, now: Timestamp) -> Self {
        Self { actions, stage: Stage::Begin, due: now }
    }

    /// A request that is on its way to the provider. It may arrive although its sender has died.
    #[must_use]
    pub fn under_way(&self) -> Option<&Action> {
        match (&self.stage, self.actions.front()) {
            (Stage::Request, Some(action @ (Action::Create { .. } | Action::Delete { .. }))) => Some(action),
            _ => None,
        }
    }
}

impl World {
    /// Moves every flight of `daemon` whose next stage is due. Returns whether the daemon survived.
    pub(super) fn run_flights(&mut self, daemon: &mut Daemon) -> bool {
        loop {
            let due = daemon.flights.iter().find(|(_, flight)| flight.due <= self.now);
            let Some(session) = due.map(|(session, _)| session.clone()) else { return true };
            let Some(mut flight) = daemon.flights.remove(&session) else { return true };
            match self.advance_flight(daemon, &session, &mut flight) {
                Progress::At(due) => {
                    flight.due = due;
                    daemon.flights.insert(session, flight);
                }
                Progress::Over => daemon.trigger(self.now + self.pace.coalesce),
                Progress::Crashed => return false,
            }
        }
    }

    fn advance_flight(
        &mut self,
        daemon: &mut Daemon,
        session: &SessionName,
        flight: &mut Flight,
    ) -> Progress {
        match std::mem::replace(&mut flight.stage, Stage::Begin) {
            Stage::Begin => match flight.actions.front() {
                None => Progress::Over,
                Some(Action::Create { .. } | Action::Delete { .. } | Action::Configure { .. }) => {
                    flight.stage = Stage::Request;
                    Progress::At(self.now + self.pace.this_time(self.pace.call, &mut self.rng))
                }
                Some(_) => self.act(daemon, session, flight),
            },
            Stage::Request => self.act(daemon, session, flight),
            Stage::Answer(outcome, next) => {
                if !self.fold_outcome(daemon, session, &outcome) {
                    return Progress::Crashed;
                }
                if next == Next::Stop { Progress::Over } else { Progress::At(self.now) }
            }
        }
    }

    /// Gives the first action its effect.
    fn act(&mut self, daemon: &mut Daemon, session: &SessionName, flight: &mut Flight) -> Progress {
        let Some(action) = flight.actions.pop_front() else { return Progress::Over };
        let mut next = Progress::At(self.now);
        match &action {
            Action::EnsureKeys { gateway, users } => {
                self.store.ensure_keys(gateway.then_some(session), users);
            }
            Action::Store { record, ended } => {
                let seen = daemon.versions.get(session).copied();
                if self.store.check(session, seen).is_ok() {
                    self.judge_store(daemon, record);
                }
                match self.store.put(record, seen, ended.as_deref()) {
                    Ok(version) => {
                        daemon.versions.insert(session.clone(), version);
                        daemon.records.insert(session.clone(), (**record).clone());
                    }
                    Err(_) => {
                        daemon.reload(session, &self.store);
                        next = Progress::Over;
                    }
                }
            }
            Action::Forget { ended } => {
                if self.store.check(session, daemon.versions.get(session).copied()).is_ok() {
                    self.judge_forget(session);
                }
                let seen = daemon.versions.get(session).copied();
                if self.store.remove(session, seen, ended.as_deref()).is_err() {
                    daemon.reload(session, &self.store);
                } else {
                    daemon.versions.remove(session);
                    daemon.records.remove(session);
                }
                self.say(Some(session), "forgotten".to_owned());
            }
            Action::Note { note } => {
                self.say(Some(session), note.message.clone());
                self.store.notes.push(note.clone());
            }
            Action::Create { spec } => {
                self.catch_up(session);
                let boot = self.pace.this_time(self.pace.boot, &mut self.rng);
                let result = self.provider.create(spec, boot, self.now);
                let what = format!("create run {}", self.run_number(&spec.run));
                self.say_call(session, &what, &result);
                next = self.answer(flight, result, Outcome::Created, Outcome::CreateFailed);
            }
            Action::Delete { name, run, why } => {
                self.catch_up(session);
                self.judge_delete(daemon, session, name, run);
                let gone = self.pace.this_time(self.pace.gone, &mut self.rng);
                let result = self.provider.delete(name, run, session, gone, self.now);
                let what = format!("delete run {} ({})", self.run_number(run), why.as_str());
                self.say_call(session, &what, &result);
                let failed = if self.mutation == Some(Mutation::ForgetFailedDeletes) && *why != Rest::Failed {
                    |_| Outcome::Deleted
                } else {
                    Outcome::DeleteFailed
                };
                next = self.answer(flight, result, Outcome::Deleted, failed);
            }
            Action::Configure { live } => {
                let result = self.configure(session, live);
                match result {
                    // The gateway says itself what it has; there is nothing to fold.
                    Ok(digest) => {
                        let evidence = daemon.evidence.get_mut(session);
                        if let Some(report) = evidence.and_then(|evidence| evidence.report.as_mut()) {
                            report.digest = Some(digest);
                        }
                    }
                    Err(failure) => {
                        let outcome = Outcome::ConfigureFailed(failure);
                        flight.stage = Stage::Answer(outcome, Next::Stop);
                    }
                }
            }
        }
        if self.count_effect() { Progress::Crashed } else { next }
    }

    fn answer(
        &mut self,
        flight: &mut Flight,
        result: Result<(), Failure>,
        success: Outcome,
        failure: impl Fn(Failure) -> Outcome,
    ) -> Progress {
        let lost = matches!(&result, Err(failure) if failure.message.contains("did not answer"));
        let usual = if lost { self.pace.give_up } else { self.pace.call };
        let after = self.pace.this_time(usual, &mut self.rng);
        flight.stage = match result {
            Ok(()) => Stage::Answer(success, Next::Action),
            Err(error) => Stage::Answer(failure(error), Next::Stop),
        };
        Progress::At(self.now + after)
    }

    /// Folds an outcome into the record. Returns whether the daemon survived.
    fn fold_outcome(&mut self, daemon: &mut Daemon, session: &SessionName, outcome: &Outcome) -> bool {
        let Some(record) = daemon.records.get(session) else { return true };
        let folded = fold(record, outcome, &self.rng.random(), self.clock());
        if folded == *record {
            return true;
        }
        let seen = daemon.versions.get(session).copied();
        if self.store.check(session, seen).is_ok() {
            self.judge_store(daemon, &folded);
        }
        match self.store.put(&folded, seen, None) {
            Ok(version) => {
                daemon.versions.insert(session.clone(), version);
                daemon.records.insert(session.clone(), folded);
            }
            Err(_) => daemon.reload(session, &self.store),
        }
        !self.count_effect()
    }

    fn configure(
        &mut self,
        session: &SessionName,
        live: &ebb_wire::Live,
    ) -> Result<ebb_wire::Digest, Failure> {
        self.catch_up(session);
        let fence = self.mutation != Some(Mutation::SkipGenerationFence);
        let unreachable = || Failure::new(Class::Transient, "the gateway does not answer through the tunnel");
        let reachable = self.is_reachable(session);
        let name = self.name_of(session);
        let held =
            self.provider.gateway(&name).and_then(|gateway| gateway.live().map(|live| live.generation));
        let gateway = self.provider.gateway(&name).filter(|_| reachable).ok_or_else(unreachable)?;
        let result = gateway.configure(live, fence, self.now);
        if result.is_ok() && held.is_some_and(|held| live.generation < held) {
            self.violate(
                super::oracle::Rule::Generation,
                format!("{session}: a gateway went back to an older generation"),
            );
        }
        let names: Vec<_> = live.peers.iter().map(|peer| peer.name.as_str()).collect();
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        let text = result.as_ref().map_or_else(ToString::to_string, |_| names);
        self.say(Some(session), format!("gateway: configure peers: {text}"));
        result.map_err(|refusal| Failure::new(Class::Fatal, refusal.to_string()))
    }

    /// Lets requests that were on their way when the daemon died arrive all the same.
    pub(super) fn deliver_ghosts(&mut self) {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ghosts).into_iter().partition(|(at, _)| *at <= now);
        self.ghosts = later;
        for (_, action) in due {
            let brief = SignedDuration::from_secs(5);
            match action {
                Action::Create { spec } => drop(self.provider.create(&spec, brief, now)),
                Action::Delete { name, run, .. } => {
                    let session = self.provider.groups().get(&name).map(|group| group.session.clone());
                    if let Some(session) = session {
                        drop(self.provider.delete(&name, &run, &session, brief, now));
                    }
                }
                Action::EnsureKeys { .. }
                | Action::Store { .. }
                | Action::Forget { .. }
                | Action::Configure { .. }
                | Action::Note { .. } => {}
            }
        }
    }
}
