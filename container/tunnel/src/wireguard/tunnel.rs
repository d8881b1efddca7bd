//! The sessions with one peer and the handshakes that make them (WireGuard paper, sections 6.2 to 6.5).

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use super::cookie::Stamp;
use super::crypto::Entropy;
use super::handshake::{self, Claim, Identity, Pending, Remote, Timestamp};
use super::message::{COOKIE, DATA_HEADER, INITIATION, OVERHEAD, RESPONSE};
use super::peer::PeerId;
use super::session::Session;
use super::timers::{Due, REKEY_ATTEMPT_TIME, REKEY_ON_RECEIVE, REKEY_TIMEOUT, Timers};
use super::types::Share;
use crate::Time;

/// Packets that wait for a session; the oldest go first. As in the Linux module (`messages.h`, `MAX_STAGED_PACKETS`).
const KEPT: usize = 128;
/// Initiations of one peer that are answered in a second (`messages.h`, `INITIATIONS_PER_SECOND`): nobody needs more, and
/// each costs four multiplications of points.
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

/// What all peers of an endpoint share, for the events that are not about data.
pub(super) struct Shared<'a> {
    pub identity: &'a Identity,
    pub entropy: &'a mut Entropy,
    pub indices: &'a mut Indices,
    /// Whom the event is about.
    pub peer: PeerId,
    pub now: Time,
    /// The wall clock, as time since 1970.
    pub unix: Duration,
}

/// Whose are the indices that we have given out: of sessions, and of initiations that wait for their response.
#[derive(Default)]
pub(super) struct Indices {
    owners: HashMap<u32, PeerId>,
    pub share: Share,
}

impl Indices {
    #[inline]
    pub fn owner(&self, index: u32) -> Option<PeerId> {
        self.owners.get(&index).copied()
    }

    /// A random one of our share (5.4.2), so that nobody off the path can name a session.
    fn draw(&mut self, entropy: &mut Entropy, peer: PeerId) -> u32 {
        loop {
            let index = self.share.mark(entropy.number());
            if let hashbrown::hash_map::Entry::Vacant(free) = self.owners.entry(index) {
                free.insert(peer);
                return index;
            }
        }
    }

    fn release(&mut self, index: u32) {
        self.owners.remove(&index);
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.owners.len()
    }
}

/// Everything about keys with one peer. `None` as remote: its key is a point of low order, and nothing can be agreed on.
pub(super) struct Tunnel {
    remote: Option<Remote>,
    stamp: Stamp,
    pub timers: Timers,
    /// Initiations of ours that wait, the last one first. The one before may still be answered: on a long path a repetition
    /// can overtake the first answer.
    pending: [Option<Pending>; 2],
    current: Option<Box<Session>>,
    previous: Option<Box<Session>>,
    /// Sessions that we answered and the peer has not used yet, the last one first. Two for the same reason.
    next: [Option<Box<Session>>; 2],
    /// Of the newest initiation that was answered.
    answered: Timestamp,
    answered_at: Option<Time>,
    /// Of our own last initiation.
    stamped: u128,
    initiated_at: Option<Time>,
    /// When somebody last wanted a session that was not there.
    wanted_at: Time,
    /// Whether the current session was asked to be renewed because of its age on receiving.
    renewing: bool,
    /// Packets without a session, with space for header and tag.
    kept: VecDeque<Vec<u8>>,
}

/// A message that was decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Bytes of the packet; zero for a keepalive.
    pub length: usize,
    /// Whether it is the first proof that the peer has this session's keys.
    pub confirms: bool,
    /// Whether the session should be renewed.
    pub renew: bool,
}

/// What the timers ask for.
#[derive(Debug)]
pub(super) enum Expired {
    Initiation([u8; INITIATION]),
    Keepalive([u8; OVERHEAD]),
    Nothing,
}

impl Tunnel {
    pub fn new(remote: Option<Remote>, public: &[u8; 32], keepalive: Option<Duration>) -> Self {
        Self {
            remote,
            stamp: Stamp::new(public),
            timers: Timers::new(keepalive),
            pending: [None, None],
            current: None,
            previous: None,
            next: [None, None],
            answered: [0; 12],
            answered_at: None,
            stamped: 0,
            initiated_at: None,
            wanted_at: Time::ZERO,
            renewing: false,
            kept: VecDeque::new(),
        }
    }

    /// Decrypts a data message in place; `None` when it is not authentic, seen before, or of a session that is over.
    #[inline]
    pub fn open(&mut self, index: u32, datagram: &mut [u8], now: Time) -> Option<Opened> {
        let (session, confirms) = match &mut self.current {
            Some(current) if current.local == index => (current, false),
            _ => self.other_session(index)?,
        };
        if !session.is_alive(now) {
            return None;
        }
        let length = session.open(datagram)?;
        // 6.2: the initiator renews in time even when it only receives; but it asks once, not with every packet.
        let is_old = |session: &Session| session.initiator && now.since(session.born) >= REKEY_ON_RECEIVE;
        let renew = self.current.as_deref().is_some_and(is_old) && !self.renewing;
        self.renewing |= renew;
        self.timers.received(length > 0, now);
        Some(Opened { length, confirms, renew })
    }

    #[cold]
    fn other_session(&mut self, index: u32) -> Option<(&mut Box<Session>, bool)> {
        if let Some(previous) = self.previous.as_mut().filter(|session| session.local == index) {
            return Some((previous, false));
        }
        let next = self.next.iter_mut().flatten().find(|session| session.local == index)?;
        Some((next, true))
    }

    /// Makes a message of the packet of `length` bytes that lies behind the space for its header; `None` when there is no
    /// session for it.
    #[inline]
    pub fn seal(&mut self, message: &mut [u8], length: usize, data: bool, now: Time) -> Option<Sealed> {
        let session = self.current.as_mut().filter(|session| session.can_seal(now))?;
        let length = session.seal(message, length)?;
        let renew = session.is_to_be_renewed(now);
        self.timers.sent(data, now);
        Some(Sealed { length, renew })
    }

    /// Keeps a packet until there is a session.
    pub fn keep(&mut self, packet: &[u8]) {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        let mut message = vec![0; packet.len() + OVERHEAD];
        message[DATA_HEADER..DATA_HEADER + packet.len()].copy_from_slice(packet);
        self.kept.push_back(message);
    }

    /// The next packet that was kept, sealed.
    pub fn flush(&mut self, now: Time) -> Option<Vec<u8>> {
        if !self.current.as_ref().is_some_and(|session| session.can_seal(now)) {
            return None;
        }
        let mut message = self.kept.pop_front()?;
        let length = message.len() - OVERHEAD;
        self.seal(&mut message, length, length > 0, now)?;
        Some(message)
    }

    /// Whether, having sent, the session should be renewed.
    pub fn is_to_be_renewed(&self, now: Time) -> bool {
        self.current.as_ref().is_some_and(|session| session.is_to_be_renewed(now))
    }

    /// A keepalive: a message without a packet (6.5).
    pub fn keepalive(&mut self, now: Time) -> Option<[u8; OVERHEAD]> {
        let mut message = [0; OVERHEAD];
        self.seal(&mut message, 0, false, now)?;
        Some(message)
    }

    /// Makes an initiation because somebody needs a session, unless one was made within [`REKEY_TIMEOUT`] (6.4).
    pub fn want(&mut self, cx: &mut Shared<'_>) -> Option<[u8; INITIATION]> {
        self.wanted_at = cx.now;
        if self.initiated_at.is_some_and(|at| cx.now.since(at) < REKEY_TIMEOUT) {
            return None;
        }
        self.initiate(cx)
    }

    /// Makes an initiation, also when one is under way.
    pub fn insist(&mut self, cx: &mut Shared<'_>) -> Option<[u8; INITIATION]> {
        self.wanted_at = cx.now;
        self.initiate(cx)
    }

    fn initiate(&mut self, cx: &mut Shared<'_>) -> Option<[u8; INITIATION]> {
        let remote = self.remote.as_ref()?;
        let mut message = [0; INITIATION];
        let index = cx.indices.draw(cx.entropy, cx.peer);
        let timestamp = next_timestamp(&mut self.stamped, cx.unix);
        let ephemeral = cx.entropy.draw();
        let made = handshake::initiate(cx.identity, remote, &ephemeral, index, &timestamp, &mut message);
        let Some(pending) = made else {
            cx.indices.release(index);
            return None;
        };
        self.stamp.put(&mut message, cx.now);
        self.pending.swap(0, 1);
        if let Some(dropped) = self.pending[0].replace(pending) {
            cx.indices.release(dropped.index);
        }
        self.initiated_at = Some(cx.now);
        self.timers.initiated(cx.entropy.number(), cx.now);
        Some(message)
    }

    /// Answers an initiation; `None` when it is not authentic, not newer than the last one, or too soon after it.
    pub fn respond(&mut self, claim: Claim<'_>, cx: &mut Shared<'_>) -> Option<[u8; RESPONSE]> {
        if self.answered_at.is_some_and(|at| cx.now.since(at) < INITIATION_INTERVAL) {
            return None;
        }
        let remote = self.remote.as_ref()?;
        let initiation = claim.prove(remote)?;
        if initiation.timestamp <= self.answered {
            return None;
        }
        self.answered = initiation.timestamp;
        self.answered_at = Some(cx.now);
        let mut message = [0; RESPONSE];
        let index = cx.indices.draw(cx.entropy, cx.peer);
        let ephemeral = cx.entropy.draw();
        let Some(keys) = initiation.respond(remote, &ephemeral, index, &mut message) else {
            cx.indices.release(index);
            return None;
        };
        self.stamp.put(&mut message, cx.now);
        self.next.swap(0, 1);
        let dropped = self.next[0].replace(Session::new(&keys, index, false, cx.now));
        retire(dropped, cx.indices);
        self.timers.responded(cx.now);
        Some(message)
    }

    /// Takes the response to an initiation of ours: from here on its session is the current one (6.3).
    pub fn complete(&mut self, index: u32, message: &[u8; RESPONSE], cx: &mut Shared<'_>) -> bool {
        let waiting = self.pending.iter().flatten().find(|pending| pending.index == index);
        let Some(keys) = waiting.and_then(|pending| pending.complete(cx.identity, message)) else {
            return false;
        };
        for pending in self.pending.iter_mut().filter_map(Option::take) {
            if pending.index != index {
                cx.indices.release(pending.index);
            }
        }
        let mut before = self.current.replace(Session::new(&keys, index, true, cx.now));
        // When both sides have made an initiation at the same time, each answered the other's: what the peer sends comes by
        // the session that we answered.
        for next in self.next.iter_mut().rev().filter_map(Option::take) {
            retire(before.replace(next), cx.indices);
        }
        retire(std::mem::replace(&mut self.previous, before), cx.indices);
        self.renewing = false;
        self.timers.completed(cx.now);
        true
    }

    /// The peer has used a session that we answered: from here on it is the current one (6.3).
    pub fn confirm(&mut self, index: u32, cx: &mut Shared<'_>) {
        let mut confirmed = None;
        for next in self.next.iter_mut().filter_map(Option::take) {
            if next.local == index {
                confirmed = Some(next);
            } else {
                retire(Some(next), cx.indices);
            }
        }
        let before = std::mem::replace(&mut self.current, confirmed);
        let before = std::mem::replace(&mut self.previous, before);
        retire(before, cx.indices);
        self.renewing = false;
        self.timers.confirmed();
    }

    /// Takes a cookie for our next handshake message.
    pub fn take_cookie(&mut self, message: &[u8; COOKIE], now: Time) -> bool {
        self.stamp.take(message, now)
    }

    /// Does what is due next; `None` when nothing is.
    pub fn expire(&mut self, cx: &mut Shared<'_>) -> Option<Expired> {
        let message = match self.timers.pop(cx.now)? {
            Due::Retransmit if cx.now.since(self.wanted_at) >= REKEY_ATTEMPT_TIME => {
                self.give_up(cx);
                None
            }
            Due::Retransmit => self.initiate(cx).map(Expired::Initiation),
            Due::NoAnswer => self.want(cx).map(Expired::Initiation),
            Due::Keepalive => self.keepalive(cx.now).map(Expired::Keepalive),
            Due::Persistent => match self.keepalive(cx.now) {
                Some(message) => Some(Expired::Keepalive(message)),
                None => self.want(cx).map(Expired::Initiation),
            },
            Due::Wipe => {
                self.wipe(cx.indices);
                None
            }
        };
        Some(message.unwrap_or(Expired::Nothing))
    }

    fn give_up(&mut self, cx: &mut Shared<'_>) {
        self.kept.clear();
        for pending in self.pending.iter_mut().filter_map(Option::take) {
            cx.indices.release(pending.index);
        }
        self.timers.gave_up(cx.now);
    }

    /// Forgets all keys, and the names for them.
    pub fn wipe(&mut self, indices: &mut Indices) {
        for pending in self.pending.iter_mut().filter_map(Option::take) {
            indices.release(pending.index);
        }
        let sessions = [&mut self.current, &mut self.previous].into_iter().chain(&mut self.next);
        for session in sessions {
            retire(session.take(), indices);
        }
    }
}

/// A message that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub length: usize,
    /// Whether the session should be renewed.
    pub renew: bool,
}

fn retire(session: Option<Box<Session>>, indices: &mut Indices) {
    if let Some(session) = session {
        indices.release(session.local);
    }
}

/// The wall clock as TAI64N, always greater than the last one: initiations can be closer together than the clock is fine,
/// and the clock can be set back. Rounded to 2^24 ns, about 17 ms, so that it tells little about the machine.
fn next_timestamp(last: &mut u128, unix: Duration) -> Timestamp {
    /// TAI64 label of 1970, with the ten seconds by which TAI was ahead then.
    const EPOCH: u64 = (1 << 62) + 10;
    let rounded = unix.as_nanos() >> 24 << 24;
    *last = rounded.max(*last + 1);
    let (seconds, nanos) = ((*last / 1_000_000_000) as u64, (*last % 1_000_000_000) as u32);
    let mut timestamp = [0; 12];
    timestamp[..8].copy_from_slice(&EPOCH.wrapping_add(seconds).to_be_bytes());
    timestamp[8..].copy_from_slice(&nanos.to_be_bytes());
    timestamp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_grow_although_the_clock_stands_or_goes_back() {
        let mut last = 0;
        // Half a second, so that rounding does not change the second.
        let at = Duration::from_millis(1_700_000_000_500);
        let first = next_timestamp(&mut last, at);
        assert_eq!(first[..8], (0x4000_0000_0000_000a + 1_700_000_000_u64).to_be_bytes());
        let second = next_timestamp(&mut last, at);
        let third = next_timestamp(&mut last, at - Duration::from_secs(100));
        let fourth = next_timestamp(&mut last, at + Duration::from_secs(1));
        assert!(first < second && second < third && third < fourth);
    }
}
