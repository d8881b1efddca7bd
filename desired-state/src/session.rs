//! A wanted session, with every default filled in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Quantity, Schedule, SessionName, Suspension, UserName, serial};

/// A wanted session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Unique in the document.
    pub name: SessionName,
    /// Who may use it: at least one, each declared in the document, none twice.
    pub users: Vec<UserName>,
    /// Where the gateway runs: an Azure region in its short form such as `eastus2`, or `local`.
    pub region: String,
    /// Whose gateway it is in the eyes of Azure.
    #[serde(flatten)]
    pub placement: Placement,
    /// When the session counts as unused.
    #[serde(flatten)]
    pub idle: Idle,
    /// The session is torn down this long after it started, however busy it is; longer than the idle timeout.
    #[serde(with = "serial::none_duration")]
    pub max_lifetime: Option<Duration>,
    /// From this moment on the session is treated as absent from the document.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// The session exists only inside these hours. `None`: at any time.
    #[serde(with = "serial::always_schedule")]
    pub schedule: Option<Schedule>,
    /// Any value that differs from the one before starts a parked session again; 1 to 64 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wake: Option<String>,
    /// Set: the session rests, torn down, until then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suspended: Option<Suspension>,
    /// The resolver inside the tunnel.
    pub dns: Dns,
    /// Destinations that users reach through the session; never empty, no duplicates.
    pub routes: Vec<IpNet>,
    /// Networks inside the tunnel.
    pub addresses: Addresses,
    /// What the gateway container gets.
    pub size: Size,
    /// UDP port of the gateway: 443 or 1024 to 65535, without the ports that ACI reserves.
    pub port: u16,
    /// How the gateway is connected.
    pub network: Network,
}

impl Session {
    /// A session with every other setting at its default: the whole Internet through the tunnel, 10 minutes of idleness.
    #[must_use]
    pub fn new(name: SessionName, users: Vec<UserName>, region: impl Into<String>) -> Self {
        Self {
            name,
            users,
            region: region.into(),
            placement: Placement::default(),
            idle: Idle::default(),
            max_lifetime: None,
            until: None,
            schedule: None,
            wake: None,
            suspended: None,
            dns: Dns::default(),
            routes: Self::default_routes(),
            addresses: Addresses::default(),
            size: Size::default(),
            port: Self::DEFAULT_PORT,
            network: Network::Public,
        }
    }

    /// WireGuard's customary 51820 lies in a range that ACI reserves, hence 41820.
    pub const DEFAULT_PORT: u16 = 41820;

    /// The whole Internet. `::/0` is there on IPv4-only gateways too, because without it a client's IPv6 traffic would leave
    /// beside the tunnel.
    #[must_use]
    pub fn default_routes() -> Vec<IpNet> {
        vec![
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
        ]
    }
}

/// Where in Azure a gateway is kept. What is missing is as the daemon is set up. Gateways of this machine have no such place.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Id of the subscription, in lower case.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subscription: Option<String>,
    /// Name of the resource group, 1 to 90 characters. Azure compares it without regard to case.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource_group: Option<String>,
}

impl Placement {
    /// Whether everything is as the daemon is set up.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a session counts as unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// Without use for this long the session is torn down: 5 s to 24 h, with [`Signal::Handshake`] at least 3 min.
    #[serde(rename = "idleTimeout", with = "serial::duration")]
    pub timeout: Duration,
    /// What counts as use.
    #[serde(rename = "idleSignal")]
    pub signal: Signal,
}

impl Default for Idle {
    fn default() -> Self {
        Self { timeout: Duration::from_mins(10), signal: Signal::default() }
    }
}

/// What counts as use of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// Data packets and open flows. A WireGuard keepalive is not data.
    #[default]
    Traffic,
    /// The latest handshake of any user. A client with traffic or a persistent keepalive makes one about every 2 minutes.
    Handshake,
}

/// The resolver inside the tunnel. It also answers the names of the session's users by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// Further names that the gateway answers by itself: lower case, without a final dot, at most 100.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Resolvers for every other name, in order of preference, at most 4. Empty: those of the gateway's host.
    pub upstream: Vec<IpAddr>,
}

/// Networks inside the tunnel. The gateway is the first host of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// A private range with a prefix of /16 to /30.
    pub ipv4: Ipv4Net,
    /// A range in fc00::/7 with a prefix of /48 to /120.
    pub ipv6: Ipv6Net,
}

impl Default for Addresses {
    /// 10.8.0.0/24, which WireGuard tools use by custom, and fd65:6262:0:1::/64, next to the control network.
    fn default() -> Self {
        Self {
            ipv4: Ipv4Net::new_assert(Ipv4Addr::new(10, 8, 0, 0), 24),
            ipv6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd65, 0x6262, 0, 1, 0, 0, 0, 0), 64),
        }
    }
}

/// What the gateway container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Virtual processors, 0.5 to 31 in steps of 0.01.
    pub cpu: Quantity,
    /// Memory in GiB, 0.5 to 240 in steps of 0.1.
    #[serde(rename = "memoryGiB")]
    pub memory_gib: Quantity,
}

impl Default for Size {
    /// 1 processor and 1 GiB, the smallest size that Azure documents for a container group.
    fn default() -> Self {
        Self { cpu: Quantity::from_milli(1000), memory_gib: Quantity::from_milli(1000) }
    }
}

/// How a gateway is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "mode", rename_all_fields = "camelCase")]
pub enum Network {
    /// A public address of its own.
    #[default]
    Public,
    /// Inside a virtual network, without a public address of its own.
    Vnet {
        /// ARM id of a subnet that is delegated to `Microsoft.ContainerInstance/containerGroups`.
        subnet: String,
        /// ARM id of the load balancer that carries the public address. `None`: only the virtual network, and what is
        /// connected to it, can reach the gateway.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        load_balancer: Option<String>,
    },
}
