//! Any interleaving of clients, upstreams and time, against a model that knows only the promises:
//! each query gets exactly one answer within the deadline, to its own question; no more is outstanding than allowed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use domain::base::iana::{OptRcode, Rcode};
use domain::base::{Rtype, Ttl};
use domain::rdata::{A, Aaaa};
use ebb_tunnel::Time;
use ebb_tunnel::dns::{Attempt, Client, Settings, Transport};
use proptest::prelude::*;

use crate::bed::{Answer, Ask, Bed, Setup, client, query};

const DEADLINE: Duration = Duration::from_millis(4500);
const CAP: usize = 12;
const CAP_PER_CLIENT: usize = 5;
const TTL: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: u8,
    v6: bool,
}

impl Key {
    fn name(self) -> String {
        format!("host{}.example", self.name)
    }

    fn rtype(self) -> Rtype {
        if self.v6 { Rtype::AAAA } else { Rtype::A }
    }

    /// What every upstream says about it, and about nothing else.
    fn data(self) -> String {
        let name = self.name();
        if self.v6 {
            format!("{name}. AAAA 2001:db8::{}", self.name + 1)
        } else {
            format!("{name}. A 192.0.2.{}", self.name)
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Behaviour {
    Good,
    Servfail,
    NoEdns,
    Truncated,
    BrokenSocket,
    WrongId,
    WrongSource,
    AnotherQuestion(Key),
    Cut(u8),
}

#[derive(Debug, Clone)]
enum Op {
    Query { peer: u8, key: Key, id: u8, tcp: bool },
    Upstream { which: prop::sample::Index, behaviour: Behaviour },
    Pass(u16),
    Late(u16),
    Leave(u8),
    OtherUpstreams(bool),
}

fn key() -> impl Strategy<Value = Key> {
    (0_u8..5, any::<bool>()).prop_map(|(name, v6)| Key { name, v6 })
}

fn op() -> impl Strategy<Value = Op> {
    let behaviour = prop_oneof![
        4 => Just(Behaviour::Good),
        2 => Just(Behaviour::Servfail),
        1 => Just(Behaviour::NoEdns),
        2 => Just(Behaviour::Truncated),
        2 => Just(Behaviour::BrokenSocket),
        2 => Just(Behaviour::WrongId),
        1 => Just(Behaviour::WrongSource),
        2 => key().prop_map(Behaviour::AnotherQuestion),
        1 => any::<u8>().prop_map(Behaviour::Cut),
    ];
    prop_oneof![
        8 => (0_u8..4, key(), 0_u8..3, any::<bool>()).prop_map(|(peer, key, id, tcp)| Op::Query { peer, key, id, tcp }),
        8 => (any::<prop::sample::Index>(), behaviour).prop_map(|(which, behaviour)| Op::Upstream { which, behaviour }),
        4 => (0_u16..1500).prop_map(Op::Pass),
        1 => (0_u16..6000).prop_map(Op::Late),
        1 => (0_u8..4).prop_map(Op::Leave),
        1 => any::<bool>().prop_map(Op::OtherUpstreams),
    ]
}

struct Model {
    bed: Bed,
    live: Vec<Ask>,
    attempts: BTreeSet<Attempt>,
    /// Queries without an answer, and when they came; the same query twice only if the upstreams changed in between.
    waiting: BTreeMap<(Client, u16, Key), VecDeque<Time>>,
    /// Questions an upstream answered, and until when that holds.
    known: BTreeMap<Key, Time>,
    /// Questions that failed, and until when that is remembered.
    failed: BTreeMap<Key, Time>,
    /// Questions some attempt of which ended badly.
    troubled: BTreeSet<Key>,
    /// When a question was last sent for the first time.
    opened: BTreeMap<Key, Time>,
}

impl Model {
    fn new() -> Self {
        let settings =
            Settings { outstanding: CAP, outstanding_per_client: CAP_PER_CLIENT, ..Settings::default() };
        Self {
            bed: Bed::with(settings, &Setup::default()),
            live: Vec::new(),
            attempts: BTreeSet::new(),
            waiting: BTreeMap::new(),
            known: BTreeMap::new(),
            failed: BTreeMap::new(),
            troubled: BTreeSet::new(),
            opened: BTreeMap::new(),
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Query { peer, key, id, tcp } => self.query(peer, key, id, tcp),
            Op::Upstream { which, behaviour } => {
                if !self.live.is_empty() {
                    let ask = which.get(&self.live).clone();
                    self.upstream(&ask, behaviour);
                }
            }
            Op::Pass(ms) => {
                let end = self.bed.now + Duration::from_millis(ms.into());
                while let Some(due) = self.bed.resolver.deadline().filter(|&due| due <= end) {
                    self.bed.now = self.bed.now.max(due);
                    self.bed.resolver.expire(self.bed.now);
                    self.collect();
                }
                self.bed.now = end;
            }
            // The loop was busy and comes late.
            Op::Late(ms) => {
                self.bed.now += Duration::from_millis(ms.into());
                let now = self.bed.now;
                self.bed.resolver.expire(now);
            }
            Op::Leave(peer) => {
                self.bed.resolver.forget_peer(peer.into());
                self.waiting.retain(|(client, ..), _| client.peer != u64::from(peer));
            }
            Op::OtherUpstreams(other) => {
                let servers: &[&str] = if other { &["9.9.9.9", "1.1.1.1"] } else { &["1.1.1.1", "8.8.8.8"] };
                self.bed.configure(&Setup::default().upstream(servers)).unwrap();
                self.failed.clear();
            }
        }
        self.collect();
    }

    fn query(&mut self, peer: u8, key: Key, id: u8, tcp: bool) {
        let mut from = client(peer.into());
        from.transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let asking = (from, u16::from(id), key);
        let full = self.count(|_| true) >= CAP
            || self.count(|client| client.peer == u64::from(peer)) >= CAP_PER_CLIENT;
        let repeated = self.bed.resolver.stats().repeated;
        self.bed.send(&query(&key.name(), key.rtype()).id(id.into()).from(from));
        let now = self.bed.now;
        let answers = self.bed.answers();
        assert!(answers.len() <= 1);
        let Some(answer) = answers.first() else {
            if self.bed.resolver.stats().repeated > repeated {
                assert!(self.waiting.contains_key(&asking), "a first query taken for a second one");
            } else {
                if !self.waiting.keys().any(|&(.., other)| other == key) {
                    self.troubled.remove(&key);
                    self.opened.insert(key, now);
                }
                self.waiting.entry(asking).or_default().push_back(now);
            }
            return;
        };
        self.check_content(answer, key);
        assert_eq!((answer.client, answer.id()), (from, u16::from(id)));
        match answer.rcode() {
            OptRcode::NOERROR => {
                assert!(self.known.get(&key).is_some_and(|&until| now < until), "from nowhere");
            }
            rcode => {
                assert_eq!(rcode, OptRcode::SERVFAIL);
                assert!(full || self.failed.get(&key).is_some_and(|&until| now < until), "without need");
            }
        }
    }

    fn upstream(&mut self, ask: &Ask, behaviour: Behaviour) {
        let key = key_of(ask);
        match behaviour {
            Behaviour::Good => {
                self.bed.reply(ask, &good(ask, key));
                self.known.insert(key, self.bed.now + Duration::from_secs(TTL.into()));
            }
            Behaviour::Servfail => self.trouble(ask, &ask.error(Rcode::SERVFAIL)),
            Behaviour::NoEdns => self.trouble(ask, &ask.error(Rcode::FORMERR)),
            Behaviour::Truncated => {
                let mut reply = ask.respond(|_| {});
                reply[2] |= 2;
                self.trouble(ask, &reply);
            }
            Behaviour::BrokenSocket => {
                self.troubled.insert(key);
                self.bed.resolver.upstream_failed(ask.attempt, self.bed.now);
            }
            Behaviour::WrongId => {
                let mut forged = good(ask, Key { name: 200, v6: key.v6 });
                forged[0] ^= 0x55;
                self.trouble(ask, &forged);
            }
            Behaviour::WrongSource => {
                let mut from = ask.to;
                from.set_port(5353);
                self.bed.resolver.upstream_reply(ask.attempt, from, &good(ask, key), self.bed.now);
            }
            Behaviour::AnotherQuestion(other) if other != key => {
                let mut message = self.live.iter().find(|ask| key_of(ask) == other).unwrap_or(ask).clone();
                message.message.header_mut().set_id(ask.id());
                if key_of(&message) != key {
                    self.bed.reply(ask, &good(&message, other));
                }
            }
            Behaviour::AnotherQuestion(_) => {}
            Behaviour::Cut(length) => {
                let reply = good(ask, key);
                let length = usize::from(length) % reply.len();
                self.trouble(ask, &reply[..length]);
            }
        }
    }

    fn trouble(&mut self, ask: &Ask, message: &[u8]) {
        self.troubled.insert(key_of(ask));
        self.bed.reply(ask, message);
    }

    fn count(&self, clients: impl Fn(&Client) -> bool) -> usize {
        self.waiting.iter().filter(|((client, ..), _)| clients(client)).map(|(_, times)| times.len()).sum()
    }

    fn check_content(&self, answer: &Answer, key: Key) {
        let question = answer.message.sole_question().unwrap();
        assert_eq!((question.qname().to_string(), question.qtype()), (key.name(), key.rtype()));
        if answer.rcode() == OptRcode::NOERROR {
            assert_eq!(answer.records(), [key.data()], "the answer to another question");
            assert!(answer.ttls()[0] <= TTL);
        }
    }

    /// Takes what the resolver has, and checks it.
    fn collect(&mut self) {
        let now = self.bed.now;
        for answer in self.bed.answers() {
            let question = answer.message.sole_question().unwrap();
            let text = question.qname().to_string();
            let name = text.strip_prefix("host").and_then(|rest| rest.strip_suffix(".example")).unwrap();
            let key = Key { name: name.parse().unwrap(), v6: question.qtype() == Rtype::AAAA };
            let asking = (answer.client, answer.id(), key);
            let times = self.waiting.get_mut(&asking).expect("an answer that nobody waits for");
            times.pop_front();
            if times.is_empty() {
                self.waiting.remove(&asking);
            }
            self.check_content(&answer, key);
            if answer.rcode() != OptRcode::NOERROR {
                assert_eq!(answer.rcode(), OptRcode::SERVFAIL);
                // Who joins a question late shares its end; else somebody must have given a reason.
                let opened = self.opened.get(&key).is_some_and(|&at| now.since(at) >= DEADLINE);
                assert!(opened || self.troubled.contains(&key), "given up early");
                self.failed.insert(key, now + Duration::from_secs(1));
            }
        }
        for ask in self.bed.asks() {
            assert!(self.attempts.insert(ask.attempt), "an attempt twice");
            self.live.push(ask);
        }
        for attempt in std::mem::take(&mut self.bed.forgotten) {
            let before = self.live.len();
            self.live.retain(|ask| ask.attempt != attempt);
            assert_eq!(self.live.len() + 1, before, "forgotten without being asked");
        }
        let waiting = self.count(|_| true);
        assert_eq!(self.bed.resolver.outstanding(), waiting);
        assert!(waiting <= CAP && self.live.len() <= 2 * CAP);
        let latest = self.waiting.values().flatten().map(|&since| now.since(since)).max();
        assert!(latest.is_none_or(|age| age < DEADLINE), "a query waits for {latest:?}");
        assert_eq!(self.bed.resolver.deadline().is_some(), !self.waiting.is_empty());
    }
}

fn key_of(ask: &Ask) -> Key {
    let (name, rtype) = ask.question();
    let text = name.to_string();
    let number = text.strip_prefix("host").and_then(|rest| rest.strip_suffix(".example")).unwrap();
    Key { name: number.parse().unwrap(), v6: rtype == Rtype::AAAA }
}

/// A reply to `ask` with the data of `key`.
fn good(ask: &Ask, key: Key) -> Vec<u8> {
    let owner = ask.question().0;
    let ttl = Ttl::from_secs(TTL);
    ask.respond(|answer| {
        if key.v6 {
            let address = format!("2001:db8::{}", key.name + 1).parse().unwrap();
            answer.push((owner, ttl, Aaaa::new(address))).unwrap();
        } else {
            answer.push((owner, ttl, A::new([192, 0, 2, key.name].into()))).unwrap();
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn each_query_gets_exactly_one_answer_in_time_and_to_its_own_question(ops in prop::collection::vec(op(), 1..120)) {
        let mut model = Model::new();
        for op in &ops {
            model.run(op);
        }
        model.run(&Op::Pass(4500));
        prop_assert!(model.waiting.is_empty() && model.live.is_empty());
        let stats = model.bed.resolver.stats();
        let parts = [stats.dropped, stats.repeated, stats.refused, stats.local, stats.cached, stats.limited, stats.forwarded];
        prop_assert_eq!(parts.iter().sum::<u64>(), stats.queries);
    }
}
