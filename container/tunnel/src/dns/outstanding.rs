//! Questions that upstreams have been asked and have not answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::query::{Asked, Question};
use super::{Attempt, Client, Settings, Transport};
use crate::Time;

/// Sockets that a question may hold: the newest attempt, and the one before it, which may just be slow.
const SOCKETS: usize = 2;

/// One question, asked by one or more clients.
pub(super) struct Open {
    pub question: Question,
    /// Of the upstreams that were chosen.
    pub epoch: u64,
    /// Who waits for the answer.
    pub waiting: Vec<(Client, Asked)>,
    /// Whom to ask, in order.
    pub candidates: Vec<SocketAddr>,
    /// Those that have said that they have no answer.
    pub failed: BTreeSet<SocketAddr>,
    /// Those that get no OPT record.
    pub plain: BTreeSet<SocketAddr>,
    /// Place in `candidates` of the next to ask.
    pub next: usize,
    /// Attempts over UDP so far.
    pub sent: u32,
    /// Attempts that may still be answered, newest last.
    pub live: VecDeque<Attempt>,
    /// When all who wait get their SERVFAIL.
    pub deadline: Time,
    timer: Time,
}

/// One message to one upstream.
pub(super) struct Sent {
    pub open: u64,
    pub to: SocketAddr,
    pub transport: Transport,
    /// Message ID.
    pub id: u16,
    /// Whether it had an OPT record.
    pub edns: bool,
    /// Replies with another ID.
    pub forgeries: u32,
}

/// What became of a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// This question is new and has to be sent.
    New(u64),
    /// It waits with others.
    Waiting,
    /// The same client waits for the same already.
    Repeated,
}

pub(super) struct Outstanding {
    open: BTreeMap<u64, Open>,
    by_question: BTreeMap<(u64, Question), u64>,
    sent: BTreeMap<Attempt, Sent>,
    timers: BTreeSet<(Time, u64)>,
    per_client: BTreeMap<u64, usize>,
    waiting: usize,
    next: u64,
    limit: usize,
    limit_per_client: usize,
    patience: Duration,
}

impl Outstanding {
    pub fn new(settings: &Settings) -> Self {
        Self {
            open: BTreeMap::new(),
            by_question: BTreeMap::new(),
            sent: BTreeMap::new(),
            timers: BTreeSet::new(),
            per_client: BTreeMap::new(),
            waiting: 0,
            next: 0,
            limit: settings.outstanding,
            limit_per_client: settings.outstanding_per_client,
            patience: settings.deadline,
        }
    }

    /// Queries that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// When the next question is due.
    pub fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|&(time, _)| time)
    }

    /// Lets a query wait, or returns it when too many do.
    pub fn join(
        &mut self,
        client: Client,
        asked: Asked,
        epoch: u64,
        candidates: Vec<SocketAddr>,
        now: Time,
    ) -> Result<Joined, Asked> {
        let key = (epoch, asked.question.clone());
        let known = self.by_question.get(&key).copied();
        let with = known.and_then(|number| self.open.get(&number));
        if with.is_some_and(|open| {
            open.waiting.iter().any(|(other, with)| *other == client && with.id == asked.id)
        }) {
            return Ok(Joined::Repeated);
        }
        let mine = self.per_client.get(&client.peer).copied().unwrap_or(0);
        if self.waiting >= self.limit || mine >= self.limit_per_client {
            return Err(asked);
        }
        self.waiting += 1;
        self.per_client.insert(client.peer, mine + 1);
        if let Some(open) = known.and_then(|number| self.open.get_mut(&number)) {
            open.waiting.push((client, asked));
            return Ok(Joined::Waiting);
        }
        let number = self.next;
        self.next += 1;
        let deadline = now + self.patience;
        let open = Open {
            question: asked.question.clone(),
            epoch,
            waiting: vec![(client, asked)],
            candidates,
            failed: BTreeSet::new(),
            plain: BTreeSet::new(),
            next: 0,
            sent: 0,
            live: VecDeque::new(),
            deadline,
            timer: deadline,
        };
        self.timers.insert((deadline, number));
        self.by_question.insert(key, number);
        self.open.insert(number, open);
        Ok(Joined::New(number))
    }

    pub fn get(&mut self, number: u64) -> Option<&mut Open> {
        self.open.get_mut(&number)
    }

    pub fn attempt(&mut self, attempt: Attempt) -> Option<&mut Sent> {
        self.sent.get_mut(&attempt)
    }

    /// The upstreams whose answer to a question may still come.
    pub fn asking(&self, number: u64) -> Vec<SocketAddr> {
        let live = self.open.get(&number).into_iter().flat_map(|open| &open.live);
        live.filter_map(|attempt| self.sent.get(attempt)).map(|sent| sent.to).collect()
    }

    /// Sets when a question is due next, not later than its deadline.
    pub fn set_timer(&mut self, number: u64, at: Time) {
        let Some(open) = self.open.get_mut(&number) else { return };
        self.timers.remove(&(open.timer, number));
        open.timer = at.min(open.deadline);
        self.timers.insert((open.timer, number));
    }

    /// The next question that is due.
    pub fn due(&self, now: Time) -> Option<u64> {
        self.timers.first().filter(|&&(time, _)| time <= now).map(|&(_, number)| number)
    }

    /// Notes an attempt; returns the attempts that it replaces.
    pub fn add_attempt(&mut self, attempt: Attempt, sent: Sent) -> Vec<Attempt> {
        let Some(open) = self.open.get_mut(&sent.open) else { return vec![attempt] };
        open.live.push_back(attempt);
        self.sent.insert(attempt, sent);
        let surplus = open.live.len().saturating_sub(SOCKETS);
        let replaced: Vec<_> = open.live.drain(..surplus).collect();
        for old in &replaced {
            self.sent.remove(old);
        }
        replaced
    }

    /// Ends an attempt.
    pub fn end_attempt(&mut self, attempt: Attempt) -> Option<Sent> {
        let sent = self.sent.remove(&attempt)?;
        if let Some(open) = self.open.get_mut(&sent.open) {
            open.live.retain(|&other| other != attempt);
        }
        Some(sent)
    }

    /// Ends a question; its attempts are in `live`.
    pub fn close(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.timers.remove(&(open.timer, number));
        self.by_question.remove(&(open.epoch, open.question.clone()));
        for attempt in &open.live {
            self.sent.remove(attempt);
        }
        for (client, _) in &open.waiting {
            self.leave(client.peer);
        }
        Some(open)
    }

    /// Drops what a client waits for; returns the questions that nobody waits for any more.
    pub fn forget_peer(&mut self, peer: u64) -> Vec<u64> {
        let mut left = 0;
        let mut alone = Vec::new();
        for (&number, open) in &mut self.open {
            let before = open.waiting.len();
            open.waiting.retain(|(client, _)| client.peer != peer);
            left += before - open.waiting.len();
            if open.waiting.is_empty() {
                alone.push(number);
            }
        }
        for _ in 0..left {
            self.leave(peer);
        }
        alone
    }

    fn leave(&mut self, peer: u64) {
        self.waiting -= 1;
        if let Some(count) = self.per_client.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.per_client.remove(&peer);
            }
        }
    }
}
