//! Hashes of API keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// SHA-256 of nothing: what `printf '' | sha256sum` gives when the variable with the key was empty.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// SHA-256 of one line feed: the same mishap with `echo`.
const OF_LINE_FEED: &str = "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";

/// SHA-256 of an API key. Keys are random and long, so their hash needs neither salt nor stretching and is no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKeyHash([u8; 32]);

/// Why a text is no hash of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not 64 hexadecimal digits.
    #[error("a SHA-256 hash is 64 hexadecimal digits, for example from `printf %s \"$KEY\" | sha256sum`")]
    Form,
    /// Everybody knows a key that gives this hash.
    #[error("this is the hash of an empty key, which everybody can guess")]
    EmptyKey,
}

impl ApiKeyHash {
    /// The 32 bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for ApiKeyHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for ApiKeyHash {
    type Err = HashError;

    /// Reads 64 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self, HashError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(HashError::Form);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(HashError::Form);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| HashError::Form)?;
        }
        let hash = Self(bytes);
        let canonical = hash.to_string();
        if canonical == OF_NOTHING || canonical == OF_LINE_FEED {
            return Err(HashError::EmptyKey);
        }
        Ok(hash)
    }
}

impl fmt::Display for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeyHash({self})")
    }
}

impl Serialize for ApiKeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApiKeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_in_either_case_and_written_in_lower_case() {
        let lower = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(lower.to_uppercase().parse::<ApiKeyHash>().unwrap().to_string(), lower);
    }

    #[test]
    fn the_hash_of_an_empty_key_is_refused() {
        for text in [OF_NOTHING, OF_LINE_FEED] {
            assert_eq!(text.parse::<ApiKeyHash>(), Err(HashError::EmptyKey));
        }
    }

    #[test]
    fn text_that_is_no_hash_is_refused() {
        for text in ["", "abc", &"g".repeat(64), &"é".repeat(32), &"a".repeat(63), &"+f".repeat(32)] {
            assert_eq!(text.parse::<ApiKeyHash>(), Err(HashError::Form), "{text}");
        }
    }
}
