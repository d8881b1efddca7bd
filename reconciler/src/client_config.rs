//! The file that users give to their WireGuard client.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebb_core::observed::Endpoint;
use ebb_desired_state::{Session, User};
use ebb_wire::{PrivateKey, PublicKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The MTU that WireGuard clients choose by themselves on a path of 1500 bytes.
pub const DEFAULT_MTU: u16 = 1420;

/// What stands in the place of a private key that Ebb does not have.
pub const KEY_PLACEHOLDER: &str = "PASTE-YOUR-PRIVATE-KEY-HERE";

/// Everything that stands in a client configuration.
pub struct ClientFile {
    /// For which session.
    pub session: Session,
    /// For whom.
    pub user: User,
    /// The user's addresses inside the tunnel.
    pub addresses: (Ipv4Addr, Ipv6Addr),
    /// The user's private key, if Ebb made it.
    pub private_key: Option<PrivateKey>,
    /// The gateway's public key.
    pub gateway_key: PublicKey,
    /// Where the gateway listens, or will.
    pub endpoint: Endpoint,
    /// MTU of the client's interface.
    pub mtu: u16,
}

/// The same for programs: what `ebb connect` needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The user's private key, if Ebb made it.
    pub private_key: Option<PrivateKey>,
    /// The gateway's public key.
    pub gateway_key: PublicKey,
    /// Where the gateway listens, or will.
    pub endpoint: Endpoint,
    /// The user's addresses inside the tunnel.
    pub addresses: Vec<IpAddr>,
    /// The gateway's address inside the tunnel, where its resolver answers on port 53.
    pub gateway: IpAddr,
    /// MTU of the client's interface.
    pub mtu: u16,
    /// Interval of keepalives.
    pub persistent_keepalive_seconds: Option<u64>,
}

impl ClientFile {
    /// The configuration for programs.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let (v4, v6) = self.addresses;
        Connection {
            private_key: self.private_key.clone(),
            gateway_key: self.gateway_key,
            endpoint: self.endpoint.clone(),
            addresses: vec![v4.into(), v6.into()],
            gateway: self.gateway().0.into(),
            mtu: self.mtu,
            persistent_keepalive_seconds: self.user.persistent_keepalive.map(|interval| interval.as_secs()),
        }
    }

    /// The configuration in the form of `wg-quick(8)`, without hooks, which phones refuse to import.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        let placeholder = || Zeroizing::new(KEY_PLACEHOLDER.to_owned());
        let key = self.private_key.as_ref().map_or_else(placeholder, PrivateKey::reveal);
        let (v4, v6) = self.addresses;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# {} at {}, made by Ebb", self.user.name, self.session.name);
        let _ = writeln!(text, "[Interface]\nPrivateKey = {}\nAddress = {v4}/32, {v6}/128", *key);
        if let Some(resolvers) = self.resolvers() {
            let _ = writeln!(text, "DNS = {resolvers}");
        }
        let _ = writeln!(text, "MTU = {}", self.mtu);
        let _ =
            writeln!(text, "\n[Peer]\nPublicKey = {}\nAllowedIPs = {}", self.gateway_key, self.allowed_ips());
        if let Some(keepalive) = self.user.persistent_keepalive {
            let _ = writeln!(text, "PersistentKeepalive = {}", keepalive.as_secs());
        }
        let _ = writeln!(text, "Endpoint = {}", self.endpoint);
        text
    }

    /// The gateway's addresses inside the tunnel.
    fn gateway(&self) -> (Ipv4Addr, Ipv6Addr) {
        ebb_core::spec::addresses(&self.session.addresses, 1)
    }

    /// The gateway's resolver, where the client's own would be of no use: in a full tunnel, where it may not be reachable, and
    /// where the session has names of its own. Otherwise the client keeps its resolver.
    fn resolvers(&self) -> Option<String> {
        let full = self.session.routes.iter().any(|route| route.prefix_len() == 0);
        let own = !self.session.dns.names.is_empty() || !self.session.dns.upstream.is_empty();
        let (v4, v6) = self.gateway();
        (full || own).then(|| format!("{v4}, {v6}"))
    }

    /// The routes, and the gateway itself so that its resolver can be reached through a split tunnel.
    fn allowed_ips(&self) -> String {
        let (v4, v6) = self.gateway();
        let gateway = [IpNet::V4(Ipv4Net::from(v4)), IpNet::V6(Ipv6Net::from(v6))];
        let covered = |host: &IpNet| self.session.routes.iter().any(|route| route.contains(host));
        let extra = gateway.into_iter().filter(|host| !covered(host));
        let all: Vec<_> =
            self.session.routes.iter().copied().chain(extra).map(|route| route.to_string()).collect();
        all.join(", ")
    }
}

/// Addresses of host number `host` in the session, as a client has them.
#[must_use]
pub fn addresses(session: &Session, host: u32) -> [IpAddr; 2] {
    let (v4, v6) = ebb_core::spec::addresses(&session.addresses, host);
    [v4.into(), v6.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(session: &Session, key: Option<&PrivateKey>, host: &str) -> String {
        let user = User { persistent_keepalive: None, ..User::new("alice".parse().unwrap()) };
        let file = ClientFile {
            session: session.clone(),
            user,
            addresses: ebb_core::spec::addresses(&session.addresses, 2),
            private_key: key.cloned(),
            gateway_key: PrivateKey::from_random([3; 32]).public(),
            endpoint: Endpoint { host: host.to_owned(), port: 41820 },
            mtu: DEFAULT_MTU,
        };
        file.render().to_string()
    }

    fn session() -> Session {
        Session::new("alice-home".parse().unwrap(), vec!["alice".parse().unwrap()], "local")
    }

    #[test]
    fn a_full_tunnel_takes_everything_and_resolves_at_the_gateway() {
        let key = PrivateKey::from_random([7; 32]);
        let text = render(&session(), Some(&key), "vpn.example.org");
        let expected = format!(
            "# alice at alice-home, made by Ebb\n[Interface]\nPrivateKey = {}\n\
             Address = 10.8.0.2/32, fd65:6262:0:1::2/128\nDNS = 10.8.0.1, fd65:6262:0:1::1\nMTU = 1420\n\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = vpn.example.org:41820\n",
            *key.reveal(),
            PrivateKey::from_random([3; 32]).public(),
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_split_tunnel_reaches_the_gateway_and_leaves_the_resolver_alone() {
        let mut session = session();
        session.routes = vec!["10.20.0.0/16".parse().unwrap()];
        let text = render(&session, None, "vpn.example.org");
        assert!(text.contains("AllowedIPs = 10.20.0.0/16, 10.8.0.1/32, fd65:6262:0:1::1/128\n"), "{text}");
        assert!(!text.contains("DNS ="), "{text}");
        session.dns.names.insert("wiki".into(), vec!["10.20.0.7".parse().unwrap()]);
        assert!(render(&session, None, "vpn.example.org").contains("DNS = 10.8.0.1"));
    }

    #[test]
    fn an_ipv6_endpoint_stands_in_brackets() {
        assert!(render(&session(), None, "2001:db8::1").contains("Endpoint = [2001:db8::1]:41820\n"));
    }

    #[test]
    fn without_the_private_key_the_file_says_what_to_paste() {
        assert!(render(&session(), None, "h").contains("PrivateKey = PASTE-YOUR-PRIVATE-KEY-HERE\n"));
    }
}
