//! Names. All of them are DNS labels, because they become host names, file names and parts of resource names.
//!
//! Up to 23 characters they lie where the value lies: a pass copies and compares those of thousands of sessions.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No character at all.
    #[error("a {what} name cannot be empty")]
    Empty {
        /// What was to be named.
        what: &'static str,
    },
    /// Too many characters.
    #[error("a {what} name has at most {limit} characters, this one has {length}{why}")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// Characters found.
        length: usize,
        /// Characters allowed.
        limit: usize,
        /// Where the limit comes from.
        why: &'static str,
    },
    /// A character outside the alphabet, or a hyphen in a bad place.
    #[error(
        "a {what} name consists of lower-case letters, digits and single hyphens between them; {found} does not fit"
    )]
    Form {
        /// What was to be named.
        what: &'static str,
        /// The first thing that is wrong.
        found: String,
    },
}

fn check(what: &'static str, limit: usize, why: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if let Some(odd) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(NameError::Form { what, found: format!("{odd:?}") });
    }
    for (bad, place) in [
        (text.starts_with('-'), "a hyphen at the start"),
        (text.ends_with('-'), "a hyphen at the end"),
        (text.contains("--"), "a double hyphen"),
    ] {
        if bad {
            return Err(NameError::Form { what, found: place.to_owned() });
        }
    }
    if text.len() > limit {
        return Err(NameError::TooLong { what, length: text.len(), limit, why });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $limit:literal, $why:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(SmolStr);

        impl $type {
            /// Longest name in characters.
            pub const MAX: usize = $limit;

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check($what, $limit, $why, text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// Name of a deployment: 1 to 30 lower-case letters, digits and single hyphens between them. It is part of the names and
    /// tags of everything the deployment owns, and together with a session name it must fit the 63 characters that Azure
    /// allows a container group.
    DeploymentName, "deployment", 30, ""
}

name! {
    /// Name of a user: 1 to 63 lower-case letters, digits and single hyphens between them, a DNS label (RFC 1035, section
    /// 2.3.1), because the user can be found under it inside the tunnel.
    UserName, "user", 63, ", the limit of a DNS label"
}

name! {
    /// Name of a session: 1 to 15 lower-case letters, digits and single hyphens between them. The client's configuration file
    /// is named after it, and `wg-quick(8)` takes the name of that file as the name of a network interface, which Linux limits
    /// to 15 characters.
    SessionName, "session", 15, ", because WireGuard clients use it as the name of a network interface"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_without_double_hyphens() {
        for good in ["a", "alice-east", "7", "a1-b2-c3", "aaaaaaaaaaaaaaa"] {
            assert_eq!(good.parse::<SessionName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "a--b", "Alice", "a_b", "a.b", "a b", "é", "aaaaaaaaaaaaaaaa", "a\n"] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn each_kind_of_name_has_its_own_limit() {
        let text = "a".repeat(31);
        assert!(text.parse::<DeploymentName>().is_err());
        assert!(text[..30].parse::<DeploymentName>().is_ok());
        assert!("a".repeat(63).parse::<UserName>().is_ok());
        assert!("a".repeat(64).parse::<UserName>().is_err());
    }

    #[test]
    fn a_stored_name_is_checked_when_it_is_read_back() {
        let name: SessionName = "alice-east".parse().unwrap();
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(serde_json::from_str::<SessionName>(&json).unwrap(), name);
        assert!(serde_json::from_str::<SessionName>("\"../x\"").is_err());
    }
}
