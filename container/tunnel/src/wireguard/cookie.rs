//! The two MACs of handshake messages and the cookies that make the second one (WireGuard paper, sections 5.3, 5.4.4 and
//! 5.4.7): who does not know our key gets no answer at all, and, when too many handshakes come, who cannot receive at the
//! address that he sends from costs us two hashes and one short answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use zeroize::Zeroizing;

use super::crypto::{Entropy, Secret, hash, mac, mac_is, xopen, xseal};
use super::message::{COOKIE, TYPE_COOKIE, part};
use crate::Time;

/// Bytes of each MAC; both stand at the end of a message.
const MAC: usize = 16;
/// How long one secret makes cookies.
const SECRET_AGE: Duration = Duration::from_secs(120);
/// How long a cookie that we were given is used: what its secret lives, less the time that messages may be under way.
const COOKIE_AGE: Duration = Duration::from_secs(115);

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

/// Keys of MACs and cookies that anybody can compute who knows the receiver's public key.
struct Labels {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl Labels {
    fn of(receiver: &[u8; 32]) -> Self {
        Self { mac1: hash(LABEL_MAC1, receiver), cookie: hash(LABEL_COOKIE, receiver) }
    }
}

/// The receiver's half: checks messages to us and gives out cookies.
pub(super) struct Gate {
    labels: Labels,
    secret: Secret,
    secret_since: Time,
}

impl Gate {
    pub fn new(public: &[u8; 32], entropy: &mut Entropy, now: Time) -> Self {
        Self { labels: Labels::of(public), secret: entropy.draw(), secret_since: now }
    }

    /// Whether the sender knows our public key.
    pub fn has_mac1(&self, message: &[u8]) -> bool {
        split(message).is_some_and(|(text, mac1, _)| mac_is(&self.labels.mac1, text, mac1))
    }

    /// Whether the sender has received at its address lately.
    pub fn has_mac2(&mut self, message: &[u8], from: SocketAddr, entropy: &mut Entropy, now: Time) -> bool {
        let cookie = self.cookie(from, entropy, now);
        let Some((_, _, mac2)) = split(message) else { return false };
        mac_is(&*cookie, &message[..message.len() - MAC], mac2)
    }

    /// A cookie for the sender of a message, encrypted so that only who saw the message can read it.
    pub fn reply(
        &mut self,
        message: &[u8],
        from: SocketAddr,
        entropy: &mut Entropy,
        now: Time,
    ) -> [u8; COOKIE] {
        let mut reply = [0; COOKIE];
        let Some((_, mac1, _)) = split(message) else { return reply };
        let cookie = self.cookie(from, entropy, now);
        let nonce = entropy.draw();
        let nonce = nonce.first_chunk().unwrap_or(&[0; 24]);
        reply[..4].copy_from_slice(&TYPE_COOKIE);
        // The sender's index, which both kinds of message carry behind their type.
        reply[4..8].copy_from_slice(&message[4..8]);
        reply[8..32].copy_from_slice(nonce);
        reply[32..48].copy_from_slice(&*cookie);
        let tag = xseal(&self.labels.cookie, nonce, &mut reply[32..48], mac1);
        reply[48..].copy_from_slice(&tag);
        reply
    }

    /// MAC of address and port under a secret that is replaced every two minutes.
    fn cookie(&mut self, from: SocketAddr, entropy: &mut Entropy, now: Time) -> Zeroizing<[u8; MAC]> {
        if now.since(self.secret_since) >= SECRET_AGE {
            self.secret = entropy.draw();
            self.secret_since = now;
        }
        let port = from.port().to_be_bytes();
        Zeroizing::new(match from.ip() {
            IpAddr::V4(v4) => mac(&*self.secret, &v4.octets(), &port),
            IpAddr::V6(v6) => mac(&*self.secret, &v6.octets(), &port),
        })
    }
}

/// The sender's half: MACs for messages to one peer, and the cookie that it gave us.
pub(super) struct Stamp {
    labels: Labels,
    cookie: Option<(Zeroizing<[u8; MAC]>, Time)>,
    /// First MAC of the last message, which the answer must be made for.
    last: [u8; MAC],
    /// Whether a cookie for that message has not come yet.
    waiting: bool,
}

impl Stamp {
    pub fn new(peer: &[u8; 32]) -> Self {
        Self { labels: Labels::of(peer), cookie: None, last: [0; MAC], waiting: false }
    }

    /// Writes both MACs to the end of a message.
    pub fn put(&mut self, message: &mut [u8], now: Time) {
        let Some(end) = message.len().checked_sub(2 * MAC) else { return };
        self.last = mac(&self.labels.mac1, &message[..end], &[]);
        self.waiting = true;
        message[end..end + MAC].copy_from_slice(&self.last);
        self.cookie.take_if(|(_, since)| now.since(*since) >= COOKIE_AGE);
        let mac2 =
            self.cookie.as_ref().map_or([0; MAC], |(cookie, _)| mac(&**cookie, &message[..end + MAC], &[]));
        message[end + MAC..].copy_from_slice(&mac2);
    }

    /// Takes a cookie reply to our last message; false when it is none.
    pub fn take(&mut self, reply: &[u8; COOKIE], now: Time) -> bool {
        let mut cookie = Zeroizing::new(*part::<32, MAC, _>(reply));
        let nonce = part::<8, 24, _>(reply);
        let tag = part::<48, 16, _>(reply);
        if !self.waiting || !xopen(&self.labels.cookie, nonce, &mut *cookie, tag, &self.last) {
            return false;
        }
        self.waiting = false;
        self.cookie = Some((cookie, now));
        true
    }
}

/// A message without its MACs, the first one and the second.
fn split(message: &[u8]) -> Option<(&[u8], &[u8; MAC], &[u8; MAC])> {
    let (rest, mac2) = message.split_last_chunk()?;
    let (text, mac1) = rest.split_last_chunk()?;
    Some((text, mac1, mac2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVER: [u8; 32] = [9; 32];

    fn ends() -> (Gate, Stamp, Entropy) {
        let mut entropy = Entropy::new([1; 32]);
        (Gate::new(&RECEIVER, &mut entropy, Time::ZERO), Stamp::new(&RECEIVER), entropy)
    }

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_cookie_makes_the_second_mac_for_its_address_and_port_and_for_two_minutes() {
        let (mut gate, mut stamp, mut entropy) = ends();
        let mut message = [5; 148];
        stamp.put(&mut message, Time::ZERO);
        assert!(gate.has_mac1(&message));
        assert!(!gate.has_mac2(&message, from(1), &mut entropy, Time::ZERO));
        let reply = gate.reply(&message, from(1), &mut entropy, Time::ZERO);
        assert!(stamp.take(&reply, Time::ZERO));
        assert!(!stamp.take(&reply, Time::ZERO), "an answer is taken once");

        stamp.put(&mut message, Time::ZERO);
        let late = Time::ZERO + Duration::from_secs(119);
        assert!(gate.has_mac2(&message, from(1), &mut entropy, late));
        assert!(!gate.has_mac2(&message, from(2), &mut entropy, late));
        assert!(!gate.has_mac2(&message, from(1), &mut entropy, late + Duration::from_secs(1)));
        stamp.put(&mut message, Time::ZERO + COOKIE_AGE);
        assert_eq!(message[132..], [0; 16], "an old cookie is not used");
    }

    #[test]
    fn a_message_or_reply_that_was_changed_is_not_accepted() {
        let (mut gate, mut stamp, mut entropy) = ends();
        let mut message = [5; 92];
        stamp.put(&mut message, Time::ZERO);
        for at in 0..message.len() - MAC {
            let mut changed = message;
            changed[at] ^= 1;
            assert!(!gate.has_mac1(&changed), "{at}");
        }
        let reply = gate.reply(&message, from(1), &mut entropy, Time::ZERO);
        for at in 8..reply.len() {
            let mut changed = reply;
            changed[at] ^= 1;
            assert!(!stamp.take(&changed, Time::ZERO), "{at}");
        }
        assert!(stamp.take(&reply, Time::ZERO));
    }
}
