//! The document as it is written: every setting that may appear, its type, its default and its description. The descriptions
//! are those that editors show.

use std::net::IpAddr;

use ebb_wire::PublicKey;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;

use crate::reader::record;
use crate::values::{
    AlwaysWord, Count, Cpu, EndMarker, HostName, IdleTimeout, Keepalive, Lifetime, List, LoadBalancerId, Map,
    Memory, Mode, NoneWord, OneOrMore, Or, Port, Reason, Region, ResourceGroup, SubnetId, SubscriptionId,
    VersionNumber, Wake, Zone,
};
use crate::{ApiKeyHash, Days, DeploymentName, Drift, Hours, SessionName, Signal, UserName};

/// Most users and most sessions of a document.
pub(crate) const MOST: usize = 10_000;

/// Most users of one session, so that they fit one control message to the gateway.
pub(crate) const MOST_USERS: usize = 1000;

record! {
    /// The desired state of one Ebb deployment: which VPN sessions are wanted, who may use them and how long they may idle.
    Document {
        /// Version of the format: 1.
        required version "version": VersionNumber,
        /// Name of the deployment, at most 30 lower-case letters, digits and single hyphens.
        /// It marks everything that this document owns; nothing else is ever touched.
        required deployment "deployment": DeploymentName,
        /// `true`: the document must end with a line `...`, YAML's end marker. It stands above `users` and `sessions`.
        /// A document that was cut off while being written or copied is then always refused.
        optional end_marker "endMarker": EndMarker = false,
        /// How much may run, and how much may end, at once.
        optional limits "limits": Limits,
        /// Lets the whole deployment rest until a given moment: what runs is torn down, nothing is started.
        optional suspended "suspended": Suspension,
        /// What to do about resources of this deployment that somebody else changed:
        /// `correct` them, `warn` by a condition, or `ignore` it.
        optional drift "drift": Drift = "correct",
        /// Settings for all sessions and users that do not have their own.
        optional defaults "defaults": Defaults,
        /// Everybody who may use a session; at most 10,000. `[]` is none.
        required users "users": List<User, 0, MOST>,
        /// The wanted sessions; at most 10,000. `[]` ends all of them.
        required sessions "sessions": List<Session, 0, MOST>,
    }
}

record! {
    /// How much may run, and how much may end, at once.
    Limits {
        /// Users with an active session, 0 to 10,000. Whoever comes later queues, with a reason. With 0 nothing runs.
        optional active_users "activeUsers": Count = 3,
        /// Sessions that exist at the provider, 0 to 10,000. Later ones queue, with a reason. With 0 nothing runs.
        optional active_sessions "activeSessions": Count = 3,
        /// Sessions that one change of the document may tear down, 0 to 10,000. More than this needs `ebb approve`.
        optional max_teardowns_per_pass "maxTeardownsPerPass": Count = 3,
    }
}

record! {
    /// A deliberate rest, with the reason and the end that keep it from being forgotten.
    Suspension {
        /// Why: 1 to 200 characters in one line.
        required reason "reason": Reason,
        /// When it ends by itself, for example 2026-12-31T00:00:00Z.
        required until "until": Timestamp,
    }
}

record! {
    /// Settings for all sessions and users that do not have their own.
    Defaults {
        /// For users: keep connections through a NAT open by a packet every so often, `1s` to `65535s`, or `none`.
        optional persistent_keepalive "persistentKeepalive": Or<NoneWord, Keepalive> = "none",
    }
    flatten settings: Settings
}

record! {
    /// Somebody who may use sessions.
    User {
        /// Unique name, at most 63 lower-case letters, digits and single hyphens.
        /// Inside the tunnel the user can be found under it.
        required name "name": UserName,
        /// The user's own WireGuard public key. Without one, Ebb makes a key pair and keeps it in the secret store.
        optional public_key "publicKey": PublicKey,
        /// SHA-256 of the user's API key, 64 hexadecimal digits. Without one the user cannot call the API.
        optional api_key_sha256 "apiKeySha256": ApiKeyHash,
        /// Networks from which the user may connect, as the gateway sees them; without them, from everywhere.
        optional source_ips "sourceIps": List<IpNet, 1, 64>,
        /// From this moment on the user has no access, for example 2026-12-31T00:00:00Z.
        optional until "until": Timestamp,
        /// Keep connections through a NAT open by a packet every so often, `1s` to `65535s`, or `none`.
        /// Most users need none.
        optional persistent_keepalive "persistentKeepalive": Or<NoneWord, Keepalive> = "none",
    }
}

record! {
    /// A wanted session.
    Session {
        /// Unique name, at most 15 lower-case letters, digits and single hyphens.
        /// WireGuard clients use it as the name of a network interface.
        required name "name": SessionName,
        /// Who may use the session: 1 to 1,000 names out of `users`.
        required users "users": List<UserName, 1, MOST_USERS>,
        /// From this moment on the session is not wanted, for example 2026-12-31T00:00:00Z.
        optional until "until": Timestamp,
        /// Any value that differs from the one before starts a parked session again, for example a date.
        optional wake "wake": Wake,
        /// Lets the session rest until a given moment.
        optional suspended "suspended": Suspension,
    }
    flatten settings: Settings
}

record! {
    /// Settings that a session has, or gets from `defaults`.
    Settings {
        /// Where the gateway runs: an Azure region in its short form such as `eastus2`, or `local`.
        /// Every session needs one, its own or that of `defaults`.
        optional region "region": Region,
        /// In an Azure region: id of the subscription that the gateway runs in and is billed to. The default is the daemon's own.
        optional subscription "subscription": SubscriptionId,
        /// In an Azure region: name of the resource group that the gateway belongs to. It has to exist, and the daemon needs
        /// its role there. The default is the daemon's own.
        optional resource_group "resourceGroup": ResourceGroup,
        /// Without use for this long the session is torn down: `5s` to `24h`, with `idleSignal: handshake` at least `3m`.
        optional idle_timeout "idleTimeout": IdleTimeout = "10m",
        /// What counts as use: `traffic` is data packets and open connections; `handshake` is WireGuard's handshake,
        /// which a client with a persistent keepalive makes for ever.
        optional idle_signal "idleSignal": Signal = "traffic",
        /// Tear the session down this long after it started, however busy it is: more than `idleTimeout`, at most `365d`,
        /// or `none`.
        optional max_lifetime "maxLifetime": Or<NoneWord, Lifetime> = "none",
        /// Hours in which the session exists, or `always`.
        optional schedule "schedule": Or<AlwaysWord, Schedule> = "always",
        /// The resolver inside the tunnel.
        optional dns "dns": Dns,
        /// Networks that users reach through the session; 1 to 256. The default is the whole Internet.
        /// Private networks are reachable only when named here.
        optional routes "routes": List<IpNet, 1, 256> = ["0.0.0.0/0", "::/0"],
        /// Networks inside the tunnel.
        optional addresses "addresses": Addresses,
        /// What the gateway container gets.
        optional size "size": Size,
        /// UDP port of the gateway: 443, or 1024 to 65535 without the ports that Azure Container Instances reserves
        /// (1025-1027, 3389-3399, 9999, 19000, 19080, 19100, 19390, 20000-30000, 49152-65534).
        optional port "port": Port = crate::Session::DEFAULT_PORT,
        /// How the gateway is connected.
        optional network "network": Network,
    }
}

record! {
    /// Hours in which a session exists.
    Schedule {
        /// Days on which a window starts: `daily`, or names and ranges such as `Mon-Fri` or `Sat,Sun`.
        optional days "days": Days = "daily",
        /// From when to when: `"06:00-22:00"`, over midnight `"22:00-06:00"`, whole days `"00:00-24:00"`.
        optional hours "hours": Hours = "00:00-24:00",
        /// The clocks that count: a name of the IANA time zone database such as `Europe/Berlin` or `UTC`.
        required timezone "timezone": Zone,
    }
}

record! {
    /// The resolver inside the tunnel. It knows the users of the session by name without being told.
    Dns {
        /// Names that it answers by itself, each with an address or a list of at most 16; at most 100 names.
        optional names "names": Map<HostName, OneOrMore<IpAddr>>,
        /// Resolvers for every other name, in order of preference; at most 4. `[]`, the default, means those of the gateway's host.
        optional upstream "upstream": List<IpAddr, 0, 4>,
    }
}

record! {
    /// Networks inside the tunnel. The gateway is the first host of both.
    Addresses {
        /// A private network with a prefix of /16 to /30; a /24 holds 253 users.
        optional ipv4 "ipv4": Ipv4Net = "10.8.0.0/24",
        /// A network in fc00::/7 with a prefix of /48 to /120.
        optional ipv6 "ipv6": Ipv6Net = "fd65:6262:0:1::/64",
    }
}

record! {
    /// What the gateway container gets.
    Size {
        /// Virtual processors, 0.5 to 31 in steps of 0.01.
        optional cpu "cpu": Cpu = 1,
        /// Memory in GiB, 0.5 to 240 in steps of 0.1.
        optional memory_gib "memoryGiB": Memory = 1,
    }
}

record! {
    /// How the gateway is connected.
    Network {
        /// `public`: with a public address of its own. `vnet`: inside a virtual network.
        required mode "mode": Mode,
        /// With `vnet`: ARM id of a subnet that is delegated to Microsoft.ContainerInstance/containerGroups.
        optional subnet "subnet": SubnetId,
        /// With `vnet`: ARM id of the load balancer that carries the public address.
        /// Without one, only the virtual network and what is connected to it can reach the gateway.
        optional load_balancer "loadBalancer": LoadBalancerId,
    }
}
