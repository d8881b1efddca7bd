//! A resolver with clients and upstreams around it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use domain::base::iana::{Opcode, OptRcode, Rcode};
use domain::base::message_builder::{AnswerBuilder, TreeCompressor};
use domain::base::{Message, MessageBuilder, Name, Rtype, ToName as _, Ttl};
use domain::rdata::{A, AllRecordData, Soa};
use ebb_tunnel::Time;
use ebb_tunnel::dns::{Attempt, Client, Config, ConfigError, Resolver, Settings, Transport, Upstream};
use ebb_wire::{Dns, Peer, PublicKey};

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn name(text: &str) -> Name<Vec<u8>> {
    Name::vec_from_str(text).unwrap()
}

/// A client by its peer number, on UDP.
pub fn client(peer: u64) -> Client {
    Client { peer, flow: 0, source: SocketAddr::new(ip("10.8.0.2"), 40_000), transport: Transport::Udp }
}

/// A query in the making.
#[derive(Clone)]
pub struct Query {
    pub name: String,
    pub rtype: Rtype,
    pub id: u16,
    pub edns: Option<u16>,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    pub authentic: bool,
    pub recursion: bool,
    pub client: Client,
}

pub fn query(name: &str, rtype: Rtype) -> Query {
    Query {
        name: name.into(),
        rtype,
        id: 0x1234,
        edns: Some(1232),
        dnssec_ok: false,
        checking_disabled: false,
        authentic: false,
        recursion: true,
        client: client(0),
    }
}

impl Query {
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    pub fn from(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    pub fn tcp(mut self) -> Self {
        self.client.transport = Transport::Tcp;
        self
    }

    pub fn edns(mut self, size: Option<u16>) -> Self {
        self.edns = size;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        let header = builder.header_mut();
        header.set_id(self.id);
        header.set_rd(self.recursion);
        header.set_cd(self.checking_disabled);
        header.set_ad(self.authentic);
        let mut builder = builder.question();
        builder.push((name(&self.name), self.rtype)).unwrap();
        let mut builder = builder.additional();
        if let Some(size) = self.edns {
            builder
                .opt(|opt| {
                    opt.set_udp_payload_size(size);
                    opt.set_dnssec_ok(self.dnssec_ok);
                    Ok(())
                })
                .unwrap();
        }
        builder.finish()
    }
}

/// What a client got.
#[derive(Debug, Clone)]
pub struct Answer {
    pub client: Client,
    pub message: Message<Vec<u8>>,
}

impl Answer {
    pub fn rcode(&self) -> OptRcode {
        self.message.opt_rcode()
    }

    pub fn id(&self) -> u16 {
        self.message.header().id()
    }

    pub fn truncated(&self) -> bool {
        self.message.header().tc()
    }

    /// Records of the answer section in zone file form without TTL, for example `wiki. A 10.0.0.7`.
    pub fn records(&self) -> Vec<String> {
        let records = self.message.answer().unwrap().into_records::<AllRecordData<_, _>>();
        records
            .map(|record| {
                let record = record.unwrap();
                format!("{} {} {}", record.owner().fmt_with_dot(), record.rtype(), record.data())
            })
            .collect()
    }

    pub fn ttls(&self) -> Vec<u32> {
        self.message.answer().unwrap().map(|record| record.unwrap().ttl().as_secs()).collect()
    }

    /// Owner and TTL of the SOA record in the authority section.
    pub fn soa(&self) -> Option<(String, u32)> {
        let mut records = self.message.authority().unwrap().limit_to::<Soa<_>>();
        let soa = records.next()?.unwrap();
        Some((soa.owner().fmt_with_dot().to_string(), soa.ttl().as_secs()))
    }

    /// Code of the extended error (RFC 8914).
    pub fn error(&self) -> Option<u16> {
        let opt = self.message.opt()?;
        Some(opt.opt().extended_error()?.code().to_int())
    }

    /// "exists, but has nothing of this type".
    pub fn is_no_data(&self) -> bool {
        self.rcode() == OptRcode::NOERROR && self.records().is_empty() && self.soa().is_some()
    }
}

/// A message on its way to an upstream.
#[derive(Debug, Clone)]
pub struct Ask {
    pub attempt: Attempt,
    pub to: SocketAddr,
    pub transport: Transport,
    pub message: Message<Vec<u8>>,
}

impl Ask {
    pub fn id(&self) -> u16 {
        self.message.header().id()
    }

    pub fn question(&self) -> (Name<Vec<u8>>, Rtype) {
        let question = self.message.sole_question().unwrap();
        (question.qname().to_vec(), question.qtype())
    }

    /// A well-formed reply with whatever `records` adds.
    pub fn respond(&self, records: impl FnOnce(&mut AnswerBuilder<TreeCompressor<Vec<u8>>>)) -> Vec<u8> {
        let builder = MessageBuilder::from_target(TreeCompressor::new(Vec::new())).unwrap();
        let mut builder = builder.start_answer(&self.message, Rcode::NOERROR).unwrap();
        builder.header_mut().set_ra(true);
        records(&mut builder);
        builder.finish().into_target()
    }

    /// A reply with one A record and a TTL of `ttl` seconds.
    pub fn address(&self, address: &str, ttl: u32) -> Vec<u8> {
        let address: std::net::Ipv4Addr = address.parse().unwrap();
        self.respond(|answer| {
            answer.push((self.question().0, Ttl::from_secs(ttl), A::new(address))).unwrap();
        })
    }

    /// A reply with an error code.
    pub fn error(&self, rcode: Rcode) -> Vec<u8> {
        let mut reply = self.respond(|_| {});
        reply[3] |= rcode.to_int();
        reply
    }

    /// A reply that says "does not exist" with a SOA record, or with rcode NOERROR "not of this type".
    pub fn negative(&self, rcode: Rcode, soa_ttl: u32, minimum: u32) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec().start_answer(&self.message, rcode).unwrap().authority();
        builder.header_mut().set_ra(true);
        let hour = Ttl::from_hours(1);
        let soa = Soa::new(name("ns."), name("mail."), 1.into(), hour, hour, hour, Ttl::from_secs(minimum));
        builder.push((name("example.com"), Ttl::from_secs(soa_ttl), soa)).unwrap();
        builder.finish()
    }
}

/// Everything of a [`Config`], owned.
#[derive(Clone)]
pub struct Setup {
    pub session: String,
    pub dns: Dns,
    pub peers: Vec<Peer>,
    pub fallback: Vec<IpAddr>,
}

impl Default for Setup {
    fn default() -> Self {
        let peer = |n: u8, user: &str| Peer {
            name: user.into(),
            public_key: PublicKey::from([n; 32]),
            addresses: vec![IpAddr::from([10, 8, 0, n]), ip(&format!("fd65:6262:0:1::{n}"))],
            source_ips: Vec::new(),
        };
        Self {
            session: "alice-east".into(),
            dns: Dns {
                names: BTreeMap::from([
                    ("wiki".into(), vec![ip("10.0.0.7")]),
                    ("api.example.com".into(), vec![ip("10.0.0.8"), ip("fd00::8")]),
                    ("deep.under.ebb.internal".into(), vec![ip("10.0.0.9")]),
                ]),
                upstream: vec![ip("1.1.1.1"), ip("8.8.8.8")],
            },
            peers: vec![peer(2, "alice"), peer(3, "bob")],
            fallback: vec![ip("9.9.9.9")],
        }
    }
}

impl Setup {
    pub fn upstream(mut self, upstream: &[&str]) -> Self {
        self.dns.upstream = upstream.iter().map(|text| ip(text)).collect();
        self
    }
}

pub struct Bed {
    pub resolver: Resolver,
    pub now: Time,
    pub forgotten: Vec<Attempt>,
}

impl Bed {
    /// The usual session. Users may reach 10.0.0.0/16 beside the Internet.
    pub fn new() -> Self {
        Self::with(Settings::default(), &Setup::default())
    }

    pub fn with(settings: Settings, setup: &Setup) -> Self {
        let reachable = |address| matches!(address, IpAddr::V4(v4) if v4.octets()[..2] == [10, 0]);
        let resolver = Resolver::new(settings, [7; 32], Box::new(reachable));
        let mut bed = Self { resolver, now: Time::ZERO, forgotten: Vec::new() };
        bed.configure(setup).unwrap();
        bed
    }

    pub fn configure(&mut self, setup: &Setup) -> Result<(), ConfigError> {
        self.resolver.configure(&Config {
            session: &setup.session,
            dns: &setup.dns,
            peers: &setup.peers,
            gateway: &[ip("10.8.0.1"), ip("fd65:6262:0:1::1")],
            networks: &["10.8.0.0/24".parse().unwrap(), "fd65:6262:0:1::/64".parse().unwrap()],
            fallback: &setup.fallback,
        })
    }

    pub fn send(&mut self, query: &Query) {
        self.resolver.query(query.client, &query.bytes(), self.now);
    }

    pub fn answers(&mut self) -> Vec<Answer> {
        std::iter::from_fn(|| self.resolver.poll_answer())
            .map(|(client, bytes)| Answer { client, message: Message::from_octets(bytes).unwrap() })
            .collect()
    }

    /// The only answer there is.
    pub fn answer(&mut self) -> Answer {
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.pop().unwrap()
    }

    /// New messages to upstreams.
    pub fn asks(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        while let Some(command) = self.resolver.poll_upstream() {
            match command {
                Upstream::Ask { attempt, to, transport, message } => {
                    let message = Message::from_octets(message).unwrap();
                    asks.push(Ask { attempt, to, transport, message });
                }
                Upstream::Forget { attempt } => self.forgotten.push(attempt),
            }
        }
        asks
    }

    /// The only message to an upstream there is.
    pub fn ask(&mut self) -> Ask {
        let mut asks = self.asks();
        assert_eq!(asks.len(), 1, "{asks:?}");
        asks.pop().unwrap()
    }

    /// Answers a query that needs no upstream.
    pub fn at_once(&mut self, query: &Query) -> Answer {
        self.send(query);
        let asks = self.asks();
        assert!(asks.is_empty(), "{} went to {asks:?}", query.name);
        self.answer()
    }

    /// Sends a query that goes to an upstream.
    pub fn forward(&mut self, query: &Query) -> Ask {
        self.send(query);
        let answers = self.answers();
        assert!(answers.is_empty(), "{answers:?}");
        self.ask()
    }

    /// An upstream replies.
    pub fn reply(&mut self, ask: &Ask, message: &[u8]) {
        self.resolver.upstream_reply(ask.attempt, ask.to, message, self.now);
    }

    /// Lets time pass, doing what is due in between.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.resolver.deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.resolver.expire(self.now);
        }
        self.now = end;
    }
}

/// The opcode's bits in the third byte of a message.
pub fn with_opcode(mut message: Vec<u8>, opcode: Opcode) -> Vec<u8> {
    message[2] = (message[2] & 0x87) | opcode.to_int() << 3;
    message
}
