//! The way from the Internet to groups in a virtual network: rules and pools of load balancers.
//!
//! Azure gives such a group a private address, and may give it another one whenever it restarts. A listing therefore looks at the
//! load balancers as well, and [`AciProvider::tend_load_balancers`] writes one anew whose entries for the deployment are not as
//! they should be, whatever the reason: a group that has just come or gone, a new address, somebody's deployment that has emptied
//! the pools, a daemon that died between two calls. A load balancer is one resource with many authors, so it is only ever replaced
//! with the ETag of the version that was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ebb_core::names::GatewayName;
use ebb_core::observed::{Endpoint, Observed, Phase, Scope};
use ebb_core::outcome::{Class, Failure};
use ebb_desired_state::{DeploymentName, SessionName};
use ebb_tunnel::Time;
use serde::Deserialize;
use serde_json::Value;

use super::AciProvider;
use super::balancer::{self, Front, Wanted};
use super::observe::Mark;
use crate::azure::arm::NETWORK_API_VERSION;
use crate::clock;
use crate::leadership::{Fence, Shard};

/// How often the address of a load balancer is looked up. It is fixed for as long as the load balancer has it.
const ADDRESS_HOLDS: Duration = Duration::from_mins(10);

/// How often a change is tried at once when somebody else was faster.
const ATTEMPTS: usize = 3;

/// What is known of load balancers.
#[derive(Debug, Default)]
pub(super) struct Ingress {
    /// As they were last read, by lower-case ARM id.
    seen: Mutex<BTreeMap<String, Result<Seen, Failure>>>,
    /// Addresses by ARM id of the public IP address, and when they were read.
    addresses: Mutex<BTreeMap<String, (String, Time)>>,
    /// One change at a time.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Seen {
    id: String,
    shown: Value,
    host: String,
}

#[derive(Deserialize)]
struct PublicAddress {
    properties: PublicAddressProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicAddressProperties {
    ip_address: Option<String>,
    dns_settings: Option<DnsSettings>,
}

#[derive(Deserialize)]
struct DnsSettings {
    fqdn: Option<String>,
}

impl Ingress {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Result<Seen, Failure>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> MutexGuard<'_, BTreeMap<String, (String, Time)>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subscription in an ARM id.
fn subscription(id: &str) -> &str {
    id.split('/').nth(2).unwrap_or_default()
}

fn name_of(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

impl AciProvider {
    /// Reads the load balancers that matter, and gives the gateways behind them their endpoints.
    pub(super) async fn look_at_load_balancers(&self, scope: &Scope, observed: &mut Observed) {
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        for id in scope.load_balancers.iter().map(String::as_str).chain(self.memory().load_balancers()) {
            ids.entry(id.to_ascii_lowercase()).or_insert_with(|| id.to_owned());
        }
        let mut seen = BTreeMap::new();
        for (key, id) in ids {
            let found = self.read_load_balancer(&id).await;
            seen.insert(key, found);
        }
        *self.ingress.seen() = seen;
        self.connect(scope, observed);
    }

    async fn read_load_balancer(&self, id: &str) -> Result<Seen, Failure> {
        let what = format!("look at the load balancer {}", name_of(id));
        let found: Option<Value> = self.arm.read(subscription(id), id, NETWORK_API_VERSION, &what).await?;
        let shown = found.ok_or_else(|| {
            let message =
                format!("there is no load balancer {id}; make it, or correct `loadBalancer` in the document");
            Failure::new(Class::Stalled, message)
        })?;
        let host = match balancer::front(&shown)?.1 {
            Front::Private(ip) => ip,
            Front::Public(address) => self.public_address(&address).await?,
        };
        Ok(Seen { id: id.to_owned(), shown, host })
    }

    /// Name of a public IP address, else the address.
    async fn public_address(&self, id: &str) -> Result<String, Failure> {
        let now = clock::monotonic();
        if let Some((host, at)) = self.ingress.addresses().get(id)
            && now < *at + ADDRESS_HOLDS
        {
            return Ok(host.clone());
        }
        let what = format!("look at the public IP address {}", name_of(id));
        let found: Option<PublicAddress> =
            self.arm.read(subscription(id), id, NETWORK_API_VERSION, &what).await?;
        let properties = found.map(|found| found.properties);
        let host = properties.and_then(|properties| {
            let fqdn = properties.dns_settings.and_then(|dns| dns.fqdn).filter(|fqdn| !fqdn.is_empty());
            fqdn.or(properties.ip_address).filter(|host| !host.is_empty())
        });
        let host = host.ok_or_else(|| {
            let message = format!("the public IP address {id} has no address; it has to be a static one");
            Failure::new(Class::Stalled, message)
        })?;
        self.ingress.addresses().insert(id.to_owned(), (host.clone(), now));
        Ok(host)
    }

    /// Gives gateways to which a load balancer leads their endpoints, and says which cannot have one.
    fn connect(&self, scope: &Scope, observed: &mut Observed) {
        let (seen, memory) = (self.ingress.seen(), self.memory());
        for (name, gateway) in &mut observed.gateways {
            let Some(way) = memory.way(name) else { continue };
            match seen.get(&way.load_balancer.to_ascii_lowercase()) {
                Some(Ok(seen)) => {
                    let entry = balancer::entry(&scope.deployment, &gateway.session);
                    let target = way.target.filter(|target| balancer::leads(&seen.shown, &entry, target));
                    gateway.endpoint =
                        target.map(|target| Endpoint { host: seen.host.clone(), port: target.port });
                }
                Some(Err(failure)) => {
                    observed.blocked.insert(gateway.session.clone(), failure.clone());
                }
                // It was not known before this listing; the next one reads it.
                None => {}
            }
        }
    }

    /// Brings the load balancers into line with a listing.
    pub(super) async fn tend_load_balancers(&self, scope: &Scope, observed: &mut Observed) {
        let _turn = self.ingress.writing.lock().await;
        let all: Vec<Seen> = self.ingress.seen().values().flatten().cloned().collect();
        for mut seen in all {
            for (fence, wanted) in self.by_leader(self.wanted(&seen.id, scope, observed)) {
                if let Err(failure) = self.write(&mut seen, &scope.deployment, &wanted, fence).await {
                    tracing::warn!("{failure}");
                    let led = wanted.into_iter().filter(|(_, wanted)| matches!(wanted, Wanted::Leads(_)));
                    observed.blocked.extend(led.map(|(session, _)| (session, failure.clone())));
                }
            }
        }
        self.connect(scope, observed);
        observed.blocked.retain(|session, _| {
            let gateway = observed.gateways.get(&GatewayName::new(&scope.deployment, session));
            gateway.is_some_and(|gateway| gateway.endpoint.is_none())
        });
    }

    /// The same by the right to it; what another daemon leads is that one's business.
    fn by_leader<T>(&self, wanted: BTreeMap<SessionName, T>) -> Vec<(Fence, BTreeMap<SessionName, T>)> {
        let mut shards: BTreeMap<Shard, (Fence, BTreeMap<_, _>)> = BTreeMap::new();
        for (session, wanted) in wanted {
            let Ok(fence) = self.leadership.fence(&session) else { continue };
            let (_, led) = shards.entry(fence.shard()).or_insert_with(|| (fence, BTreeMap::new()));
            led.insert(session, wanted);
        }
        shards.into_values().collect()
    }

    /// What the load balancer should have for the sessions about which that is known.
    fn wanted(&self, id: &str, scope: &Scope, observed: &Observed) -> BTreeMap<SessionName, Wanted> {
        let (memory, now) = (self.memory(), clock::monotonic());
        let names: BTreeSet<_> =
            scope.places.keys().filter(|session| !observed.unseen.contains_key(*session)).collect();
        let of = |session: &SessionName| {
            let name = GatewayName::new(&scope.deployment, session);
            let Some(gateway) = observed.gateways.get(&name) else {
                // It may exist all the same.
                let may_exist = !observed.lag.is_zero() || memory.wrote_lately(&name, now);
                return (!may_exist).then_some(Wanted::Nothing);
            };
            let way = memory.way(&name).filter(|way| way.load_balancer.eq_ignore_ascii_case(id));
            match (&gateway.phase, way) {
                (Phase::Deleting, _) | (_, None) => Some(Wanted::Nothing),
                (_, Some(_)) if memory.is_doomed(&name) => Some(Wanted::Nothing),
                (Phase::Running, Some(way)) => way.target.map(Wanted::Leads),
                // Azure is at work on it.
                (Phase::Creating | Phase::Exited { .. } | Phase::Failed { .. } | Phase::Other { .. }, _) => {
                    None
                }
            }
        };
        names.into_iter().filter_map(|session| Some((session.clone(), of(session)?))).collect()
    }

    /// Takes away what a load balancer has for a gateway that is about to go.
    pub(super) async fn disconnect(&self, id: &str, mark: &Mark, fence: Fence) {
        let _turn = self.ingress.writing.lock().await;
        let wanted = [(mark.session.clone(), Wanted::Nothing)].into();
        let done = match self.read_load_balancer(id).await {
            Ok(mut seen) => self.write(&mut seen, &mark.deployment, &wanted, fence).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = done {
            tracing::warn!(session = %mark.session, "{failure}");
        }
    }

    /// Makes a load balancer as it should be for these sessions. Whoever calls has the turn.
    async fn write(
        &self,
        seen: &mut Seen,
        deployment: &DeploymentName,
        wanted: &BTreeMap<SessionName, Wanted>,
        fence: Fence,
    ) -> Result<(), Failure> {
        let (what, arm) = (format!("change the load balancer {}", name_of(&seen.id)), self.arm.behind(fence));
        for attempt in 1.. {
            let Some(body) = balancer::edited(&seen.shown, deployment, wanted)? else { break };
            let etag = seen.shown["etag"].as_str().unwrap_or_default().to_owned();
            let (subscription, version) = (subscription(&seen.id), NETWORK_API_VERSION);
            match arm.replace(subscription, &seen.id, version, (&body, &etag), &what).await {
                Ok(shown) => {
                    tracing::info!("the load balancer {} has new rules for sessions", name_of(&seen.id));
                    seen.shown = shown;
                    break;
                }
                Err(failure) if failure.class == Class::Conflict && attempt < ATTEMPTS => {
                    *seen = self.read_load_balancer(&seen.id).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
        self.ingress.seen().insert(seen.id.to_ascii_lowercase(), Ok(seen.clone()));
        Ok(())
    }
}
