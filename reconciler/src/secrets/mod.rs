//! Where private keys are kept.

mod files;
#[cfg(feature = "azure")]
mod vault;

use std::fmt;

use async_trait::async_trait;
use ebb_desired_state::{SessionName, UserName};
use ebb_wire::PrivateKey;

pub use files::FileSecrets;
#[cfg(feature = "azure")]
pub use vault::VaultSecrets;

/// Private keys by name.
///
/// # Guarantees
/// - A key that was returned by [`Secrets::ensure`] survives a crash: it is stored before it is returned.
/// - A name keeps its key. Nothing here replaces or removes one, so that configurations that people hold stay valid.
/// - No key appears in an error.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The key of this name, if there is one.
    async fn get(&self, name: &SecretName) -> Result<Option<PrivateKey>, SecretError>;

    /// The key of this name; if there is none, `fresh` becomes it. Of several callers one wins and all get the same key.
    async fn ensure(&self, name: &SecretName, fresh: PrivateKey) -> Result<PrivateKey, SecretError>;
}

/// Whose key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretName {
    /// The daemon's own, with which it is a peer of every gateway.
    Control,
    /// A session's gateway's.
    Gateway(SessionName),
    /// A user's whose key Ebb keeps.
    User(UserName),
}

impl fmt::Display for SecretName {
    /// The name in the store: letters, digits and hyphens, as Key Vault demands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Gateway(session) => write!(f, "gateway-{session}"),
            Self::User(user) => write!(f, "user-{user}"),
        }
    }
}

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the key {name} in {place}: {why}")]
pub struct SecretError {
    /// Whose key.
    pub name: SecretName,
    /// Where it should be.
    pub place: String,
    /// What is wrong, and what to do.
    pub why: String,
}
