//! One pair of keys and what they carry (WireGuard paper, sections 5.4.5 and 5.4.6): encryption in place, counters, age.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::crypto::TAG;
use super::handshake::Keys;
use super::message::{DATA_HEADER, TYPE_DATA};
use super::replay::Window;
use super::timers::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME};
use crate::Time;

/// A session. Its keys are wiped when it is dropped.
pub(super) struct Session {
    seal: Cipher,
    open: Cipher,
    /// Index of what the peer sends.
    pub local: u32,
    /// Index of what we send.
    pub remote: u32,
    /// Of the next message.
    counter: u64,
    window: Window,
    pub born: Time,
    /// Whether we made the initiation: the initiator is who renews a session (6.2), so that not both do at once.
    pub initiator: bool,
}

impl Session {
    pub fn new(keys: &Keys, local: u32, initiator: bool, now: Time) -> Box<Self> {
        Box::new(Self {
            seal: Cipher::new(&keys.send),
            open: Cipher::new(&keys.receive),
            local,
            remote: keys.remote,
            counter: 0,
            window: Window::default(),
            born: now,
            initiator,
        })
    }

    /// Whether it may still be used (6.2).
    #[inline]
    pub fn is_alive(&self, now: Time) -> bool {
        now.since(self.born) < REJECT_AFTER_TIME
    }

    /// Whether something can be sent with it.
    #[inline]
    pub fn can_seal(&self, now: Time) -> bool {
        self.is_alive(now) && self.counter < REJECT_AFTER_MESSAGES
    }

    /// Whether, after sending with it, a new one should be made (6.2).
    #[inline]
    pub fn is_to_be_renewed(&self, now: Time) -> bool {
        self.counter >= REKEY_AFTER_MESSAGES || (self.initiator && now.since(self.born) >= REKEY_AFTER_TIME)
    }

    /// Makes a message of the packet of `length` bytes, padding included, that lies in `message` behind the space for the
    /// header. Returns the length of the message; `message` must hold it.
    #[inline]
    pub fn seal(&mut self, message: &mut [u8], length: usize) -> Option<usize> {
        let (header, rest) = message.split_first_chunk_mut::<DATA_HEADER>()?;
        let (text, rest) = rest.split_at_mut_checked(length)?;
        let place = rest.first_chunk_mut::<TAG>()?;
        let counter = self.counter;
        self.counter += 1;
        header[..4].copy_from_slice(&TYPE_DATA);
        header[4..8].copy_from_slice(&self.remote.to_le_bytes());
        header[8..].copy_from_slice(&counter.to_le_bytes());
        let tag = self.seal.0.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text).ok()?;
        place.copy_from_slice(tag.as_ref());
        Some(DATA_HEADER + length + TAG)
    }

    /// Decrypts a message in place and returns the length of the packet, which begins behind the header; `None` for what is
    /// old, seen before or not authentic.
    #[inline]
    pub fn open(&mut self, message: &mut [u8]) -> Option<usize> {
        let (header, text) = message.split_first_chunk_mut::<DATA_HEADER>()?;
        let counter = u64::from_le_bytes(*header.last_chunk()?);
        // A counter that is not new costs nothing. It is remembered only once the message has proven to be authentic.
        if counter >= REJECT_AFTER_MESSAGES || !self.window.is_new(counter) {
            return None;
        }
        let length = self.open.0.open_in_place(nonce(counter), Aad::empty(), text).ok()?.len();
        self.window.accept(counter).then_some(length)
    }

    #[cfg(test)]
    pub fn set_counter(&mut self, counter: u64) {
        self.counter = counter;
    }
}

/// 32 zero bits and the counter (5.4.6).
#[inline]
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// The key of one direction, expanded once.
struct Cipher(Box<LessSafeKey>);

impl Cipher {
    #[expect(clippy::expect_used, reason = "the length of the key is in its type")]
    fn expand(key: &[u8; 32]) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes"))
    }

    fn new(key: &[u8; 32]) -> Self {
        Self(Box::new(Self::expand(key)))
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        // ring does not wipe its keys; another key over it does. What is looked at afterwards cannot be left unwritten.
        *self.0 = Self::expand(&[0; 32]);
        std::hint::black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::crypto::Secret;

    fn pair() -> (Box<Session>, Box<Session>) {
        let keys = |send, receive, remote| Keys {
            send: Secret::new([send; 32]),
            receive: Secret::new([receive; 32]),
            remote,
        };
        (
            Session::new(&keys(1, 2, 20), 10, true, Time::ZERO),
            Session::new(&keys(2, 1, 10), 20, false, Time::ZERO),
        )
    }

    fn seal(session: &mut Session, text: &[u8]) -> Vec<u8> {
        let mut message = vec![0; text.len() + 32];
        message[16..16 + text.len()].copy_from_slice(text);
        assert_eq!(session.seal(&mut message, text.len()), Some(message.len()));
        message
    }

    #[test]
    fn what_one_side_seals_the_other_opens_once() {
        let (mut one, mut other) = pair();
        let mut message = seal(&mut one, b"sixteen bytes...");
        let mut copy = message.clone();
        assert_eq!(other.open(&mut message), Some(16));
        assert_eq!(&message[16..32], b"sixteen bytes...");
        assert_eq!(other.open(&mut copy), None);
    }

    #[test]
    fn a_forged_message_does_not_use_up_its_counter() {
        let (mut one, mut other) = pair();
        let message = seal(&mut one, b"data");
        let mut forged = message.clone();
        forged[17] ^= 1;
        assert_eq!(other.open(&mut forged), None);
        assert_eq!(other.open(&mut message.clone()), Some(4));
    }

    #[test]
    fn a_session_ends_with_its_last_counter_and_is_renewed_long_before() {
        let (mut one, mut other) = pair();
        assert!(!one.is_to_be_renewed(Time::ZERO));
        one.set_counter(REKEY_AFTER_MESSAGES);
        assert!(one.is_to_be_renewed(Time::ZERO) && one.can_seal(Time::ZERO));
        one.set_counter(REJECT_AFTER_MESSAGES - 1);
        assert_eq!(other.open(&mut seal(&mut one, b"last")), Some(4));
        assert!(!one.can_seal(Time::ZERO));
        // Whoever sends on all the same is not listened to.
        assert_eq!(other.open(&mut seal(&mut one, b"more")), None);
    }

    #[test]
    fn a_buffer_that_is_too_short_is_refused() {
        let (mut one, _) = pair();
        assert_eq!(one.seal(&mut [0; 47], 16), None);
        assert_eq!(one.seal(&mut [0; 10], 0), None);
    }
}
