//! The file a gateway is started with.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{PrivateKey, PublicKey, VERSION};

/// All that never changes while a gateway runs. It holds the gateway's private key: keep the file at mode 0600.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Boot {
    /// [`VERSION`] of the writer.
    pub version: u16,
    /// Name of the session, for log lines.
    pub session: String,
    /// UDP port the gateway listens on, on every local address. ACI has no port mapping, so it is also the public one.
    pub listen_port: u16,
    /// The gateway's own key. It outlives the gateway, so that client configurations stay valid.
    pub private_key: PrivateKey,
    /// The daemon, the one peer that may open [`crate::CONTROL_PORT`].
    pub control_key: PublicKey,
    /// The session's IPv4 network inside the tunnel; the gateway is its first host.
    pub ipv4: Ipv4Net,
    /// The session's IPv6 network inside the tunnel; the gateway is its first host.
    pub ipv6: Ipv6Net,
    /// Seconds without control contact and without user traffic after which the gateway ends itself with status 0.
    /// It bounds the bill of a gateway whose daemon is gone.
    pub lease_seconds: u64,
}

/// Why a boot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Not the JSON of a boot file. The text is not quoted: it holds a private key.
    #[error(
        "the boot file is not valid at line {line}, column {column}; the daemon writes this file, do not edit it"
    )]
    Syntax {
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
    },
    /// Written by a daemon of another generation.
    #[error(
        "the boot file has version {found}, this gateway reads version {VERSION}; use gateway and daemon of one release"
    )]
    Version {
        /// The version in the file.
        found: u16,
    },
}

impl Boot {
    /// Reads a boot file.
    ///
    /// # Errors
    /// When the text is no boot file of this [`VERSION`].
    pub fn parse(text: &str) -> Result<Self, BootError> {
        #[derive(Deserialize)]
        struct Version {
            version: u16,
        }
        let syntax = |e: &serde_json::Error| BootError::Syntax { line: e.line(), column: e.column() };
        let Version { version } = serde_json::from_str(text).map_err(|e| syntax(&e))?;
        if version != VERSION {
            return Err(BootError::Version { found: version });
        }
        serde_json::from_str(text).map_err(|e| syntax(&e))
    }

    /// The gateway's own addresses inside the tunnel.
    #[must_use]
    pub fn addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        (host(self.ipv4.network().to_bits() + 1), Ipv6Addr::from_bits(self.ipv6.network().to_bits() + 1))
    }
}

fn host(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        Boot {
            version: VERSION,
            session: "alice-east".into(),
            listen_port: 41820,
            private_key: PrivateKey::from_random([7; 32]),
            control_key: PrivateKey::from_random([9; 32]).public(),
            ipv4: "10.8.0.0/24".parse().unwrap(),
            ipv6: "fd65:6262:0:1::/64".parse().unwrap(),
            lease_seconds: 900,
        }
    }

    #[test]
    fn a_boot_file_survives_the_trip_through_json() {
        let text = serde_json::to_string(&boot()).unwrap();
        let read = Boot::parse(&text).unwrap();
        assert_eq!(read.private_key.public(), boot().private_key.public());
        assert_eq!(read.ipv6, boot().ipv6);
    }

    #[test]
    fn the_gateway_is_the_first_host_of_both_networks() {
        let (v4, v6) = boot().addresses();
        assert_eq!(v4.to_string(), "10.8.0.1");
        assert_eq!(v6.to_string(), "fd65:6262:0:1::1");
    }

    #[test]
    fn an_unknown_version_is_refused_by_number_even_when_the_rest_is_strange() {
        assert!(matches!(Boot::parse(r#"{"version":2,"new":true}"#), Err(BootError::Version { found: 2 })));
    }

    #[test]
    fn an_error_names_the_place_and_never_the_key() {
        let key = boot().private_key.reveal();
        let broken = format!("{{\"version\":1,\n\"privateKey\":\"{}\",\"x\"", *key);
        let error = Boot::parse(&broken).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(!error.contains(key.as_str()));
    }
}
