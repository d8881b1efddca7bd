//! Container groups as Azure describes them. Only what is read is here; whatever else an answer has is left alone, and nothing
//! that was read is ever written back.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::{scope, segment};

/// Which container group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId {
    /// Id of the subscription.
    pub subscription: String,
    /// Name of the resource group.
    pub resource_group: String,
    /// Name of the group.
    pub name: String,
}

impl GroupId {
    /// Its path at Azure Resource Manager.
    #[must_use]
    pub fn path(&self) -> String {
        let scope = scope(&self.subscription, &self.resource_group);
        format!("{scope}/providers/Microsoft.ContainerInstance/containerGroups/{}", segment(&self.name))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name, self.resource_group)
    }
}

/// One container group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerGroup {
    /// Name.
    pub name: String,
    /// Region.
    #[serde(default)]
    pub location: String,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Everything else.
    pub properties: Properties,
}

/// What a container group is and does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Properties {
    /// How far Azure is with it.
    #[serde(default)]
    pub provisioning_state: ProvisioningState,
    /// Its address.
    pub ip_address: Option<IpAddress>,
    /// What it does; missing in listings.
    pub instance_view: Option<View>,
    /// Subnets that it is in: one or none.
    #[serde(default)]
    pub subnet_ids: Vec<SubnetId>,
    /// Its containers.
    #[serde(default)]
    pub containers: Vec<Container>,
}

/// How far Azure is with a group. Only `Succeeded` and `Failed` can be relied on ("Azure Container Instances states").
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "String")]
pub enum ProvisioningState {
    /// It does not say.
    #[default]
    NotSpecified,
    /// Asked for.
    Accepted,
    /// Waiting.
    Pending,
    /// Being changed.
    Updating,
    /// Being made.
    Creating,
    /// Being moved by Azure.
    Repairing,
    /// About to be moved by Azure.
    Unhealthy,
    /// Given up. It still exists, and may go on trying and billing.
    Failed,
    /// Given up because somebody said so.
    Canceled,
    /// Made. What became of its containers since is another matter.
    Succeeded,
    /// Being deleted.
    Deleting,
    /// Out of reach.
    NotAccessible,
    /// Made in advance.
    PreProvisioned,
    /// A word that this Ebb does not know.
    Unknown(String),
}

impl From<String> for ProvisioningState {
    fn from(word: String) -> Self {
        match word.as_str() {
            "NotSpecified" | "" => Self::NotSpecified,
            "Accepted" => Self::Accepted,
            "Pending" => Self::Pending,
            "Updating" => Self::Updating,
            "Creating" => Self::Creating,
            "Repairing" => Self::Repairing,
            "Unhealthy" => Self::Unhealthy,
            "Failed" => Self::Failed,
            "Canceled" => Self::Canceled,
            "Succeeded" => Self::Succeeded,
            "Deleting" => Self::Deleting,
            "NotAccessible" => Self::NotAccessible,
            "PreProvisioned" => Self::PreProvisioned,
            _ => Self::Unknown(word),
        }
    }
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SubnetId {
    /// ARM id.
    pub id: String,
}

/// The address of a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IpAddress {
    /// May be missing, or `0.0.0.0`, although the group is made.
    pub ip: Option<String>,
    /// Its name in the DNS.
    pub fqdn: Option<String>,
}

impl IpAddress {
    /// The address, once it can be reached.
    #[must_use]
    pub fn routable(&self) -> Option<&str> {
        self.ip.as_deref().filter(|ip| ip.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_unspecified()))
    }
}

/// What a group or a container does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Of a group.
    #[serde(default)]
    pub state: GroupState,
    /// Of a container.
    pub current_state: Option<ContainerState>,
    /// What happened, oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// State of a group's containers together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "String")]
pub enum GroupState {
    /// It does not say.
    #[default]
    NotSaid,
    /// About to run.
    Pending,
    /// Running.
    Running,
    /// Stopped by somebody.
    Stopped,
    /// Ended with status 0.
    Succeeded,
    /// Ended with another status.
    Failed,
    /// A word that this Ebb does not know.
    Unknown(String),
}

impl From<String> for GroupState {
    fn from(word: String) -> Self {
        match word.as_str() {
            "" => Self::NotSaid,
            "Pending" => Self::Pending,
            "Running" => Self::Running,
            "Stopped" => Self::Stopped,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            _ => Self::Unknown(word),
        }
    }
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Everything else.
    pub properties: ContainerProperties,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerProperties {
    /// Missing in listings.
    pub instance_view: Option<View>,
}

/// State of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// `Running`, `Waiting` or `Terminated`.
    #[serde(default)]
    pub state: String,
    /// Status it ended with.
    pub exit_code: Option<i32>,
    /// More about it.
    #[serde(default)]
    pub detail_status: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Event {
    /// What kind, for example `Pulling`.
    #[serde(default)]
    pub name: String,
    /// In words.
    #[serde(default)]
    pub message: String,
    /// `Normal` or `Warning`.
    #[serde(default, rename = "type")]
    pub severity: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_a_later_api_is_read_as_far_as_it_is_known() {
        let json = r#"{"name":"g","location":"eastus2","zones":["1"],"novel":{"a":1},"properties":{
            "provisioningState":"Hibernating","ipAddress":{"ip":null,"ports":[],"type":"Public"},
            "containers":[{"name":"gateway","properties":{"image":"i","instanceView":{"restartCount":1,
              "currentState":{"state":"Dreaming"}}}}],"instanceView":{"state":"Frozen"}}}"#;
        let group: ContainerGroup = serde_json::from_str(json).unwrap();
        assert_eq!(group.properties.provisioning_state, ProvisioningState::Unknown("Hibernating".into()));
        assert_eq!(group.properties.instance_view.unwrap().state, GroupState::Unknown("Frozen".into()));
    }

    #[test]
    fn an_address_counts_once_it_can_be_reached() {
        let address = |ip: Option<&str>| IpAddress { ip: ip.map(str::to_owned), fqdn: None };
        for none in [None, Some(""), Some("0.0.0.0"), Some("soon")] {
            assert_eq!(address(none).routable(), None, "{none:?}");
        }
        assert_eq!(address(Some("198.51.100.7")).routable(), Some("198.51.100.7"));
    }

    #[test]
    fn no_name_leads_to_another_resource() {
        let id = GroupId { subscription: "s".into(), resource_group: "r/../x".into(), name: "g?a#b".into() };
        assert!(
            id.path().ends_with(
                "/resourceGroups/r_.._x/providers/Microsoft.ContainerInstance/containerGroups/g_a_b"
            )
        );
    }
}
