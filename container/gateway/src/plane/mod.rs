//! The loop: one thread, one epoll, everything that users send and receive.
//!
//! ```text
//! one turn:  wait ─▶ receive datagrams, decrypt, hand packets to their flows
//!                 ─▶ socket events, timers
//!                 ─▶ for each flow that something happened to: write, read, build segments, encrypt into the batch
//!                 ─▶ send what is left of the batch
//! ```
//! All state belongs to the loop; nothing is locked. There is one for each core ([`loops`]), each with a part of the peers and a
//! socket of the same port.

mod configure;
mod dispatch;
mod icmp_errors;
mod link;
mod loops;
mod outer;
mod ping;
mod poller;
mod resolver;
mod rules;
mod steer;
mod table;
mod tcp;
mod telemetry;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::packet::fragment::Reassembly;
use ebb_tunnel::tcp::Budget;
use ebb_tunnel::wireguard::{Addresses, Endpoint, PeerConfig, PeerId, Received, Share, Start};
use ebb_wire::{Boot, DAEMON_ADDRESS};
use ipnet::IpNet;

use crate::clock::{self, Clock};
use configure::InForce;
use link::{Link, MTU};
pub use loops::LOOPS_MAX;
use loops::{Letter, Post};
use outer::{Intake, Outer};
use ping::Pings;
use poller::{EventFlags, Poller, Source};
use resolver::Names;
use rules::Rules;
use table::Handle;
use tcp::Context;
use udp::Datagrams;

/// Bytes that one turn receives, about, in so many calls at most: what was decrypted is still in the cache when it is written to
/// its sockets, and a flood cannot keep the flows from being served.
const TURN: usize = 128 << 10;
const RECEIVES: usize = 4;

/// How often lease, interfaces and the like are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How often the addresses of the interfaces are read again.
const INTERFACES: Duration = Duration::from_secs(30);

/// What a gateway may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Loops, each with a thread; one where the kernel cannot tell them apart.
    pub loops: usize,
    /// Bytes in buffers of TCP flows, all together. The number of flows is limited by it too.
    pub memory: usize,
    /// Open files.
    pub files: usize,
    /// Whether datagrams may be handed to the kernel in chains (UDP_SEGMENT).
    pub segmentation: bool,
}

/// What a turn of the loop noticed that is not the loop's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// A signal is there.
    Signal,
    /// Somebody asks whether the gateway is alive.
    Health,
}

/// The data plane.
pub struct Plane {
    clock: Clock,
    poller: Poller,
    intake: Option<Box<Intake>>,
    link: Link,
    tcp: tcp::Flows,
    udp: Datagrams,
    pings: Pings,
    names: Names,
    fragments: Reassembly<PeerId>,
    rules: Rules,
    /// Addresses of the interfaces, as last read.
    interfaces: Vec<IpAddr>,
    boot: Arc<Boot>,
    /// 32 random hexadecimal digits.
    instance: String,
    /// The daemon, a peer of the first loop.
    control: Option<PeerId>,
    post: Post,
    stopped: bool,
    in_force: Option<InForce>,
    /// Packets that the policy refused, connections not counted.
    refused: u64,
    housekeeping_at: Time,
    interfaces_at: Time,
    /// Whether the socket is being watched for room.
    watching_room: bool,
}

impl Plane {
    /// Binds the port and adds the control peer; users come with the first configuration. The first loop is the one that is
    /// asked about everything; the others [serve beside](Self::serve_beside) it.
    ///
    /// # Errors
    /// When the port is in use or the system lacks something essential.
    pub fn start(boot: Boot, limits: &Limits, clock: Clock) -> io::Result<Vec<Self>> {
        let outers = Outer::bind(boot.listen_port, limits.segmentation, limits.loops.clamp(1, LOOPS_MAX))?;
        let boot = Arc::new(boot);
        let (budget, places) = (Budget::new(limits.memory), Arc::new(AtomicUsize::new(0)));
        let posts = Post::new(outers.len())?;
        let each = outers.into_iter().zip(posts);
        each.map(|(outer, post)| {
            let tcp = tcp::Flows::new(&budget, &places, random()?, limits.flows(), clock.now());
            Self::one(&boot, limits, clock, outer, post, tcp)
        })
        .collect()
    }

    fn one(
        boot: &Arc<Boot>,
        limits: &Limits,
        clock: Clock,
        outer: Outer,
        post: Post,
        tcp: tcp::Flows,
    ) -> io::Result<Self> {
        let now = clock.now();
        let poller = Poller::new()?;
        poller.add(outer.socket_ref(), Source::Outer, EventFlags::IN)?;
        poller.add(post.bell(), Source::Letters, EventFlags::IN)?;
        let start = Start { now, unix: clock::unix(), seed: random()? };
        let share = Share::new(post.number(), post.loops()).unwrap_or_default();
        let mut tunnel = Endpoint::new(&boot.private_key, MTU, start).with_share(share);
        let control = (post.number() == 0).then(|| {
            tunnel.add(PeerConfig {
                key: boot.control_key,
                addresses: Addresses::Hosts(vec![DAEMON_ADDRESS.into()]),
                endpoint: None,
                keepalive: None,
            })
        });
        let (v4, v6) = boot.addresses();
        let instance: [u8; 16] = random()?;
        let identification = u32::from_ne_bytes(random()?);
        let rules = Rules::new();
        let mappings = limits.mappings() / post.loops() as u32;
        let mut plane = Self {
            clock,
            poller,
            intake: Some(Box::default()),
            link: Link::new(tunnel, outer, [v4.into(), v6.into()], identification, now),
            tcp,
            udp: Datagrams::new(mappings, limits.segmentation, now),
            pings: Pings::new(post.loops(), now),
            names: Names::new(random()?, rules.reachable()),
            fragments: Reassembly::default(),
            rules,
            interfaces: Vec::new(),
            instance: instance.iter().map(|byte| format!("{byte:02x}")).collect(),
            boot: Arc::clone(boot),
            control: control.transpose().map_err(io::Error::other)?,
            post,
            stopped: false,
            in_force: None,
            refused: 0,
            housekeeping_at: now,
            interfaces_at: now,
            watching_room: false,
        };
        plane.read_interfaces();
        Ok(plane)
    }

    /// How many loops there are.
    pub fn loops(&self) -> usize {
        self.post.loops()
    }

    /// The address that the gateway listens on.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.link.outer.socket_ref().local_addr()
    }

    /// Datagrams that one system call receives and sends at most.
    pub fn offloads(&self) -> (usize, usize) {
        self.link.outer.offloads()
    }

    /// Bytes that the kernel granted for datagrams that wait to be received and sent.
    pub fn socket_buffers(&self) -> (usize, usize) {
        self.link.outer.socket_buffers()
    }

    /// Watches a file that the loop does not own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch(&self, file: impl AsFd, noticed: Noticed) -> io::Result<()> {
        let source = match noticed {
            Noticed::Signal => Source::Signal,
            Noticed::Health => Source::Health,
        };
        self.poller.add(file, source, EventFlags::IN)
    }

    /// One turn of the loop; ends at `until` at the latest. What it noticed is appended to `noticed`.
    ///
    /// # Errors
    /// When epoll fails, which it does not.
    pub fn turn(&mut self, until: Time, noticed: &mut Vec<Noticed>) -> io::Result<()> {
        let timeout = self.timeout(until);
        self.poller.wait(Some(timeout))?;
        let mut now = self.clock.now();
        while let Some((source, flags)) = self.poller.take() {
            match source {
                Source::Outer => {
                    if flags.contains(EventFlags::OUT) {
                        self.link.outer.unblock();
                    }
                    if flags.contains(EventFlags::IN) {
                        self.receive();
                        now = self.clock.now();
                    }
                }
                Source::Tcp(handle) => {
                    let mut cx = Context { link: &mut self.link, poller: &self.poller, now };
                    self.tcp.event(handle, flags, &mut cx);
                }
                Source::Letters => self.read_letters(),
                Source::Signal => noticed.push(Noticed::Signal),
                Source::Health => noticed.push(Noticed::Health),
                Source::Udp(handle) => self.datagrams_arrived(handle, flags, now),
                Source::Ping(handle) => {
                    let mut cx = Context { link: &mut self.link, poller: &self.poller, now };
                    self.pings.event(handle, flags, &mut cx);
                }
                Source::Resolver(handle) => self.names.event(handle, now),
            }
        }
        self.expire(now);
        let now = self.clock.now();
        let mut cx = Context { link: &mut self.link, poller: &self.poller, now };
        self.tcp.serve(&mut cx);
        self.answer_questions(now);
        self.link.flush();
        self.watch_room()
    }

    fn timeout(&self, until: Time) -> Duration {
        if self.tcp.has_work() && !self.link.outer.is_blocked() {
            return Duration::ZERO;
        }
        let deadlines = [
            Some(until),
            Some(self.housekeeping_at),
            self.link.tunnel.deadline(),
            self.tcp.deadline(),
            self.udp.deadline(),
            self.pings.deadline(),
            self.names.deadline(),
            self.fragments.deadline(),
        ];
        deadlines.into_iter().flatten().min().unwrap_or(until).since(self.clock.now())
    }

    fn expire(&mut self, now: Time) {
        self.link.tunnel.expire(now);
        self.tcp.expire(now);
        self.udp.expire(&mut Context { link: &mut self.link, poller: &self.poller, now });
        self.pings.expire(now);
        if self.names.deadline().is_some_and(|at| at <= now) {
            self.names.expire(now);
        }
        self.expire_fragments(now);
        if self.housekeeping_at <= now {
            self.housekeeping_at = now + HOUSEKEEPING;
            if now.since(self.interfaces_at) >= INTERFACES {
                self.interfaces_at = now;
                self.read_interfaces();
            }
        }
    }

    /// Watches the socket for room while it has none; else every turn would be woken by it.
    fn watch_room(&mut self) -> io::Result<()> {
        let blocked = self.link.outer.is_blocked();
        if blocked != self.watching_room {
            self.watching_room = blocked;
            let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            self.poller.modify(self.link.outer.socket_ref(), Source::Outer, flags)?;
        }
        Ok(())
    }

    fn receive(&mut self) {
        // Out of the way, so that packets can stay where they were received while everything else is used.
        let Some(mut intake) = self.intake.take() else { return };
        let mut room = TURN;
        for _ in 0..RECEIVES {
            let (filled, received, more) = intake.receive_outer(&self.link.outer, room);
            let now = self.clock.now();
            for buffer in 0..filled {
                let (path, datagrams) = intake.datagrams(buffer);
                for datagram in datagrams {
                    match self.link.tunnel.receive(datagram, path, now) {
                        Received::Packet { peer, packet } => self.packet(peer, &packet, now),
                        Received::Stranger(key) => self.pass_on(&key, datagram, path),
                        Received::Nothing => {}
                    }
                }
            }
            room = room.saturating_sub(received);
            if !more || room == 0 {
                break;
            }
        }
        self.intake = Some(intake);
        let now = self.clock.now();
        self.udp.flush(&mut Context { link: &mut self.link, poller: &self.poller, now });
    }

    fn datagrams_arrived(&mut self, handle: Handle, flags: EventFlags, now: Time) {
        let Some(mut intake) = self.intake.take() else { return };
        let mut cx = Context { link: &mut self.link, poller: &self.poller, now };
        self.udp.event(handle, flags, &mut intake, &mut cx);
        self.intake = Some(intake);
    }

    /// Reads the addresses of the interfaces, which are nobody's destination.
    fn read_interfaces(&mut self) {
        match own_addresses() {
            Ok(addresses) if addresses == self.interfaces => {}
            Ok(addresses) => {
                self.rules.set_own(&addresses);
                self.interfaces = addresses;
            }
            Err(error) => {
                tracing::warn!(%error, "the interfaces cannot be read; the last known addresses stay refused");
            }
        }
    }

    /// Says goodbye to users and hosts, of all loops.
    pub fn stop(&mut self) {
        self.say_goodbye();
        if self.post.ask(Letter::Stop).is_none() {
            tracing::warn!("a loop does not answer; its users are not told");
        }
    }

    fn say_goodbye(&mut self) {
        let mut cx = Context { link: &mut self.link, poller: &self.poller, now: self.clock.now() };
        self.tcp.abort_all(&mut cx);
        self.link.flush();
    }

    /// The session's networks inside the tunnel.
    fn pools(&self) -> [IpNet; 2] {
        [IpNet::V4(self.boot.ipv4), IpNet::V6(self.boot.ipv6)]
    }
}

/// Memory for buffers that there must be for each flow: about what a flow takes in the kernel and here without any buffer, so
/// that flows and buffers together stay within twice [`Limits::memory`]. With the usual 256 MiB there are 65,536 flows.
const MEMORY_PER_FLOW: usize = 4 << 10;

impl Limits {
    /// TCP flows that may exist. Each takes a file; the rest is for datagrams, resolvers and the gateway itself.
    fn flows(&self) -> usize {
        self.files.saturating_sub(self.files / 4 + 64).min(self.memory / MEMORY_PER_FLOW)
    }

    /// UDP mappings that may exist; each takes a file too, and a quarter of the memory of flows is theirs.
    fn mappings(&self) -> u32 {
        u32::try_from((self.files / 5).min(self.memory / MEMORY_PER_FLOW / 4)).unwrap_or(u32::MAX)
    }
}

fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(addresses.collect())
}

/// Bytes from the system's random source.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
