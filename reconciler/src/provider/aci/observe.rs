//! From what Azure says about a group to what it means.

use ebb_core::names::{Generation, Hash, RunId};
use ebb_core::observed::{Endpoint, Gateway, Phase};
use ebb_desired_state::{DeploymentName, SessionName};

use super::balancer::Target;
use crate::azure::arm::{ContainerGroup, GroupState, ProvisioningState, View};

/// Tags by which a group is known.
pub(super) const DEPLOYMENT: &str = "ebb-deployment";
pub(super) const SESSION: &str = "ebb-session";
pub(super) const RUN: &str = "ebb-run";
pub(super) const GENERATION: &str = "ebb-generation";
pub(super) const HASH: &str = "ebb-hash";
pub(super) const PORT: &str = "ebb-port";
/// ARM id of the load balancer before the group; without one it is reached at its own address.
pub(super) const LOAD_BALANCER: &str = "ebb-load-balancer";

/// Tag that tells people which leader has made a group: its shard and its epoch. Nothing is decided by it.
pub(super) const EPOCH: &str = "ebb-epoch";

/// Azure did not say why a group failed, or not yet.
pub(super) const UNSAID: &str = "Azure has given up on the container group and does not say why";

/// Whose a group is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) deployment: DeploymentName,
    pub(super) session: SessionName,
    pub(super) run: RunId,
    generation: Generation,
    hash: Hash,
    port: u16,
    load_balancer: Option<String>,
}

/// How a load balancer can lead to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// ARM id of the load balancer.
    pub(super) load_balancer: String,
    /// Where to, once the group has an address.
    pub(super) target: Option<Target>,
}

impl Mark {
    /// Reads the tags of a group; `None` for one that Ebb has not made.
    pub(super) fn of(group: &ContainerGroup) -> Option<Self> {
        // Azure keeps the case of a tag's name and ignores it.
        let tag = |name: &str| {
            let tag = group.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            tag.map(|(_, value)| value.as_str())
        };
        Some(Self {
            deployment: tag(DEPLOYMENT)?.parse().ok()?,
            session: tag(SESSION)?.parse().ok()?,
            run: RunId::from(tag(RUN)?.to_owned()),
            generation: Generation(tag(GENERATION)?.parse().ok()?),
            hash: Hash::from_tag(tag(HASH)?),
            port: tag(PORT)?.parse().ok()?,
            load_balancer: tag(LOAD_BALANCER).map(str::to_owned),
        })
    }

    /// How the load balancer leads to the group, if one does.
    pub(super) fn way(&self, group: &ContainerGroup) -> Option<Way> {
        let load_balancer = self.load_balancer.clone()?;
        let ip = group.properties.ip_address.as_ref().and_then(|address| address.routable());
        let subnet = group.properties.subnet_ids.first().map(|subnet| subnet.id.clone());
        let target = ip.zip(subnet).map(|(ip, subnet)| Target { ip: ip.to_owned(), subnet, port: self.port });
        Some(Way { load_balancer, target })
    }

    /// The gateway. Behind a load balancer it has no endpoint of its own.
    pub(super) fn gateway(self, group: &ContainerGroup, phase: Phase) -> Gateway {
        let address = group.properties.ip_address.as_ref().filter(|_| self.load_balancer.is_none());
        let endpoint = address.and_then(|address| {
            let ip = address.routable()?;
            let host = address.fqdn.as_deref().filter(|fqdn| !fqdn.is_empty()).unwrap_or(ip);
            Some(Endpoint { host: host.to_owned(), port: self.port })
        });
        Gateway {
            session: self.session,
            run: self.run,
            generation: self.generation,
            hash: self.hash,
            phase,
            endpoint,
        }
    }
}

/// What a group is doing, as far as this answer shows it.
pub(super) fn phase(group: &ContainerGroup) -> Phase {
    let word = |word: &str| Phase::Other { word: word.to_owned() };
    match &group.properties.provisioning_state {
        ProvisioningState::NotSpecified
        | ProvisioningState::Accepted
        | ProvisioningState::Pending
        | ProvisioningState::Creating
        | ProvisioningState::PreProvisioned => Phase::Creating,
        // Azure moves it by itself; it comes back, perhaps under another address.
        ProvisioningState::Updating => word("Updating"),
        ProvisioningState::Repairing => word("Repairing"),
        ProvisioningState::Unhealthy => word("Unhealthy"),
        ProvisioningState::NotAccessible => word("NotAccessible"),
        ProvisioningState::Unknown(unknown) => word(unknown),
        ProvisioningState::Failed | ProvisioningState::Canceled => {
            Phase::Failed { message: last_words(group) }
        }
        ProvisioningState::Deleting => Phase::Deleting,
        ProvisioningState::Succeeded => match &group.properties.instance_view {
            Some(view) => running(group, view),
            None => Phase::Running,
        },
    }
}

/// Whether a group has failed and does not say why.
pub(super) fn is_unexplained(group: &ContainerGroup) -> bool {
    matches!(phase(group), Phase::Failed { message } if message == UNSAID)
}

fn running(group: &ContainerGroup, view: &View) -> Phase {
    let container = group.properties.containers.first().and_then(|one| one.properties.instance_view.as_ref());
    let state = container.and_then(|view| view.current_state.as_ref());
    let terminated = state.filter(|state| state.state == "Terminated");
    let status = terminated.and_then(|state| state.exit_code);
    match &view.state {
        GroupState::Succeeded => Phase::Exited { status: status.or(Some(0)) },
        GroupState::Failed => Phase::Exited { status },
        GroupState::Stopped => Phase::Exited { status: None },
        // The group's view is one or two polls behind the container's. One that ended in error is started again by Azure.
        GroupState::NotSaid | GroupState::Pending | GroupState::Running | GroupState::Unknown(_) => {
            match status {
                Some(0) => Phase::Exited { status },
                Some(_) | None => Phase::Running,
            }
        }
    }
}

fn last_words(group: &ContainerGroup) -> String {
    let views = group.properties.containers.iter().filter_map(|one| one.properties.instance_view.as_ref());
    let events = views.chain(&group.properties.instance_view).flat_map(|view| &view.events);
    let told: Vec<_> = events.filter(|event| !event.message.trim().is_empty()).collect();
    let warning = told.iter().rev().find(|event| event.severity == "Warning");
    match warning.or(told.last()) {
        Some(event) => {
            let message: String = event.message.trim().chars().take(500).collect();
            format!("Azure has given up on the container group: {}: {message}", event.name)
        }
        None => UNSAID.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn group(properties: Value) -> ContainerGroup {
        let tags = json!({
            "Ebb-Deployment": "home", "ebb-session": "alice", "ebb-run": "r", "ebb-generation": "3", "ebb-hash": "h",
            "ebb-port": "41820", "Owner": "somebody",
        });
        serde_json::from_value(json!({ "name": "ebb-home-alice", "tags": tags, "properties": properties }))
            .unwrap()
    }

    fn ended(state: &str, container: &str, code: Option<i32>) -> Phase {
        phase(&group(json!({
            "provisioningState": "Succeeded", "instanceView": { "state": state },
            "containers": [{ "name": "gateway", "properties": { "instanceView": {
                "currentState": { "state": container, "exitCode": code } } } }],
        })))
    }

    #[test]
    fn a_gateway_that_has_ended_is_told_from_one_that_azure_starts_again() {
        assert_eq!(ended("Running", "Running", None), Phase::Running);
        assert_eq!(ended("Running", "Waiting", None), Phase::Running);
        assert_eq!(ended("Running", "Terminated", Some(1)), Phase::Running);
        assert_eq!(
            ended("Running", "Terminated", Some(0)),
            Phase::Exited { status: Some(0) },
            "the group's view lags"
        );
        assert_eq!(ended("Succeeded", "Terminated", Some(0)), Phase::Exited { status: Some(0) });
        assert_eq!(ended("Failed", "Terminated", Some(7147)), Phase::Exited { status: Some(7147) });
        assert_eq!(ended("Stopped", "Terminated", None), Phase::Exited { status: None });
    }

    #[test]
    fn a_word_that_is_not_known_means_waiting() {
        let phase = |state: &str| phase(&group(json!({ "provisioningState": state })));
        assert_eq!(phase("Hibernating"), Phase::Other { word: "Hibernating".into() });
        assert_eq!(phase("Repairing"), Phase::Other { word: "Repairing".into() });
        assert_eq!(phase("Creating"), Phase::Creating);
    }

    #[test]
    fn a_failed_group_is_quoted() {
        let failed = group(json!({ "provisioningState": "Failed", "instanceView": { "events": [
            { "name": "Pulling", "type": "Normal", "message": "pulling image" },
            { "name": "Failed", "type": "Warning", "message": "Failed to pull image" },
            { "name": "BackOff", "type": "Normal", "message": "" },
        ] } }));
        let Phase::Failed { message } = phase(&failed) else { panic!() };
        assert_eq!(message, "Azure has given up on the container group: Failed: Failed to pull image");
    }

    #[test]
    fn an_endpoint_needs_an_address_and_prefers_the_name() {
        let endpoint = |address: Value| {
            let group = group(json!({ "provisioningState": "Succeeded", "ipAddress": address }));
            Mark::of(&group).unwrap().gateway(&group, Phase::Running).endpoint
        };
        assert_eq!(endpoint(json!({ "fqdn": "a.b", "ip": null })), None);
        let named = endpoint(json!({ "fqdn": "a.b", "ip": "192.0.2.1" })).unwrap();
        assert_eq!((named.host.as_str(), named.port), ("a.b", 41820));
        assert_eq!(endpoint(json!({ "ip": "192.0.2.1" })).unwrap().host, "192.0.2.1");
    }

    #[test]
    fn behind_a_load_balancer_a_group_s_own_address_is_where_the_rule_leads() {
        let mut group = group(json!({
            "provisioningState": "Succeeded", "ipAddress": { "type": "Private", "ip": "10.1.0.4" },
            "subnetIds": [{ "id": "/subnets/n" }],
        }));
        let endpoint =
            |group: &ContainerGroup| Mark::of(group).unwrap().gateway(group, Phase::Running).endpoint;
        assert_eq!(Mark::of(&group).unwrap().way(&group), None);
        assert_eq!(endpoint(&group).unwrap().host, "10.1.0.4", "for the virtual network itself");
        group.tags.insert(LOAD_BALANCER.to_owned(), "/lb".to_owned());
        let target = Target { ip: "10.1.0.4".into(), subnet: "/subnets/n".into(), port: 41820 };
        let way = Way { load_balancer: "/lb".into(), target: Some(target) };
        assert_eq!(Mark::of(&group).unwrap().way(&group), Some(way));
        assert_eq!(endpoint(&group), None);
    }

    #[test]
    fn a_group_without_all_of_its_tags_is_nobody_s() {
        let mut one = group(json!({}));
        assert!(Mark::of(&one).is_some());
        one.tags.remove("ebb-run");
        assert_eq!(Mark::of(&one), None);
    }
}
