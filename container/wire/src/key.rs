//! Curve25519 keys in WireGuard's text form: 32 bytes as 44 characters of standard base64 (`wg(8)`, "KEY").

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Why a text is no key. Never quotes the text: it may be a private key in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The length or the alphabet is wrong.
    #[error(
        "a WireGuard key is 44 characters of base64 ending in '='; make one with `ebb keygen` or `wg genkey | wg pubkey`"
    )]
    Form,
    /// All-zero and other low-order points make every shared secret predictable (RFC 7748, section 6.1).
    #[error("this key is a point of low order, which no WireGuard implementation accepts")]
    LowOrder,
}

/// A peer's public key: who somebody is, everywhere in Ebb.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key's 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = decode(text)?;
        // Multiplying by any clamped scalar sends exactly the low-order points to zero.
        if x25519_dalek::x25519([8; 32], *key) == [0; 32] {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(*key))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A private key. It is wiped when dropped and shows itself to no formatter.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; 32]);

impl PrivateKey {
    /// Makes a key of 32 random bytes, clamped as RFC 7748, section 5 asks.
    #[must_use]
    pub fn from_random(mut random: [u8; 32]) -> Self {
        random[0] &= 248;
        random[31] = (random[31] & 127) | 64;
        let key = Self(random);
        random.zeroize();
        key
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::x25519(self.0, x25519_dalek::X25519_BASEPOINT_BYTES))
    }

    /// The secret in WireGuard's text form. Whoever calls this is about to write a secret.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0))
    }

    /// The secret's bytes, for a WireGuard implementation.
    #[must_use]
    pub fn reveal_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Ok(Self(*decode(text)?))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.reveal())
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 44 {
        return Err(KeyError::Form);
    }
    match BASE64.decode_slice(text, bytes.as_mut_slice()) {
        Ok(32) => Ok(bytes),
        Ok(_) | Err(_) => Err(KeyError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Key pair printed by `wg genkey` and `wg pubkey` of wireguard-tools 1.0.20210914.
    const PRIVATE: &str = "4GhXWWcSPcsPTZWWHlo3HTiGBPOoN8MGpfkx2LU32kQ=";
    const PUBLIC: &str = "IeHA7FgDFBQqH9W0WcqIOUSzkQSbIpowPYLh79VKv3s=";

    #[test]
    fn a_private_key_gives_the_public_key_that_wg_gives() {
        let private: PrivateKey = PRIVATE.parse().unwrap();
        assert_eq!(private.public().to_string(), PUBLIC);
        assert_eq!(*private.reveal(), PRIVATE);
    }

    #[test]
    fn a_private_key_shows_itself_to_no_formatter() {
        let private: PrivateKey = PRIVATE.parse().unwrap();
        assert!(!format!("{private:?}").contains(&PRIVATE[..8]));
    }

    #[test]
    fn text_that_is_no_key_is_refused_without_being_quoted() {
        for text in ["", "short", &PRIVATE[..43], "4GhXWWcSPcsPTZWWHlo3HTiGBPOoN8MGpfkx2LU32k!="] {
            let error = text.parse::<PublicKey>().unwrap_err();
            assert_eq!(error, KeyError::Form);
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
    }

    #[test]
    fn points_of_low_order_are_no_public_keys() {
        for bytes in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            let text = PublicKey::from(bytes).to_string();
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::LowOrder));
        }
    }
}
