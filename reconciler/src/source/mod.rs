//! Where the desired-state document comes from.

#[cfg(feature = "azure")]
mod blob;
mod file;

use async_trait::async_trait;
use ebb_core::plan::Revision;

#[cfg(feature = "azure")]
pub use blob::BlobSource;
pub use file::FileSource;

/// A place that holds the document.
///
/// # Guarantees
/// - [`Source::fetch`] returns one version of the document as a whole, never a mixture of two.
/// - Equal text has an equal revision.
///
/// # Assumptions
/// - The text may be anything: the caller decides whether it is a valid document.
#[async_trait]
pub trait Source: Send + Sync {
    /// The document as it is now.
    async fn fetch(&self) -> Result<Fetched, SourceError>;

    /// Resolves when a fetch would probably bring something new. It may be wrong either way, so fetch now and then as well.
    async fn changed(&self);

    /// Where the document is, in words for people.
    fn origin(&self) -> String;
}

/// One version of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The text, which need not even be UTF-8.
    pub text: Vec<u8>,
    /// Its version.
    pub revision: Revision,
}

/// Why the document could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the desired state from {origin}: {why}")]
pub struct SourceError {
    /// Where it should be.
    pub origin: String,
    /// What is wrong.
    pub why: String,
}
