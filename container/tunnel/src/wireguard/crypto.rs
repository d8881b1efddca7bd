//! The primitives that WireGuard is made of, under the names of the paper's section 5.4: HASH, MAC, KDF, DH, AEAD, XAEAD.
//!
//! What outlives a call is wiped when dropped. What the primitives leave on the stack while they compute is not.

use blake2::digest::consts::U16;
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use chacha20poly1305::{AeadInPlace as _, ChaCha20Poly1305, KeyInit as _, XChaCha20Poly1305};
use hmac::digest::FixedOutput as _;
use hmac::{Mac, SimpleHmac};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Bytes of an authentication tag.
pub(super) const TAG: usize = 16;

/// 32 bytes that are wiped when dropped.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// HASH(a ‖ b): BLAKE2s with 32 bytes of output.
pub(super) fn hash(a: &[u8], b: &[u8]) -> [u8; 32] {
    Blake2s256::new().chain_update(a).chain_update(b).finalize().into()
}

/// MAC(key, a ‖ b): keyed BLAKE2s with 16 bytes of output. A key has at most 32 bytes.
pub(super) fn mac(key: &[u8], a: &[u8], b: &[u8]) -> [u8; 16] {
    keyed(key).chain_update(a).chain_update(b).finalize().into_bytes().into()
}

/// Whether `tag` is MAC(key, message); takes the same time wherever it differs.
pub(super) fn mac_is(key: &[u8], message: &[u8], tag: &[u8]) -> bool {
    keyed(key).chain_update(message).verify_slice(tag).is_ok()
}

#[expect(clippy::expect_used, reason = "all keys here are constants of 16 or 32 bytes in length")]
fn keyed(key: &[u8]) -> Blake2sMac<U16> {
    <Blake2sMac<U16> as Mac>::new_from_slice(key).expect("a key of at most 32 bytes")
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn hmac(key: &[u8; 32], a: &[u8], b: &[u8]) -> Secret {
    let mac = <SimpleHmac<Blake2s256> as Mac>::new_from_slice(key).expect("a key of any length");
    let mut out = Zeroizing::new([0; 32]);
    mac.chain_update(a).chain_update(b).finalize_into((&mut *out).into());
    out
}

/// KDFn(key, input): HKDF over HMAC-BLAKE2s, `N` outputs (at most 3 are ever asked for).
pub(super) fn kdf<const N: usize>(key: &[u8; 32], input: &[u8]) -> [Secret; N] {
    let extracted = hmac(key, input, &[]);
    let mut previous: Option<Secret> = None;
    std::array::from_fn(|index| {
        let before = previous.as_deref().map_or(&[][..], |bytes| bytes.as_slice());
        let output = hmac(&extracted, before, &[index as u8 + 1]);
        previous = Some(output.clone());
        output
    })
}

/// DH(secret, public); `None` for points of low order, whose result would be no secret (RFC 7748, section 6.1).
pub(super) fn dh(secret: &StaticSecret, public: &[u8; 32]) -> Option<Secret> {
    let shared = secret.diffie_hellman(&PublicKey::from(*public));
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}

/// AEAD of the handshake, in place; its keys are used once, so the counter is zero.
pub(super) fn seal(key: &Secret, text: &mut [u8], authenticated: &[u8]) -> [u8; TAG] {
    let cipher = ChaCha20Poly1305::new((&**key).into());
    sealed(cipher.encrypt_in_place_detached(&[0; 12].into(), authenticated, text))
}

/// The way back; false when it is not authentic, and the text worthless then.
pub(super) fn open(key: &Secret, text: &mut [u8], tag: &[u8; TAG], authenticated: &[u8]) -> bool {
    let cipher = ChaCha20Poly1305::new((&**key).into());
    cipher.decrypt_in_place_detached(&[0; 12].into(), authenticated, text, tag.into()).is_ok()
}

/// XAEAD of cookies, in place.
pub(super) fn xseal(key: &[u8; 32], nonce: &[u8; 24], text: &mut [u8], authenticated: &[u8]) -> [u8; TAG] {
    let cipher = XChaCha20Poly1305::new(key.into());
    sealed(cipher.encrypt_in_place_detached(nonce.into(), authenticated, text))
}

/// The way back.
pub(super) fn xopen(
    key: &[u8; 32],
    nonce: &[u8; 24],
    text: &mut [u8],
    tag: &[u8; TAG],
    authenticated: &[u8],
) -> bool {
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt_in_place_detached(nonce.into(), authenticated, text, tag.into()).is_ok()
}

#[expect(clippy::expect_used, reason = "only texts of 256 GiB and more are refused")]
fn sealed(tag: Result<chacha20poly1305::Tag, chacha20poly1305::Error>) -> [u8; TAG] {
    tag.expect("a text of a few bytes").into()
}

/// Secrets drawn one after the other from one seed. Each draw replaces the key it was made with, so whoever reads the memory
/// later learns nothing about keys that were drawn before: forward secrecy rests on it.
pub(super) struct Entropy(Secret);

impl Entropy {
    /// `seed` must come from the system's random source and be used for nothing else.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// 32 bytes that nobody can guess.
    pub fn draw(&mut self) -> Secret {
        let [next, drawn] = kdf(&self.0, b"draw");
        self.0 = next;
        drawn
    }

    /// A number that nobody can guess.
    pub fn number(&mut self) -> u32 {
        let drawn = self.draw();
        u32::from_le_bytes([drawn[0], drawn[1], drawn[2], drawn[3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_alike_and_another_seed_gives_others() {
        let draws = |seed| {
            let mut entropy = Entropy::new([seed; 32]);
            (0..100).map(|_| *entropy.draw()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(draws(1).len(), 100);
        assert_eq!(draws(1), draws(1));
        assert!(draws(1).is_disjoint(&draws(2)));
    }

    #[test]
    fn a_point_of_low_order_gives_no_secret() {
        let secret = StaticSecret::from([7; 32]);
        assert!(dh(&secret, &[0; 32]).is_none());
        assert!(dh(&secret, PublicKey::from(&secret).as_bytes()).is_some());
    }
}
