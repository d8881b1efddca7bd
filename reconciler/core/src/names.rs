//! Names and counters that several parts agree on.

use std::fmt;

use ebb_desired_state::{DeploymentName, SessionName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use smol_str::{SmolStr, format_smolstr};

/// Counts the accepted changes of one session's spec. It never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The following generation.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 in lower-case hexadecimal over the canonical JSON of something.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(SmolStr);

impl Hash {
    /// The hash of `value`. Two values hash alike exactly when they serialise alike.
    #[must_use]
    pub fn of<T: Serialize>(value: &T) -> Self {
        let mut sha = Sha256::new();
        // Hashing cannot fail, and everything hashed here is a tree of structs, strings, numbers and sorted maps.
        let _ = serde_json::to_writer(&mut sha, value);
        Self(format_smolstr!("{:x}", sha.finalize()))
    }

    /// A hash read back from a tag.
    #[must_use]
    pub fn from_tag(text: &str) -> Self {
        Self(text.into())
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hash {
    /// The first 12 digits, enough for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Name of a session's gateway at the provider: `ebb-DEPLOYMENT-SESSION`. It is a function of the document alone, so that a
/// lost response can never make a second gateway for one session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GatewayName(SmolStr);

impl GatewayName {
    /// The name for `session` of `deployment`: at most 4 + 30 + 1 + 15 = 50 of the 63 characters that ACI allows.
    #[must_use]
    pub fn new(deployment: &DeploymentName, session: &SessionName) -> Self {
        Self(format_smolstr!("ebb-{deployment}-{session}"))
    }

    /// Whether it is the name for `session` of `deployment`.
    #[must_use]
    pub fn is_of(&self, deployment: &DeploymentName, session: &SessionName) -> bool {
        let rest = self.0.strip_prefix("ebb-").and_then(|rest| rest.strip_prefix(deployment.as_str()));
        rest.and_then(|rest| rest.strip_prefix('-')) == Some(session.as_str())
    }

    /// A name as the provider lists it.
    #[must_use]
    pub fn listed(text: &str) -> Self {
        Self(text.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One run of a session, from provisioning to gone; a version 4 UUID (RFC 9562, section 5.4). The API calls it `sessionId`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(SmolStr);

impl RunId {
    /// Makes an id. Equal arguments give equal ids; `seed` is fresh randomness in every pass.
    #[must_use]
    pub fn new(seed: &[u8; 32], session: &SessionName) -> Self {
        let digest = Sha256::new().chain_update(seed).chain_update(session.as_str()).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let text = format!("{:032x}", u128::from_be_bytes(bytes));
        Self(format_smolstr!(
            "{}-{}-{}-{}-{}",
            &text[..8],
            &text[8..12],
            &text[12..16],
            &text[16..20],
            &text[20..]
        ))
    }

    /// The UUID in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for RunId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
