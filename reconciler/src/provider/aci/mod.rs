//! Gateways as container groups on Azure Container Instances: one group for each session.
//!
//! A group's name is a function of the document, so an answer that gets lost can never make a second one, and its tags say whose
//! it is. A PUT on a group that exists would restart its containers even with the same properties, so there is none: a group is
//! looked for first, and a changed session gets another one.
//!
//! What Azure reports is old in two ways. A listing comes from a cache and has no `instanceView`; so groups that were written to
//! lately, and those in doubt, are looked at one by one, and at rest a listing is all there is.

mod balancer;
mod body;
mod ingress;
mod memory;
mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ebb_core::names::{GatewayName, RunId};
use ebb_core::observed::{Gateway, Observed, Phase, Scope};
use ebb_core::outcome::{Class, Failure};
use ebb_core::spec::GatewaySpec;
use ebb_desired_state::{DeploymentName, Placement, SessionName};
use ebb_wire::Boot;
use jiff::SignedDuration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::ingress::Ingress;
use self::memory::Memory;
use self::observe::Mark;
use super::{Pace, Provider};
use crate::azure::arm::{Arm, ContainerGroup, GroupId, Progress, ProvisioningState};
use crate::azure::{Azure, AzureError, AzureSettings};
use crate::clock;
use crate::leadership::{Fence, Leadership};

/// How old a listing may be: ARM answers from a cache.
const LAG: Duration = Duration::from_secs(30);

/// Groups looked at side by side.
const LOOKS: usize = 16;

/// Groups that a daemon that has just started looks at one by one, so that it need not wait until listings show what its
/// predecessor did last. More would take longer than waiting.
const MOST_LOOKS: usize = 200;

/// Lines of a log in which the last minutes' telemetry is found: a gateway prints one of them a minute and little else.
const LOG_LINES: u32 = 40;

/// The container of a group.
const CONTAINER: &str = "gateway";

/// How groups are made.
#[derive(Debug, Clone)]
pub struct AciSettings {
    /// Subscription and resource group of sessions that name none.
    pub home: Home,
    /// Image of the gateways.
    pub image: String,
    /// ARM id of the identity that pulls it, if the registry wants to know.
    pub identity: Option<String>,
    /// Tags of every group.
    pub tags: BTreeMap<String, String>,
}

/// A resource group.
#[derive(Debug, Clone)]
pub struct Home {
    /// Id of the subscription.
    pub subscription: String,
    /// Name of the resource group.
    pub resource_group: String,
}

impl AciSettings {
    /// What people have set.
    ///
    /// # Errors
    /// When something is missing.
    pub fn of(settings: &AzureSettings) -> Result<Self, AzureError> {
        let needed = |value: &Option<String>, variable, why| {
            let value = value.clone().filter(|value| !value.is_empty());
            value.ok_or(AzureError::Missing { variable, why })
        };
        let optional = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        Ok(Self {
            home: Home {
                subscription: needed(
                    &settings.subscription,
                    "EBB_AZURE_SUBSCRIPTION",
                    "it is the id of the subscription that gateways run in",
                )?
                .to_ascii_lowercase(),
                resource_group: needed(
                    &settings.resource_group,
                    "EBB_AZURE_RESOURCE_GROUP",
                    "it is the name of the resource group that gateways belong to",
                )?,
            },
            image: needed(
                &settings.gateway_image,
                "EBB_GATEWAY_IMAGE",
                "it is the image that gateways are made from",
            )?,
            identity: optional(&settings.gateway_identity),
            tags: settings.tags.0.clone(),
        })
    }
}

/// A [`Provider`] on Azure Container Instances.
pub struct AciProvider {
    arm: Arm,
    settings: AciSettings,
    leadership: Arc<Leadership>,
    memory: Mutex<Memory>,
    /// One create at a time in each region: many at once look like abuse and are refused as such.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    ingress: Ingress,
    stirred: Notify,
}

/// What one look at a group has shown.
struct Look {
    name: GatewayName,
    id: GroupId,
    found: Result<Option<ContainerGroup>, Failure>,
    progress: Option<Progress>,
}

impl AciProvider {
    /// Runs gateways through `azure`, and changes those of which `leadership` says that they are this daemon's. Nothing is sent
    /// before the first call.
    #[must_use]
    pub fn new(azure: &Azure, settings: AciSettings, leadership: Arc<Leadership>) -> Self {
        Self {
            arm: azure.arm(),
            settings,
            leadership,
            memory: Mutex::default(),
            turns: Mutex::default(),
            ingress: Ingress::default(),
            stirred: Notify::new(),
        }
    }

    /// What changes a session's group: the right to, and the client that ends with it.
    fn changing(&self, session: &SessionName) -> Result<(Fence, Arm), Failure> {
        let fence = self.leadership.fence(session)?;
        Ok((fence.clone(), self.arm.behind(fence)))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, placement: &Placement, name: &GatewayName) -> GroupId {
        let home = self.home(placement);
        GroupId {
            subscription: home.subscription,
            resource_group: home.resource_group,
            name: name.as_str().to_owned(),
        }
    }

    fn home(&self, placement: &Placement) -> Home {
        let Home { subscription, resource_group } = &self.settings.home;
        Home {
            subscription: placement.subscription.as_ref().unwrap_or(subscription).clone(),
            resource_group: placement.resource_group.as_ref().unwrap_or(resource_group).clone(),
        }
    }

    /// Where a group of this name was last seen, or would be if its session named no place.
    fn whereabouts(&self, name: &GatewayName) -> GroupId {
        let known = self.memory().whereabouts(name);
        known.unwrap_or_else(|| self.id(&Placement::default(), name))
    }

    fn turn(&self, region: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(region.to_owned()).or_default())
    }

    /// Every place in which a gateway may be, with the sessions that may have it there. Names of resource groups are compared
    /// without regard to case.
    fn places(&self, scope: &Scope) -> BTreeMap<(String, String), (Home, BTreeSet<SessionName>)> {
        let mut places: BTreeMap<_, (Home, BTreeSet<SessionName>)> = BTreeMap::new();
        let mut add = |home: Home, session: Option<&SessionName>| {
            let key = (home.subscription.to_ascii_lowercase(), home.resource_group.to_ascii_lowercase());
            let (_, sessions) = places.entry(key).or_insert_with(|| (home, BTreeSet::new()));
            sessions.extend(session.cloned());
        };
        // Strays are looked for where a session without a place would be.
        add(self.settings.home.clone(), None);
        for (session, placements) in &scope.places {
            for placement in placements {
                add(self.home(placement), Some(session));
            }
        }
        places
    }

    /// Every group that is listed, and every one that a session may have.
    fn everything(
        &self,
        scope: &Scope,
        listed: &BTreeMap<GatewayName, Gateway>,
    ) -> BTreeSet<(GatewayName, GroupId)> {
        let listed = listed.keys().map(|name| (name.clone(), self.whereabouts(name)));
        let sessions = scope.places.iter().flat_map(|(session, places)| {
            let name = GatewayName::new(&scope.deployment, session);
            places.iter().map(move |place| (name.clone(), self.id(place, &name)))
        });
        listed.chain(sessions).collect()
    }

    /// Looks at groups one by one.
    async fn look(&self, due: BTreeSet<(GatewayName, GroupId)>) -> Vec<Look> {
        let (mut looks, mut tasks, mut due) = (Vec::new(), JoinSet::new(), due.into_iter());
        loop {
            while tasks.len() < LOOKS {
                let Some((name, id)) = due.next() else { break };
                let (arm, operation) = (self.arm.clone(), self.memory().operation(&name, clock::monotonic()));
                tasks.spawn(async move {
                    let found = arm.group(&id).await;
                    // A group that is there says itself how it is.
                    let silent = match &found {
                        Ok(None) => true,
                        Ok(Some(group)) => observe::is_unexplained(group),
                        Err(_) => false,
                    };
                    let progress = match operation.filter(|_| silent) {
                        Some(operation) => arm.progress(&operation, &id).await.ok(),
                        None => None,
                    };
                    Look { name, id, found, progress }
                });
            }
            match tasks.join_next().await {
                Some(Ok(look)) => looks.push(look),
                Some(Err(error)) => tracing::error!("looking at a container group: {error}"),
                None => return looks,
            }
        }
    }

    /// What a group is to the deployment, if it is anything.
    fn take_in(
        &self,
        deployment: &DeploymentName,
        id: GroupId,
        group: &ContainerGroup,
    ) -> Option<(GatewayName, Gateway)> {
        let mark = Mark::of(group).filter(|mark| mark.deployment == *deployment)?;
        let name = GatewayName::listed(&group.name);
        if !name.is_of(&mark.deployment, &mark.session) {
            tracing::warn!("the container group {id} carries the tags of another one; it is left alone");
            return None;
        }
        let mut memory = self.memory();
        if let Some(elsewhere) = memory.whereabouts(&name).filter(|other| other.path() != id.path()) {
            tracing::debug!("the container group {id} was in {} before", elsewhere.resource_group);
        }
        let phase = memory.saw(&name, &id, &mark.run, observe::phase(group));
        memory.saw_way(&name, mark.way(group));
        drop(memory);
        Some((name, mark.gateway(group, phase)))
    }

    fn foreign(&self, id: &GroupId) -> Failure {
        let message = format!(
            "a container group {id} exists that is not of this deployment, and it is left alone; rename the session or the \
             deployment, or delete the group"
        );
        Failure::new(Class::Stalled, message)
    }
}

#[async_trait]
impl Provider for AciProvider {
    async fn list(&self, scope: &Scope) -> Result<Observed, Failure> {
        let (asked_at, now) = (clock::now(), clock::monotonic());
        let places = self.places(scope);
        let (mut gateways, mut unseen) = (BTreeMap::new(), BTreeMap::new());
        let (mut seen_any, mut refused) = (false, None);
        for (home, sessions) in places.into_values() {
            match self.arm.groups(&home.subscription, &home.resource_group).await {
                Ok(groups) => {
                    seen_any = true;
                    let id = |name: &str| GroupId {
                        subscription: home.subscription.clone(),
                        resource_group: home.resource_group.clone(),
                        name: name.to_owned(),
                    };
                    gateways.extend(
                        groups.iter().filter_map(|g| self.take_in(&scope.deployment, id(&g.name), g)),
                    );
                }
                Err(failure) => {
                    unseen.extend(sessions.into_iter().map(|session| (session, failure.clone())));
                    refused = Some(failure);
                }
            }
        }
        if let Some(failure) = refused.filter(|_| !seen_any) {
            return Err(failure);
        }
        let mut due = self.memory().due(&gateways, now);
        let is_new = self.memory().is_new();
        let everything = is_new.then(|| self.everything(scope, &gateways));
        let thorough = everything.filter(|everything| everything.len() <= MOST_LOOKS);
        if let Some(everything) = &thorough {
            due.extend(everything.iter().cloned());
        }
        for Look { name, id, found, progress } in self.look(due).await {
            match found {
                Ok(Some(group)) => {
                    if let Some((name, mut gateway)) = self.take_in(&scope.deployment, id, &group) {
                        if let (Some(Progress::Failed(failure)), Phase::Failed { message }) =
                            (progress, &mut gateway.phase)
                        {
                            *message = failure.message;
                        }
                        self.memory().looked_at(&name, clock::monotonic());
                        gateways.insert(name, gateway);
                    }
                }
                // It may be looked for in more than one place.
                Ok(None)
                    if self.memory().whereabouts(&name).is_some_and(|known| known.path() != id.path()) => {}
                Ok(None) => {
                    self.memory().is_gone(&name, clock::monotonic());
                    gateways.remove(&name);
                    if let Some(Progress::Failed(failure)) = progress {
                        tracing::warn!("{failure}");
                    }
                }
                Err(failure) => {
                    let prefix = format!("ebb-{}-", scope.deployment);
                    let session =
                        name.as_str().strip_prefix(&prefix).and_then(|session| session.parse().ok());
                    unseen.extend(session.map(|session| (session, failure)));
                }
            }
        }
        if thorough.is_some() && unseen.is_empty() {
            self.memory().has_seen_everything();
        }
        let lag = self.memory().lag(now, LAG);
        let lag = SignedDuration::try_from(lag).unwrap_or(SignedDuration::MAX);
        let mut observed = Observed { asked_at, lag, gateways, unseen, blocked: BTreeMap::new() };
        self.look_at_load_balancers(scope, &mut observed).await;
        Ok(observed)
    }

    async fn create(&self, spec: &GatewaySpec, boot: &Boot) -> Result<(), Failure> {
        let (fence, arm) = self.changing(&spec.session)?;
        let body = body::of(spec, boot, &self.settings, &fence)?;
        let id = self.id(&spec.template.placement, &spec.name);
        let turn = self.turn(&spec.template.region);
        let _turn = turn.lock().await;
        if let Some(found) = self.arm.group(&id).await? {
            let mark = Mark::of(&found)
                .filter(|mark| mark.deployment == spec.deployment && mark.session == spec.session);
            let Some(mark) = mark else { return Err(self.foreign(&id)) };
            if mark.run == spec.run && found.properties.provisioning_state != ProvisioningState::Deleting {
                self.memory().wrote(&spec.name, &id, None, clock::monotonic(), LAG);
                return Ok(());
            }
            let message =
                format!("the container group {id} still is the one of run {}; it has to go first", mark.run);
            return Err(Failure::new(Class::Conflict, message));
        }
        // An answer that gets lost does not mean that nothing was created.
        self.memory().wrote(&spec.name, &id, None, clock::monotonic(), LAG);
        self.memory().doom(&spec.name, false);
        let operation = arm.put_group(&id, &body).await?;
        self.memory().wrote(&spec.name, &id, operation, clock::monotonic(), LAG);
        Ok(())
    }

    async fn delete(&self, name: &GatewayName, run: &RunId) -> Result<(), Failure> {
        let id = self.whereabouts(name);
        let Some(found) = self.arm.group(&id).await? else {
            self.memory().wrote(name, &id, None, clock::monotonic(), LAG);
            return Ok(());
        };
        let Some(mark) = Mark::of(&found).filter(|mark| mark.run == *run) else { return Ok(()) };
        let (fence, arm) = self.changing(&mark.session)?;
        self.memory().wrote(name, &id, None, clock::monotonic(), LAG);
        self.memory().doom(name, true);
        if let Some(way) = mark.way(&found) {
            // First, so that whoever dies in between finds the group still there. A load balancer that does not obey must not
            // keep the group alive, which is what costs; the next listing tries again.
            self.disconnect(&way.load_balancer, &mark, fence).await;
        }
        if found.properties.provisioning_state != ProvisioningState::Deleting {
            arm.delete_group(&id).await?;
        }
        Ok(())
    }

    async fn tend(&self, scope: &Scope, observed: &mut Observed) {
        self.tend_load_balancers(scope, observed).await;
    }

    async fn log_tail(&self, name: &GatewayName, run: &RunId) -> Result<String, Failure> {
        let id = self.whereabouts(name);
        if self.memory().run(name).is_none_or(|seen| seen != *run) {
            let message = format!("cannot read the log of the container group {id}: it is not of run {run}");
            return Err(Failure::new(Class::Transient, message));
        }
        self.arm.log(&id, CONTAINER, LOG_LINES).await
    }

    fn look_at(&self, name: &GatewayName) {
        if self.memory().doubt(name, clock::monotonic()) {
            self.stirred.notify_one();
        }
    }

    fn took_over(&self) {
        self.memory().begin_again();
    }

    async fn changed(&self) {
        self.stirred.notified().await;
    }

    fn pace(&self) -> Pace {
        // A listing of three groups is about 6 KB; one a minute stays far below the 1,000 bytes a second at which Container Apps
        // stops to count as idle. What happens in between shows in the tunnels first. A group takes half a minute to come.
        Pace { settled: Duration::from_secs(60), moving: Duration::from_secs(2) }
    }
}
