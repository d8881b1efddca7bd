//! Why a version of the document is not taken into force.

use ebb_core::plan::Revision;
use ebb_desired_state::Fault;
use serde::{Deserialize, Serialize};

/// The closed list of reasons. They are the reasons of the condition `DocumentAccepted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// The source cannot be reached.
    FetchFailed,
    /// There is no document.
    Missing,
    /// What is there is a directory, a symbolic link of a repository, or a submodule.
    NotAFile,
    /// It is larger than any document.
    TooLarge,
    /// It is not UTF-8, or has zero bytes in it.
    NotText,
    /// It says nothing.
    Empty,
    /// Its promised end is missing.
    Truncated,
    /// It has more values, or deeper ones, than any document, with aliases counted as what they stand for.
    TooComplex,
    /// It breaks a rule.
    Invalid,
    /// It is the document of another deployment.
    OtherDeployment,
    /// Nobody signed it.
    Unsigned,
    /// Nobody who is trusted signed it.
    Untrusted,
    /// The version in force is not among its ancestors.
    HistoryRewritten,
    /// It cannot be kept, so it must not count.
    NotKept,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::FetchFailed,
        Self::Missing,
        Self::NotAFile,
        Self::TooLarge,
        Self::NotText,
        Self::Empty,
        Self::Truncated,
        Self::TooComplex,
        Self::Invalid,
        Self::OtherDeployment,
        Self::Unsigned,
        Self::Untrusted,
        Self::HistoryRewritten,
        Self::NotKept,
    ];

    /// One word in CamelCase.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FetchFailed => "FetchFailed",
            Self::Missing => "Missing",
            Self::NotAFile => "NotAFile",
            Self::TooLarge => "TooLarge",
            Self::NotText => "NotText",
            Self::Empty => "Empty",
            Self::Truncated => "Truncated",
            Self::TooComplex => "TooComplex",
            Self::Invalid => "Invalid",
            Self::OtherDeployment => "OtherDeployment",
            Self::Unsigned => "Unsigned",
            Self::Untrusted => "Untrusted",
            Self::HistoryRewritten => "HistoryRewritten",
            Self::NotKept => "NotKept",
        }
    }

    /// Whether the document could not even be had.
    #[must_use]
    pub const fn is_about_the_source(self) -> bool {
        matches!(self, Self::FetchFailed | Self::Missing)
    }

    /// Whether a signature is the matter.
    #[must_use]
    pub const fn is_about_trust(self) -> bool {
        matches!(self, Self::Unsigned | Self::Untrusted)
    }

    /// Whether what stands in the document is the matter, and not how it came here.
    #[must_use]
    pub const fn is_about_the_document(self) -> bool {
        matches!(
            self,
            Self::TooLarge
                | Self::NotText
                | Self::Empty
                | Self::Truncated
                | Self::TooComplex
                | Self::Invalid
                | Self::OtherDeployment
        )
    }
}

impl From<Fault> for Reason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Invalid => Self::Invalid,
            Fault::TooComplex => Self::TooComplex,
            Fault::Truncated => Self::Truncated,
            Fault::NotText => Self::NotText,
            Fault::TooLarge => Self::TooLarge,
            Fault::Empty => Self::Empty,
        }
    }
}

/// Why the document could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot take the desired state from {origin}: {why}")]
pub struct SourceError {
    /// Where it should be.
    pub origin: String,
    /// What kind of thing is wrong.
    pub reason: Reason,
    /// What is wrong, and what to do.
    pub why: String,
    /// The version that is refused, if it is known.
    pub revision: Option<Revision>,
}
