//! What became of a version, for people at the source.

use ebb_core::plan::Revision;

/// What is told about one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub revision: Revision,
    /// Of which deployment; several can take one document.
    pub deployment: String,
    /// In one word.
    pub standing: Standing,
    /// In one line.
    pub summary: String,
    /// In full.
    pub text: String,
}

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is in force, and not everything is as it wants it.
    Pending,
    /// Everything is.
    Success,
    /// It is refused.
    Failure,
    /// It is in force, and something that it does not decide keeps it from being done.
    Error,
}
