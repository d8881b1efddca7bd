//! Where the desired-state document comes from.

#[cfg(feature = "azure")]
mod blob;
mod file;
mod git;
mod provenance;
mod refusal;
mod report;

use async_trait::async_trait;
use ebb_core::plan::Revision;

#[cfg(feature = "azure")]
pub use blob::BlobSource;
pub use file::{FileSource, revision_of};
pub use git::{GitSettings, GitSource, Location, LocationError};
pub use provenance::{Provenance, Signature, SignatureFormat};
pub use refusal::{Reason, SourceError};
pub use report::{Report, Standing};

/// A place that holds the document.
///
/// # Guarantees
/// - [`Source::fetch`] returns one version of the document as a whole, never a mixture of two.
/// - Equal revisions have equal text.
/// - A version that is not trusted, or that does not follow `base` although it would have to, is an error and never returned.
///
/// # Assumptions
/// - The text may be anything: the caller decides whether it is a valid document.
#[async_trait]
pub trait Source: Send + Sync {
    /// The document as it is now. `base` is what is in force.
    async fn fetch(&self, base: Option<&Base>) -> Result<Fetched, SourceError>;

    /// Resolves when a fetch would probably bring something new. It may be wrong either way, so fetch now and then as well.
    async fn changed(&self);

    /// Puts `text` where the document is, provided that it still is `expected`; returns the revision that a fetch will bring.
    ///
    /// # Errors
    /// [`ReplaceError::Connected`] where versions come from elsewhere and are not written here.
    async fn replace(&self, text: &str, expected: &Revision) -> Result<Revision, ReplaceError> {
        let _ = (text, expected);
        Err(ReplaceError::Connected { origin: self.origin() })
    }

    /// The commands by which people bring back the document of `revision`, where [`Source::replace`] does not.
    fn restore_commands(&self, revision: &Revision) -> Vec<String> {
        let _ = revision;
        Vec::new()
    }

    /// Whether [`Source::report`] does anything.
    fn reports(&self) -> bool {
        false
    }

    /// Tells people at the source what became of a version.
    ///
    /// # Errors
    /// When it cannot be written there.
    async fn report(&self, report: &Report) -> Result<(), SourceError> {
        let _ = report;
        Ok(())
    }

    /// Whether every version has to carry a signature that is trusted.
    fn verifies(&self) -> bool {
        false
    }

    /// Whether the document is this blob of a storage account; others have other documents' events sent here.
    fn is_blob(&self, container: &str, blob: &str) -> bool {
        let _ = (container, blob);
        false
    }

    /// Where the document is, in words for people. It holds no secret.
    fn origin(&self) -> String;
}

/// The version in force, which a new one follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Which.
    pub revision: Revision,
    /// [`Source::origin`] at that time.
    pub origin: String,
}

/// One version of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The text, which need not even be UTF-8.
    pub text: Vec<u8>,
    /// Its version.
    pub revision: Revision,
    /// What is known of where it comes from.
    pub provenance: Provenance,
}

/// Why a document was not replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// The document has its versions from elsewhere.
    #[error("the document comes from {origin}; change it there")]
    Connected {
        /// Where from.
        origin: String,
    },
    /// It is not the version that the caller has seen.
    #[error("{origin} has been changed meanwhile{}", .current.as_ref().map(|it| format!(": it is revision {it}")).unwrap_or_default())]
    Changed {
        /// Where.
        origin: String,
        /// What is there, if anything is.
        current: Option<Revision>,
    },
    /// It cannot be written.
    #[error("cannot write {origin}: {why}")]
    Failed {
        /// Where.
        origin: String,
        /// What the system said.
        why: String,
    },
}
