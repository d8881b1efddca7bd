//! Who made a version of the document, when, and who vouches for it.

use ebb_core::plan::Revision;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known of where a version comes from. A file knows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Provenance {
    /// Who wrote it, as the source says: `Alice <alice@example.com>`. Anybody can claim to be anybody; see the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When it was written, as the source says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authored_at: Option<Timestamp>,
    /// What the author says about it, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The signature that was checked. `None` when none was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// What the source itself calls this version, where that is not its revision: of a blob its version id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who sent it through the API, in the words of the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The revision whose text it brings back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restores: Option<Revision>,
}

/// A signature that was found good, by a key that is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// How it was made.
    pub format: SignatureFormat,
    /// Whose key made it: the principal in the file of allowed signers, or the user id of an OpenPGP key.
    pub signer: String,
    /// Fingerprint of the key.
    pub key: String,
}

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureFormat {
    /// With an SSH key, in the namespace `git`.
    Ssh,
    /// With an OpenPGP key.
    Openpgp,
}

impl SignatureFormat {
    /// The usual spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "SSH",
            Self::Openpgp => "OpenPGP",
        }
    }
}

impl Provenance {
    /// Who is responsible, as well as it is known.
    #[must_use]
    pub fn who(&self) -> Option<&str> {
        self.by.as_deref().or(self.author.as_deref())
    }
}
