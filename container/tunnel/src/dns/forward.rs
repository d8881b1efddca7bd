//! The part of the resolver that talks to upstreams.

use std::net::SocketAddr;
use std::sync::Arc;

use domain::base::MessageBuilder;
use domain::base::iana::{ExtendedErrorCode, OptRcode};
use rand::RngExt as _;

use super::cache::Outcome;
use super::outstanding::Sent;
use super::query::{Failure, Question};
use super::reply::{self, Heard};
use super::{Attempt, Resolver, Transport, Upstream};
use crate::Time;

const NO_UPSTREAM: Failure = Failure::new(
    OptRcode::SERVFAIL,
    ExtendedErrorCode::NO_REACHABLE_AUTHORITY,
    "the session has no upstream resolver",
);
const SILENT: Failure = Failure::new(
    OptRcode::SERVFAIL,
    ExtendedErrorCode::NO_REACHABLE_AUTHORITY,
    "no upstream resolver answered in time",
);
const NO_ANSWER: Failure =
    Failure::new(OptRcode::SERVFAIL, ExtendedErrorCode::NETWORK_ERROR, "no upstream resolver has an answer");
const REBINDING: Failure = Failure::new(
    OptRcode::REFUSED,
    ExtendedErrorCode::BLOCKED,
    "the name leads into a private network that this session has no route to (DNS rebinding)",
);

impl Resolver {
    /// Asks the next upstream that may have an answer, beside those whose answer may still come; gives up when nobody is
    /// left.
    pub(super) fn send_next(&mut self, number: u64, now: Time) {
        self.advance(number, &[], now);
    }

    /// The same, but leaves `busy` upstreams alone: they have been asked and their time is not over.
    fn advance(&mut self, number: u64, busy: &[SocketAddr], now: Time) {
        let attempts = self.settings.attempts;
        let Some(open) = self.outstanding.get(number) else { return };
        let count = open.candidates.len();
        let places = || (0..count).map(|step| (open.next + step) % count);
        let hopeful: Vec<_> =
            places().filter(|&place| !open.failed.contains(&open.candidates[place])).collect();
        if hopeful.is_empty() {
            let failure = if count == 0 { NO_UPSTREAM } else { NO_ANSWER };
            return self.give_up(number, failure, now);
        }
        let exhausted = open.sent >= attempts;
        if exhausted && open.live.is_empty() {
            return self.give_up(number, NO_ANSWER, now);
        }
        let free = hopeful.into_iter().find(|&place| !busy.contains(&open.candidates[place]));
        let Some(place) = free else { return };
        if exhausted {
            let deadline = open.deadline;
            return self.outstanding.set_timer(number, deadline);
        }
        let to = open.candidates[place];
        open.next = place + 1;
        open.sent += 1;
        let timeout = self.settings.first_timeout.saturating_mul(1 << (open.sent - 1).min(16));
        self.outstanding.set_timer(number, now + timeout);
        self.send(number, to, Transport::Udp);
    }

    fn send(&mut self, number: u64, to: SocketAddr, transport: Transport) {
        let Some(open) = self.outstanding.get(number) else { return };
        let edns = !open.plain.contains(&to);
        let id = self.random.random();
        let announce = edns.then_some(self.settings.udp_payload);
        let message = query(&open.question, id, announce, self.settings.trust_ad);
        let attempt = Attempt(self.attempts);
        self.attempts += 1;
        self.stats.attempts += 1;
        self.stats.tcp_attempts += u64::from(transport == Transport::Tcp);
        let sent = Sent { open: number, to, transport, id, edns, forgeries: 0 };
        let replaced = self.outstanding.add_attempt(attempt, sent);
        self.commands.push_back(Upstream::Ask { attempt, to, transport, message });
        self.commands.extend(replaced.into_iter().map(|attempt| Upstream::Forget { attempt }));
    }

    /// The timer of a question has run out.
    pub(super) fn overdue(&mut self, number: u64, now: Time) {
        let avoid = now + self.settings.avoid;
        let Some(open) = self.outstanding.get(number) else { return };
        let (newest, deadline) = (open.live.back().copied(), open.deadline);
        if let Some(sent) = newest.and_then(|attempt| self.outstanding.attempt(attempt)) {
            self.stats.timeouts += 1;
            self.upstreams.bad(sent.to, avoid);
        }
        if now >= deadline {
            self.give_up(number, SILENT, now);
        } else {
            self.send_next(number, now);
        }
    }

    pub(super) fn broken(&mut self, attempt: Attempt, now: Time) {
        let Some(sent) = self.outstanding.attempt(attempt) else { return };
        self.upstreams.bad(sent.to, now + self.settings.avoid);
        self.failed(attempt, now);
    }

    /// Ends an attempt without an answer and asks the next upstream.
    fn failed(&mut self, attempt: Attempt, now: Time) {
        let Some(sent) = self.end(attempt) else { return };
        self.stats.failures += 1;
        if let Some(open) = self.outstanding.get(sent.open) {
            open.failed.insert(sent.to);
        }
        let busy = self.outstanding.asking(sent.open);
        self.advance(sent.open, &busy, now);
    }

    fn end(&mut self, attempt: Attempt) -> Option<Sent> {
        let sent = self.outstanding.end_attempt(attempt)?;
        self.commands.push_back(Upstream::Forget { attempt });
        Some(sent)
    }

    fn give_up(&mut self, number: u64, failure: Failure, now: Time) {
        if let Some(open) = self.outstanding.get(number) {
            self.stats.unresolved += open.waiting.len() as u64;
        }
        self.settle(number, Outcome::Failure(failure), Some(self.settings.failure_ttl), now);
    }

    pub(super) fn reply(&mut self, attempt: Attempt, from: SocketAddr, message: &[u8], now: Time) {
        let Some(sent) = self.outstanding.attempt(attempt) else {
            self.stats.ignored += 1;
            return;
        };
        let (number, to, transport, edns) = (sent.open, sent.to, sent.transport, sent.edns);
        // RFC 5452, section 9.1: address, port (the socket is the port), ID, question.
        if from != to {
            self.stats.ignored += 1;
            return;
        }
        if reply::id(message) != Some(sent.id) {
            self.stats.ignored += 1;
            sent.forgeries += 1;
            if transport == Transport::Udp && sent.forgeries >= self.settings.forgeries {
                // Guessing goes on while the socket is open, but nobody guesses TCP sequence numbers too.
                self.over_tcp(attempt, now);
            }
            return;
        }
        let Some(open) = self.outstanding.get(number) else { return };
        let heard = reply::read(message, &open.question, &self.settings);
        if matches!(heard, Heard::Foreign) {
            self.stats.ignored += 1;
            return;
        }
        self.upstreams.good(to);
        match heard {
            Heard::Answer(reply) if !self.may_pass(&reply, to) => {
                self.stats.rebinding += 1;
                self.settle(number, Outcome::Failure(REBINDING), Some(self.settings.failure_ttl), now);
            }
            Heard::Answer(reply) => {
                let ttl = reply.ttl();
                self.settle(number, Outcome::Answer(Arc::new(reply), to), ttl, now);
            }
            Heard::Truncated if transport == Transport::Udp => self.over_tcp(attempt, now),
            Heard::NoEdns if edns => {
                if let Some(open) = self.outstanding.get(number) {
                    open.plain.insert(to);
                }
                self.end(attempt);
                self.again(number, to, transport, now);
            }
            Heard::Foreign | Heard::Truncated | Heard::NoEdns | Heard::Failed => self.failed(attempt, now),
        }
    }

    /// Asks the same upstream over TCP.
    fn over_tcp(&mut self, attempt: Attempt, now: Time) {
        if let Some(sent) = self.end(attempt) {
            self.again(sent.open, sent.to, Transport::Tcp, now);
        }
    }

    /// Asks the same upstream in another way.
    fn again(&mut self, number: u64, to: SocketAddr, transport: Transport, now: Time) {
        let timeout = match transport {
            Transport::Udp => self.settings.first_timeout,
            Transport::Tcp => self.settings.tcp_timeout,
        };
        self.outstanding.set_timer(number, now + timeout);
        self.send(number, to, transport);
    }
}

/// A query for an upstream. Only what the question needs goes into it, no options of the client (RFC 6891, section 6.1.1).
fn query(question: &Question, id: u16, announce: Option<u16>, trust_ad: bool) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    header.set_id(id);
    header.set_rd(true);
    header.set_cd(question.checking_disabled);
    // RFC 6840, section 5.7.
    header.set_ad(trust_ad);
    let mut builder = builder.question();
    // One question and one OPT record always fit.
    let _ = builder.push((&question.name, question.rtype));
    let mut builder = builder.additional();
    if let Some(announce) = announce {
        let _ = builder.opt(|opt| {
            opt.set_udp_payload_size(announce);
            opt.set_dnssec_ok(question.dnssec_ok);
            Ok(())
        });
    }
    builder.finish()
}
