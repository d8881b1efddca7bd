//! When something is due (WireGuard paper, section 6), as far as it does not depend on the sessions themselves.

use std::time::Duration;

use crate::Time;

// Section 6.1.
/// Messages after which a session is renewed.
pub(super) const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Messages after which a session is over.
pub(super) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age at which its initiator renews a session that it sends with.
pub(super) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age at which a session is over.
pub(super) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// How long an initiation is repeated for one packet that somebody wanted to send.
pub(super) const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// Time from an initiation to the next.
pub(super) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after data was received that is broken by a keepalive.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Age at which the initiator renews a session that it only receives with (6.2).
pub(super) const REKEY_ON_RECEIVE: Duration =
    REJECT_AFTER_TIME.checked_sub(KEEPALIVE_TIMEOUT).unwrap().checked_sub(REKEY_TIMEOUT).unwrap();
/// Silence after data was sent that makes us doubt the session (6.5).
const NO_ANSWER: Duration = Duration::from_secs(KEEPALIVE_TIMEOUT.as_secs() + REKEY_TIMEOUT.as_secs());
/// Time without a new session after which all keys are wiped (6.3).
const WIPE: Duration = Duration::from_secs(3 * REJECT_AFTER_TIME.as_secs());
/// Repetitions of an initiation are spread by up to this much, in milliseconds (6.1).
const JITTER: u32 = 333;

const NEVER: Time = Time::from_micros(u64::MAX);

/// What is due for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The initiation has to be repeated.
    Retransmit,
    /// A keepalive has to be sent.
    Keepalive,
    /// Nothing came back: a new session has to be made.
    NoAnswer,
    /// A keepalive has to be sent, or a session made, to hold a NAT open.
    Persistent,
    /// All keys have to be wiped.
    Wipe,
}

/// The timers of one peer. [`NEVER`] is a timer that does not run.
#[derive(Debug)]
pub(super) struct Timers {
    retransmit: Time,
    keepalive: Time,
    no_answer: Time,
    persistent: Time,
    wipe: Time,
    /// Interval of persistent keepalives; zero for none.
    interval: Duration,
    /// When this peer's initiations are repeated after 5 s: somewhat later, so that many peers do not act as one.
    jitter: Duration,
}

impl Timers {
    pub fn new(interval: Option<Duration>) -> Self {
        Self {
            retransmit: NEVER,
            keepalive: NEVER,
            no_answer: NEVER,
            persistent: NEVER,
            wipe: NEVER,
            interval: interval.unwrap_or_default(),
            jitter: Duration::ZERO,
        }
    }

    /// The first time at which something is due.
    #[inline]
    pub fn next(&self) -> Option<Time> {
        let first =
            self.retransmit.min(self.keepalive).min(self.no_answer).min(self.persistent).min(self.wipe);
        (first < NEVER).then_some(first)
    }

    /// What is due, one by one; its timer is stopped.
    pub fn pop(&mut self, now: Time) -> Option<Due> {
        let timers = [
            (&mut self.wipe, Due::Wipe),
            (&mut self.retransmit, Due::Retransmit),
            (&mut self.no_answer, Due::NoAnswer),
            (&mut self.keepalive, Due::Keepalive),
            (&mut self.persistent, Due::Persistent),
        ];
        let due = timers.into_iter().find(|(at, _)| **at <= now).map(|(at, due)| {
            *at = NEVER;
            due
        })?;
        if due == Due::Persistent {
            self.traversed(now);
        }
        Some(due)
    }

    /// A data message or keepalive was sent.
    #[inline]
    pub fn sent(&mut self, data: bool, now: Time) {
        self.keepalive = NEVER;
        if data && self.no_answer == NEVER {
            self.no_answer = now + NO_ANSWER + self.jitter;
        }
        self.traversed(now);
    }

    /// An authentic data message or keepalive came.
    #[inline]
    pub fn received(&mut self, data: bool, now: Time) {
        self.no_answer = NEVER;
        if data && self.keepalive == NEVER {
            self.keepalive = now + KEEPALIVE_TIMEOUT;
        }
        self.traversed(now);
    }

    #[inline]
    fn traversed(&mut self, now: Time) {
        if !self.interval.is_zero() {
            self.persistent = now + self.interval;
        }
    }

    /// An initiation was sent. `random` spreads its repetition.
    pub fn initiated(&mut self, random: u32, now: Time) {
        self.jitter = Duration::from_millis(u64::from(random % (JITTER + 1)));
        self.retransmit = now + REKEY_TIMEOUT + self.jitter;
        self.keepalive = NEVER;
        self.traversed(now);
    }

    /// A response was sent, and there are new keys.
    pub fn responded(&mut self, now: Time) {
        self.keepalive = NEVER;
        self.no_answer = NEVER;
        self.wipe = now + WIPE;
        self.traversed(now);
    }

    /// A response came, and there are new keys.
    pub fn completed(&mut self, now: Time) {
        self.retransmit = NEVER;
        self.no_answer = NEVER;
        self.wipe = now + WIPE;
        self.traversed(now);
    }

    /// The peer has used a session that we answered.
    pub fn confirmed(&mut self) {
        self.retransmit = NEVER;
    }

    /// The handshake is given up; keys that are still there get their end.
    pub fn gave_up(&mut self, now: Time) {
        self.keepalive = NEVER;
        if self.wipe == NEVER {
            self.wipe = now + WIPE;
        }
    }
}
