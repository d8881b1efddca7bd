//! Answers that have been given before, bounded in number and bytes; the least recently used one goes first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::query::{Failure, Question};
use super::reply::Reply;
use crate::Time;

/// How a question ended.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// With an answer of this upstream.
    Answer(Arc<Reply>, SocketAddr),
    /// Without one (RFC 9520).
    Failure(Failure),
}

struct Entry {
    outcome: Outcome,
    since: Time,
    until: Time,
    used: u64,
    bytes: usize,
}

pub(super) struct Cache {
    entries: BTreeMap<Arc<Question>, Entry>,
    /// Questions by last use.
    uses: BTreeMap<u64, Arc<Question>>,
    next_use: u64,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
}

/// Bytes that an entry takes beside name and reply: nodes of both maps, allocations, the question twice.
const OVERHEAD: usize = 256;

impl Cache {
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            uses: BTreeMap::new(),
            next_use: 0,
            bytes: 0,
            max_entries,
            max_bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is known about `question`, and its age.
    pub fn get(&mut self, question: &Question, now: Time) -> Option<(Outcome, Duration)> {
        if self.entries.get(question)?.until <= now {
            self.remove(question);
            return None;
        }
        let entry = self.entries.get_mut(question)?;
        let key = self.uses.remove(&entry.used)?;
        entry.used = self.next_use;
        self.uses.insert(self.next_use, key);
        self.next_use += 1;
        Some((entry.outcome.clone(), now.since(entry.since)))
    }

    pub fn insert(&mut self, question: Question, outcome: Outcome, ttl: Duration, now: Time) {
        self.remove(&question);
        let bytes = OVERHEAD
            + question.name.len()
            + match &outcome {
                Outcome::Answer(reply, _) => reply.memory(),
                Outcome::Failure(_) => 0,
            };
        // One answer must not push out all others.
        if bytes > self.max_bytes / 8 || self.max_entries == 0 {
            return;
        }
        while self.entries.len() >= self.max_entries || self.bytes + bytes > self.max_bytes {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            self.remove(&oldest);
        }
        let key = Arc::new(question);
        let used = self.next_use;
        self.next_use += 1;
        self.bytes += bytes;
        self.uses.insert(used, Arc::clone(&key));
        self.entries.insert(key, Entry { outcome, since: now, until: now + ttl, used, bytes });
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.uses.clear();
        self.bytes = 0;
    }

    /// Drops failures, which a new configuration may have mended, and answers that lead where `allowed` says no.
    pub fn review(&mut self, allowed: impl Fn(&Reply, SocketAddr) -> bool) {
        let refused: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| match &entry.outcome {
                Outcome::Answer(reply, from) => !allowed(reply, *from),
                Outcome::Failure(_) => true,
            })
            .map(|(question, _)| Arc::clone(question))
            .collect();
        for question in refused {
            self.remove(&question);
        }
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.uses.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}
