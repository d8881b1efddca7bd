//! The groups and what becomes of them over time.

use std::collections::{BTreeMap, VecDeque};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Behaviour;
use super::containers::{Container, Image, State};
use crate::e2e::wait::now;

/// How a creation ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Runs,
    /// Azure gives up on it, with an event of this name and message.
    Fails(String, String),
    /// It never ends.
    Hangs,
}

/// Whether a group can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Settled,
    Moving,
}

pub(super) enum Refused {
    Absent,
    Moving,
}

#[derive(Debug)]
enum Phase {
    Creating { until: Option<Instant>, fate: Fate },
    Made { address_from: Instant },
    Failed { event: Value },
    Deleting { until: Instant },
}

pub(super) struct Group {
    id: String,
    body: Value,
    boot: Vec<(String, String)>,
    phase: Phase,
    container: Option<Container>,
    starts: u32,
    survives: u32,
    address: String,
    operation: String,
    stopped: bool,
}

pub(super) struct Groups {
    image: Option<Image>,
    groups: BTreeMap<String, Group>,
    operations: BTreeMap<String, (String, Option<Value>)>,
    past: VecDeque<(Instant, Vec<Value>)>,
    keeps_past: bool,
    given: usize,
    pub(super) fates: VecDeque<Fate>,
    pub(super) survivals: VecDeque<u32>,
}

/// Listings that are kept to be shown late.
const PAST: usize = 5000;

impl Groups {
    pub(super) fn new(image: Option<Image>) -> Self {
        Self {
            image,
            groups: BTreeMap::new(),
            operations: BTreeMap::new(),
            past: VecDeque::new(),
            keeps_past: false,
            given: 0,
            fates: VecDeque::new(),
            survivals: VecDeque::new(),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Group> {
        self.groups.get(&id.to_ascii_lowercase())
    }

    pub(super) fn named(&self, name: &str) -> Option<&Group> {
        self.groups.values().find(|group| group.name() == name)
    }

    pub(super) fn run_instead(&mut self, command: Vec<String>) {
        self.image.iter_mut().for_each(|image| image.command.clone_from(&command));
    }

    pub(super) fn clear(&mut self) {
        self.groups.clear();
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.groups.retain(|_, group| group.name() != name);
        self.remember();
    }

    /// Creates or replaces a group; the id of the operation.
    pub(super) fn create(&mut self, id: &str, body: &Value, behaviour: &Behaviour) -> String {
        let key = id.to_ascii_lowercase();
        let fate = self.fates.pop_front().unwrap_or(Fate::Runs);
        let until = (fate != Fate::Hangs).then(|| now() + behaviour.create);
        let operation = self.operation_for(&key);
        let mut body = body.clone();
        let boot = take_secrets(&mut body);
        let old = self.groups.remove(&key);
        let is_private = body["properties"]["subnetIds"].is_array();
        let address = if is_private { self.private(behaviour) } else { behaviour.address.clone() };
        let group = Group {
            id: id.to_owned(),
            body,
            boot,
            phase: Phase::Creating { until, fate },
            container: None,
            // What ran under the name runs no longer: a PUT restarts.
            starts: old.map_or(0, |old| old.starts),
            survives: self.survivals.pop_front().unwrap_or(0),
            address,
            operation: operation.clone(),
            stopped: false,
        };
        if let Some(hosts) = behaviour.hosts.as_ref().filter(|_| !is_private) {
            let line = format!("{} {}\n", behaviour.address, group.fqdn());
            let file = OpenOptions::new().append(true).open(hosts);
            file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file of names is there");
        }
        self.groups.insert(key, group);
        self.settle(behaviour);
        operation
    }

    /// Begins to delete a group; the id of the operation and the region.
    pub(super) fn delete(&mut self, id: &str, behaviour: &Behaviour) -> Result<(String, String), Refused> {
        let key = id.to_ascii_lowercase();
        let operation = self.operation_for(&key);
        let group = self.groups.get_mut(&key).ok_or(Refused::Absent)?;
        if group.standing() == Standing::Moving {
            return Err(Refused::Moving);
        }
        let location = group.body["location"].as_str().unwrap_or_default().to_owned();
        if group.survives > 0 {
            group.survives -= 1;
            let done = Some(json!({ "id": operation, "status": "Succeeded" }));
            self.operations.insert(operation.clone(), (key, done));
            return Ok((operation, location));
        }
        group.phase = Phase::Deleting { until: now() + behaviour.delete };
        group.container = None;
        group.operation.clone_from(&operation);
        self.remember();
        Ok((operation, location))
    }

    pub(super) fn tag(&mut self, id: &str, tags: &Value) -> Option<Value> {
        let group = self.groups.get_mut(&id.to_ascii_lowercase())?;
        group.body["tags"] = tags.clone();
        let shown = group.shown(true);
        self.remember();
        Some(shown)
    }

    /// Stops, starts or restarts a group; whether there is one.
    pub(super) fn act(&mut self, id: &str, path: &str) -> bool {
        let Some(group) = self.groups.get_mut(&id.to_ascii_lowercase()) else { return false };
        group.container = None;
        group.stopped = path.ends_with("/stop");
        if !group.stopped {
            group.start(self.image.as_ref());
        }
        true
    }

    /// Moves a group to another machine.
    pub(super) fn restart(&mut self, name: &str, behaviour: &Behaviour) {
        let address = self.private(behaviour);
        let Some(group) = self.groups.values_mut().find(|group| group.name() == name) else { return };
        if group.is_private() {
            group.address = address;
        }
        group.container = None;
        group.start(self.image.as_ref());
        self.remember();
    }

    /// The next address of a subnet.
    fn private(&mut self, behaviour: &Behaviour) -> String {
        let private = &behaviour.private;
        let address = private[self.given % private.len()].clone();
        self.given += 1;
        address
    }

    pub(super) fn operation(&mut self, id: &str) -> Option<Value> {
        let (key, done) = self.operations.get(id)?;
        if let Some(done) = done {
            return Some(done.clone());
        }
        let group = self.groups.get(key).filter(|group| group.operation == id);
        let status = match group.map(|group| &group.phase) {
            Some(Phase::Creating { .. }) | Some(Phase::Deleting { .. }) => {
                return Some(json!({ "id": id, "status": "Running" }));
            }
            Some(Phase::Made { .. }) | None => json!({ "id": id, "status": "Succeeded" }),
            // What people see: the status says no more than that, and the events tell why.
            Some(Phase::Failed { event }) => {
                json!({ "id": id, "status": "Failed", "properties": { "events": [event] } })
            }
        };
        self.operations.insert(id.to_owned(), (key.clone(), Some(status.clone())));
        Some(status)
    }

    fn operation_for(&mut self, key: &str) -> String {
        let id = format!("00000000-0000-0000-0000-{:012}", self.operations.len() + 1);
        self.operations.insert(id.clone(), (key.to_owned(), None));
        id
    }

    /// Lets happen what was to happen by this time.
    pub(super) fn settle(&mut self, behaviour: &Behaviour) {
        let at = now();
        self.keeps_past = !behaviour.list_lag.is_zero();
        for group in self.groups.values_mut() {
            group.settle(at, behaviour, self.image.as_ref());
        }
        self.groups.retain(|_, group| !matches!(group.phase, Phase::Deleting { until } if until <= at));
        self.remember();
    }

    fn remember(&mut self) {
        if !self.keeps_past {
            return;
        }
        let shown: Vec<Value> = self.groups.values().map(|group| group.shown(false)).collect();
        if self.past.back().is_none_or(|(_, last)| *last != shown) {
            self.past.push_back((now(), shown));
        }
        if self.past.len() > PAST {
            self.past.pop_front();
        }
    }

    /// The groups below `scope` as a listing shows them that is this old: at most `most` of them after `skip` others, and whether
    /// there are more.
    pub(super) fn listing(&self, lag: Duration, scope: &str, skip: usize, most: usize) -> (Vec<Value>, bool) {
        let below =
            |id: &str| id.to_ascii_lowercase().strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'));
        let mut page: Vec<Value> = if lag.is_zero() {
            let groups = self.groups.values().filter(|group| below(&group.id));
            groups.skip(skip).take(most + 1).map(|group| group.shown(false)).collect()
        } else {
            let at = now();
            let seen = self.past.iter().rev().find(|(since, _)| at.duration_since(*since) >= lag);
            let groups = seen.into_iter().flat_map(|(_, groups)| groups);
            let groups = groups.filter(|group| group["id"].as_str().is_some_and(below));
            groups.skip(skip).take(most + 1).cloned().collect()
        };
        let more = page.len() > most;
        page.truncate(most);
        (page, more)
    }
}

impl Group {
    fn name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }

    fn is_private(&self) -> bool {
        self.body["properties"]["subnetIds"].is_array()
    }

    fn fqdn(&self) -> String {
        let address = &self.body["properties"]["ipAddress"];
        let label = address["dnsNameLabel"].as_str().unwrap_or("none");
        let region = self.body["location"].as_str().unwrap_or("nowhere");
        match address["autoGeneratedDomainNameLabelScope"].as_str() {
            None | Some("Unsecure") => format!("{label}.{region}.azurecontainer.io"),
            // The hash is one of name, tenant, subscription and resource group: the same in every life of the group.
            Some(_) => format!("{label}.a1b2c3d4e5f6a7b8.{region}.azurecontainer.io"),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.phase {
            Phase::Creating { until: Some(_), .. } | Phase::Deleting { .. } => Standing::Moving,
            Phase::Creating { until: None, .. } | Phase::Made { .. } | Phase::Failed { .. } => {
                Standing::Settled
            }
        }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        self.container.as_ref()?.pid()
    }

    pub(super) fn secret(&self, variable: &str) -> Option<String> {
        self.boot.iter().find(|(name, _)| name == variable).map(|(_, value)| value.clone())
    }

    pub(super) fn starts(&self) -> u32 {
        self.starts
    }

    pub(super) fn log(&self) -> String {
        self.container.as_ref().map(Container::log).unwrap_or_default()
    }

    fn start(&mut self, image: Option<&Image>) {
        self.starts += 1;
        self.container = image.map(|image| Container::start(image, self.name(), &self.boot));
    }

    fn settle(&mut self, at: Instant, behaviour: &Behaviour, image: Option<&Image>) {
        if let Phase::Creating { until: Some(until), fate } = &self.phase
            && *until <= at
        {
            if let Fate::Fails(name, message) = fate {
                let event = json!({ "name": name, "message": message, "type": "Warning", "count": 1 });
                self.phase = Phase::Failed { event };
            } else {
                self.phase = Phase::Made { address_from: at + behaviour.addressless };
                self.start(image);
            }
        }
        if let Some(container) = &mut self.container
            && container.settle()
        {
            self.starts += 1;
        }
    }

    /// As Azure shows it; listings are without `instanceView`.
    pub(super) fn shown(&self, with_view: bool) -> Value {
        let mut body = self.body.clone();
        body["id"] = json!(self.id);
        body["name"] = json!(self.name());
        body["type"] = json!("Microsoft.ContainerInstance/containerGroups");
        let (state, view) = match &self.phase {
            Phase::Creating { .. } => ("Creating", json!({ "state": "Pending", "events": [] })),
            Phase::Failed { event } => ("Failed", json!({ "state": "Failed", "events": [event] })),
            Phase::Deleting { .. } => ("Deleting", json!({ "state": "Running", "events": [] })),
            Phase::Made { .. } => ("Succeeded", json!({ "state": self.together(), "events": [] })),
        };
        let properties = &mut body["properties"];
        properties["provisioningState"] = json!(state);
        let has_address = matches!(self.phase, Phase::Made { address_from } if address_from <= now());
        properties["ipAddress"]["ip"] = if has_address { json!(self.address) } else { Value::Null };
        if !self.is_private() {
            properties["ipAddress"]["fqdn"] = json!(self.fqdn());
        }
        if with_view {
            properties["instanceView"] = view;
            let state = match self.container.as_ref().map(Container::state) {
                _ if state != "Succeeded" => json!({ "state": "Waiting", "detailStatus": "" }),
                None | Some(State::Running) => {
                    json!({ "state": "Running", "startTime": "2026-11-21T00:00:00Z", "detailStatus": "" })
                }
                Some(State::Waiting) => json!({ "state": "Waiting", "detailStatus": "CrashLoopBackOff" }),
                Some(State::Ended(code)) => {
                    json!({ "state": "Terminated", "exitCode": code, "detailStatus": "Completed" })
                }
            };
            properties["containers"][0]["properties"]["instanceView"] =
                json!({ "restartCount": self.starts.saturating_sub(1), "currentState": state, "events": [] });
        }
        body
    }

    fn together(&self) -> &'static str {
        match self.container.as_ref().map(Container::state) {
            _ if self.stopped => "Stopped",
            Some(State::Ended(0)) => "Succeeded",
            Some(State::Ended(_)) => "Failed",
            Some(State::Running | State::Waiting) | None => "Running",
        }
    }
}

/// Takes the values out of a body that Azure never shows again; the environment of the container.
fn take_secrets(body: &mut Value) -> Vec<(String, String)> {
    let variables = &mut body["properties"]["containers"][0]["properties"]["environmentVariables"];
    let mut environment = Vec::new();
    for variable in variables.as_array_mut().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default().to_owned();
        let secret = variable["secureValue"].take();
        let value = secret.as_str().or(variable["value"].as_str()).unwrap_or_default().to_owned();
        environment.push((name, value));
    }
    environment
}
