//! A provider with everything that makes real ones hard: delays, refusals, lost responses, stale listings, groups that live on
//! after a delete, and neighbours that belong to somebody else.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use ebb_core::names::{GatewayName, Generation, Hash, RunId};
use ebb_core::observed::{self, Endpoint, Phase};
use ebb_core::outcome::{Class, Failure};
use ebb_core::spec::GatewaySpec;
use ebb_desired_state::{DeploymentName, SessionName};
use jiff::{SignedDuration, Timestamp};

use super::gateway::Gateway;

/// Listings as of any time within this window can be had.
const MEMORY: SignedDuration = SignedDuration::from_secs(60);

/// One container group.
#[derive(Debug, Clone)]
pub struct Group {
    /// Whose it is.
    pub deployment: DeploymentName,
    /// For which session it is.
    pub session: SessionName,
    /// Which run of it.
    pub run: RunId,
    /// The generation it was created for.
    pub generation: Generation,
    /// Hash of its template.
    pub hash: Hash,
    /// UDP port.
    pub port: u16,
    /// When it was created.
    pub created_at: Timestamp,
    /// What it is doing.
    pub standing: Standing,
    /// What runs in it.
    pub gateway: Option<Gateway>,
    /// Accepted deletes that it will live through.
    pub survives: u32,
}

/// What a group is doing, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Being created.
    Creating {
        /// When that ends.
        until: Timestamp,
        /// How it ends.
        fate: Fate,
    },
    /// Running.
    Running,
    /// Ended by itself.
    Exited {
        /// With this status.
        status: i32,
    },
    /// Given up on.
    Failed,
    /// Being deleted.
    Deleting {
        /// When it is gone.
        until: Timestamp,
    },
}

/// How a creation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Runs,
    /// The provider gives up on it.
    Fails,
    /// It never ends.
    Hangs,
}

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is refused and has no effect.
    Refuse(Class),
    /// It has its effect, but the answer never arrives.
    LoseAnswer,
}

/// What to do wrong, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// For the next creates, in order.
    pub create: VecDeque<Fault>,
    /// For the next deletes, in order.
    pub delete: VecDeque<Fault>,
    /// For the next listings, in order.
    pub list: VecDeque<Fault>,
    /// How the next creations end, in order; then they run.
    pub fates: VecDeque<Fate>,
    /// For every create and delete of one session.
    pub always: BTreeMap<SessionName, Fault>,
    /// The next groups live through this many deletes.
    pub survivals: VecDeque<u32>,
    /// A listing shows the world as of up to this long ago.
    pub lag: SignedDuration,
}

/// How often the provider was called, refused calls included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Creates.
    pub creates: u64,
    /// Deletes.
    pub deletes: u64,
    /// Listings.
    pub lists: u64,
}

impl Calls {
    /// Calls that can change something.
    #[must_use]
    pub fn writes(self) -> u64 {
        self.creates + self.deletes
    }
}

type Listing = BTreeMap<GatewayName, (DeploymentName, observed::Gateway)>;

/// The provider.
#[derive(Debug, Default)]
pub struct Provider {
    groups: BTreeMap<GatewayName, Group>,
    past: VecDeque<(Timestamp, Rc<Listing>)>,
    boots: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// How much older than the question a listing may be, as the provider says.
    pub promised_lag: SignedDuration,
    /// How often it was called.
    pub calls: Calls,
}

impl Provider {
    /// All groups, whosever they are.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<GatewayName, Group> {
        &self.groups
    }

    /// The group of a session in `deployment`, by its tags.
    pub fn of_session<'a>(
        &'a self,
        deployment: &'a DeploymentName,
        session: &'a SessionName,
    ) -> impl Iterator<Item = (&'a GatewayName, &'a Group)> {
        self.groups
            .iter()
            .filter(move |(_, group)| group.deployment == *deployment && group.session == *session)
    }

    /// A gateway that can be reached under this name.
    pub fn gateway(&mut self, name: &GatewayName) -> Option<&mut Gateway> {
        let group = self.groups.get_mut(name)?;
        group.gateway.as_mut().filter(|_| group.standing == Standing::Running)
    }

    /// Puts a group there that Ebb did not create.
    pub fn place(&mut self, name: GatewayName, group: Group, now: Timestamp) {
        self.groups.insert(name, group);
        self.remember(now);
    }

    /// Changes a group behind Ebb's back; with `None` it vanishes.
    pub fn disturb(&mut self, name: &GatewayName, standing: Option<Standing>, now: Timestamp) {
        match (self.groups.get_mut(name), standing) {
            (Some(group), Some(standing)) => {
                if standing != Standing::Running {
                    group.gateway = None;
                }
                group.standing = standing;
            }
            (Some(_), None) => {
                self.groups.remove(name);
            }
            (None, _) => {}
        }
        self.remember(now);
    }

    /// Somebody else changes the tags of a group.
    pub fn change_tags(&mut self, name: &GatewayName, now: Timestamp) {
        if let Some(group) = self.groups.get_mut(name) {
            group.hash = Hash::from_tag("changed-by-hand");
        }
        self.remember(now);
    }

    /// Restarts the gateway in a running group.
    pub fn restart(&mut self, name: &GatewayName, now: Timestamp) {
        let boot = self.boot();
        if let Some(gateway) = self.gateway(name) {
            *gateway = Gateway::start(boot, now);
        }
    }

    /// Creates a group unless one of this name and hash exists.
    ///
    /// # Errors
    /// When a fault is due, or another group stands in its place.
    pub fn create(
        &mut self,
        spec: &GatewaySpec,
        running_after: SignedDuration,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.calls.creates += 1;
        let fault = self.faults.always.get(&spec.session).cloned().or_else(|| self.faults.create.pop_front());
        if let Some(Fault::Refuse(class)) = fault {
            return Err(refusal(&class));
        }
        match self.groups.get(&spec.name) {
            Some(group) if matches!(group.standing, Standing::Deleting { .. }) => {
                return Err(Failure::new(Class::Conflict, "the group is being deleted"));
            }
            Some(group) if group.hash != spec.hash => {
                return Err(Failure::new(Class::Conflict, "a group with other properties has this name"));
            }
            Some(_) => {}
            None => {
                let fate = self.faults.fates.pop_front().unwrap_or(Fate::Runs);
                let group = Group {
                    deployment: spec.deployment.clone(),
                    session: spec.session.clone(),
                    run: spec.run.clone(),
                    generation: spec.generation,
                    hash: spec.hash.clone(),
                    port: spec.template.port,
                    created_at: now,
                    standing: Standing::Creating { until: now + running_after, fate },
                    gateway: None,
                    survives: self.faults.survivals.pop_front().unwrap_or(0),
                };
                self.groups.insert(spec.name.clone(), group);
                self.remember(now);
            }
        }
        answer(fault.as_ref())
    }

    /// Deletes a group, provided that it is of this run.
    ///
    /// # Errors
    /// When a fault is due.
    pub fn delete(
        &mut self,
        name: &GatewayName,
        run: &RunId,
        session: &SessionName,
        gone_after: SignedDuration,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.calls.deletes += 1;
        let fault = self.faults.always.get(session).cloned().or_else(|| self.faults.delete.pop_front());
        if let Some(Fault::Refuse(class)) = fault {
            return Err(refusal(&class));
        }
        if let Some(group) = self.groups.get_mut(name)
            && group.run == *run
            && !matches!(group.standing, Standing::Deleting { .. })
        {
            if group.survives > 0 {
                group.survives -= 1;
            } else {
                group.standing = Standing::Deleting { until: now + gone_after };
                group.gateway = None;
                self.remember(now);
            }
        }
        answer(fault.as_ref())
    }

    /// Lists the groups of `deployment`; with `None` all groups, as a broken client would.
    ///
    /// # Errors
    /// When a fault is due.
    pub fn list(
        &mut self,
        deployment: Option<&DeploymentName>,
        as_of: Timestamp,
    ) -> Result<BTreeMap<GatewayName, observed::Gateway>, Failure> {
        self.calls.lists += 1;
        match self.faults.list.pop_front() {
            Some(Fault::Refuse(class)) => return Err(refusal(&class)),
            Some(Fault::LoseAnswer) => return answer(Some(&Fault::LoseAnswer)).map(|()| BTreeMap::new()),
            None => {}
        }
        let listing = self.past.iter().rev().find(|(at, _)| *at <= as_of).map(|(_, listing)| listing);
        let Some(listing) = listing else { return Ok(BTreeMap::new()) };
        Ok(listing
            .iter()
            .filter(|(_, (owner, _))| deployment.is_none_or(|deployment| deployment == owner))
            .map(|(name, (_, gateway))| (name.clone(), gateway.clone()))
            .collect())
    }

    /// When something happens by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.groups.values().filter_map(due).min()
    }

    /// Does what is due. Returns what happened, for people.
    pub fn handle(&mut self, now: Timestamp) -> Vec<(SessionName, &'static str)> {
        let names: Vec<GatewayName> = self
            .groups
            .iter()
            .filter(|(_, group)| due(group).is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        let mut happened = Vec::new();
        for name in names {
            let boot = self.boot();
            let Some(group) = self.groups.get_mut(&name) else { continue };
            let what = match &group.standing {
                Standing::Creating { fate: Fate::Runs, .. } => {
                    group.standing = Standing::Running;
                    group.gateway = Some(Gateway::start(boot, now));
                    "runs"
                }
                Standing::Creating { .. } => {
                    group.standing = Standing::Failed;
                    "fails"
                }
                Standing::Deleting { .. } => "is gone",
                Standing::Running => {
                    group.standing = Standing::Exited { status: 0 };
                    group.gateway = None;
                    "ends itself: its lease is over"
                }
                Standing::Exited { .. } | Standing::Failed => continue,
            };
            happened.push((group.session.clone(), what));
            if what == "is gone" {
                self.groups.remove(&name);
            }
        }
        self.remember(now);
        happened
    }

    fn boot(&mut self) -> String {
        self.boots += 1;
        format!("{:032x}", self.boots)
    }

    fn remember(&mut self, now: Timestamp) {
        let listing =
            self.groups.iter().map(|(name, group)| (name.clone(), (group.deployment.clone(), seen(group))));
        self.past.push_back((now, Rc::new(listing.collect())));
        // The newest listing that is older than the window is still needed.
        while self.past.get(1).is_some_and(|(at, _)| now.duration_since(*at) > MEMORY) {
            self.past.pop_front();
        }
    }
}

fn due(group: &Group) -> Option<Timestamp> {
    match &group.standing {
        Standing::Creating { fate: Fate::Hangs, .. } | Standing::Exited { .. } | Standing::Failed => None,
        Standing::Creating { until, .. } | Standing::Deleting { until } => Some(*until),
        Standing::Running => group.gateway.as_ref().map(Gateway::lease_ends),
    }
}

fn seen(group: &Group) -> observed::Gateway {
    let phase = match &group.standing {
        Standing::Creating { .. } => Phase::Creating,
        Standing::Running => Phase::Running,
        Standing::Exited { status } => Phase::Exited { status: Some(*status) },
        Standing::Failed => Phase::Failed { message: "no capacity on the host".into() },
        Standing::Deleting { .. } => Phase::Deleting,
    };
    let endpoint = (group.standing == Standing::Running)
        .then(|| Endpoint { host: format!("{}.example", group.session), port: group.port });
    observed::Gateway {
        session: group.session.clone(),
        run: group.run.clone(),
        generation: group.generation,
        hash: group.hash.clone(),
        phase,
        endpoint,
    }
}

fn refusal(class: &Class) -> Failure {
    let message = match class {
        Class::Transient => "the provider had a fault",
        Class::Throttled { .. } => "too many requests",
        Class::Quota => "the quota of the region is used up",
        Class::Conflict => "another operation is in progress",
        Class::Stalled => "the region does not offer this size",
        Class::Fatal => "the daemon's identity lacks a role",
    };
    Failure::new(class.clone(), message)
}

fn answer(fault: Option<&Fault>) -> Result<(), Failure> {
    match fault {
        Some(Fault::LoseAnswer) => Err(Failure::new(Class::Transient, "the provider did not answer in time")),
        Some(Fault::Refuse(_)) | None => Ok(()),
    }
}
