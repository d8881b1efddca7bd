//! TCP: a connection with a user on one side, a socket of the kernel or a service of the gateway on the other.
//!
//! A user's SYN is not answered before the far side is: it starts a connect, and only its success becomes a SYN/ACK, so
//! that a user sees refused, unreachable and silent destinations as they are.

mod connect;
mod open;
mod relay;
mod service;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebb_tunnel::Time;
use ebb_tunnel::packet::{Packet, icmp};
use ebb_tunnel::tcp::{self, Budget, Segment, Settings, State, SynInfo};
use ebb_tunnel::timer::{TimerId, Wheel};
use ebb_tunnel::wireguard::PeerId;
use hashbrown::HashMap;

use super::link::{Link, MTU};
use super::poller::{EventFlags, Poller};
use super::table::{Handle, Table};
use connect::Connecting;
use open::{Far, Open, Outcome};
pub use service::{Asked, Question, Service};

/// Which connection: whose, to where, from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    peer: PeerId,
    /// The destination the user asked for: our end.
    local: SocketAddr,
    /// The user's end.
    remote: SocketAddr,
}

struct Flow {
    key: Key,
    timer: TimerId,
    /// Whether it is in the list of those to be looked at.
    touched: bool,
    stage: Stage,
}

enum Stage {
    /// Waiting for the far side.
    Connecting(Connecting),
    Open(Box<Open>),
}

/// Who answers a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The host that the packet is addressed to.
    Host,
    /// The gateway's control server.
    Control,
    /// The gateway's resolver.
    Resolver,
    /// Nobody: the port is closed.
    Nobody,
}

/// What flows need from the loop.
pub struct Context<'a> {
    pub link: &'a mut Link,
    pub poller: &'a Poller,
    pub now: Time,
}

/// Connections of the daemon beyond those of users, and memory for their buffers: it has one at a time, and a configuration
/// of a thousand users is some hundred kilobytes.
const CONTROL_FLOWS: usize = 16;
const CONTROL_MEMORY: usize = 1 << 20;

/// What one user has.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    flows: usize,
    /// Those whose far side is not there yet.
    connecting: u32,
}

/// All TCP flows.
pub struct Flows {
    flows: Table<Flow>,
    index: HashMap<Key, Handle>,
    /// The flow of the last segment: a batch of segments mostly belongs to one.
    last: Option<(Key, Handle)>,
    timers: Wheel<Handle>,
    touched: VecDeque<Handle>,
    peers: HashMap<PeerId, Load>,
    settings: Settings,
    budget: Budget,
    secret: [u8; 32],
    /// Buffers of the daemon's connections.
    control: Budget,
    /// Flows of all loops, and how many there may be by the limits on open files and on memory.
    places: Arc<AtomicUsize>,
    limit: usize,
    refused: u64,
    asked: Vec<Asked>,
}

impl Flows {
    /// No flows yet. Loops share `budget` and `places`. `secret` must be random: sequence numbers hang on it.
    pub fn new(
        budget: &Budget,
        places: &Arc<AtomicUsize>,
        secret: [u8; 32],
        limit: usize,
        now: Time,
    ) -> Self {
        Self {
            flows: Table::default(),
            index: HashMap::new(),
            last: None,
            timers: Wheel::new(now),
            touched: VecDeque::new(),
            peers: HashMap::new(),
            settings: Settings { mtu: MTU, ..Settings::default() },
            budget: budget.clone(),
            control: Budget::new(CONTROL_MEMORY),
            places: Arc::clone(places),
            secret,
            limit,
            refused: 0,
            asked: Vec::new(),
        }
    }

    /// How many there are, those under way included.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Connections that the policy refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Bytes in buffers.
    pub fn buffered(&self) -> usize {
        self.budget.used()
    }

    /// How many connections of each user are open at both ends.
    pub fn open_by_peer(&self) -> HashMap<PeerId, u32> {
        let mut open = HashMap::new();
        for (_, flow) in self.flows.iter() {
            if let Stage::Open(stage) = &flow.stage
                && stage.connection.is_open()
            {
                *open.entry(flow.key.peer).or_default() += 1;
            }
        }
        open
    }

    /// Takes a segment from a user. `answer` says who answers a new connection.
    #[inline]
    pub fn receive(
        &mut self,
        peer: PeerId,
        packet: &Packet<'_>,
        answer: impl FnOnce(SocketAddr) -> Result<Answer, icmp::Error>,
        cx: &mut Context<'_>,
    ) {
        let Some(segment) = Segment::parse(packet.payload) else { return };
        let key = Key {
            peer,
            local: SocketAddr::new(packet.destination, segment.destination_port),
            remote: SocketAddr::new(packet.source, segment.source_port),
        };
        let handle = match self.last {
            Some((last, handle)) if last == key => Some(handle),
            _ => self.index.get(&key).copied(),
        };
        let Some(handle) = handle else {
            return self.receive_unknown(key, packet, &segment, answer, cx);
        };
        self.last = Some((key, handle));
        let Some(flow) = self.flows.get_mut(handle) else { return };
        match &mut flow.stage {
            Stage::Open(open) => {
                if open.connection.state() == State::TimeWait && SynInfo::of(&segment).is_some() {
                    // The user's port begins a new life (RFC 9293, section 3.10.7.4; RFC 6191).
                    self.remove(handle);
                    return self.receive_unknown(key, packet, &segment, answer, cx);
                }
                open.connection.receive(&segment, cx.now);
                touch(&mut self.touched, handle, flow);
            }
            Stage::Connecting(connecting) => {
                if segment.flags.contains(tcp::Flags::RST) {
                    self.remove(handle);
                } else if let Some(syn) = SynInfo::of(&segment) {
                    // A repetition, or another attempt from the same port.
                    connecting.syn = syn;
                }
            }
        }
    }

    #[cold]
    fn receive_unknown(
        &mut self,
        key: Key,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        answer: impl FnOnce(SocketAddr) -> Result<Answer, icmp::Error>,
        cx: &mut Context<'_>,
    ) {
        let Some(syn) = SynInfo::of(segment) else {
            return cx.link.reset(key.peer, packet, segment, cx.now);
        };
        match answer(key.local) {
            Ok(Answer::Host) => self.connect(key, syn, cx),
            // Whatever users have taken, the daemon comes through: it is who ends a session.
            Ok(Answer::Control) if self.taken() < self.limit + CONTROL_FLOWS => {
                self.serve_here(key, &syn, Service::control(), &self.control.clone(), cx);
            }
            Ok(Answer::Resolver) if !self.is_full(key.peer) => {
                self.serve_here(key, &syn, Service::resolver(), &self.budget.clone(), cx);
            }
            Ok(Answer::Control | Answer::Resolver) => Self::refuse(&key, &syn, None, cx),
            Ok(Answer::Nobody) => Self::refuse(&key, &syn, None, cx),
            Err(error) => {
                self.refused += 1;
                Self::refuse(&key, &syn, Some(error), cx);
            }
        }
    }

    /// Answers a SYN with a service of the gateway itself.
    fn serve_here(
        &mut self,
        key: Key,
        syn: &SynInfo,
        service: Service,
        budget: &Budget,
        cx: &mut Context<'_>,
    ) {
        let open = Open::new(self.accept(&key, syn, budget, cx.now), Far::Own(service));
        let handle = self.insert(key, Stage::Open(Box::new(open)));
        self.touch(handle);
    }

    /// The kernel says that something is possible on a flow's socket.
    pub fn event(&mut self, handle: Handle, flags: EventFlags, cx: &mut Context<'_>) {
        let Some(flow) = self.flows.get_mut(handle) else { return };
        match &mut flow.stage {
            Stage::Open(open) => {
                open.event(flags);
                touch(&mut self.touched, handle, flow);
            }
            Stage::Connecting(_) => self.connected(handle, flags, cx),
        }
    }

    /// When [`expire`](Self::expire) has to be called next.
    pub fn deadline(&self) -> Option<Time> {
        self.timers.deadline()
    }

    /// Handles the timers that are due.
    pub fn expire(&mut self, now: Time) {
        while let Some(handle) = self.timers.pop(now) {
            let Some(flow) = self.flows.get_mut(handle) else { continue };
            match &mut flow.stage {
                Stage::Open(open) => {
                    open.expire(now);
                    touch(&mut self.touched, handle, flow);
                }
                // The user hears nothing, as from the host itself.
                Stage::Connecting(_) => {
                    self.remove(handle);
                }
            }
        }
    }

    /// Whether [`serve`](Self::serve) has something to do.
    pub fn has_work(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Moves bytes of every flow that something happened to, once around.
    pub fn serve(&mut self, cx: &mut Context<'_>) {
        for _ in 0..self.touched.len() {
            if cx.link.outer.is_blocked() {
                return;
            }
            let Some(handle) = self.touched.pop_front() else { return };
            let Some(flow) = self.flows.get_mut(handle) else { continue };
            flow.touched = false;
            let Stage::Open(open) = &mut flow.stage else { continue };
            let outcome = open.pump(&flow.key, cx);
            if let Far::Own(service) = &mut open.far {
                while let Some(what) = service.take() {
                    let (peer, from) = (flow.key.peer, flow.key.remote);
                    self.asked.push(Asked { flow: handle, peer, from, what });
                }
            }
            match outcome {
                Outcome::Again => touch(&mut self.touched, handle, flow),
                Outcome::Rest => {
                    let mut deadline = open.connection.deadline();
                    if open.is_starved() && self.budget.left() < self.settings.ring_max {
                        // Memory comes back without an event on this flow.
                        let retry = cx.now + open::STARVED_RETRY;
                        deadline = Some(deadline.map_or(retry, |at| at.min(retry)));
                    }
                    self.timers.set(flow.timer, deadline);
                }
                Outcome::Over => {
                    self.remove(handle);
                }
            }
        }
    }

    /// What services want to know from the loop; each is answered with [`reply`](Self::reply).
    pub fn take_asked(&mut self) -> Option<Asked> {
        self.asked.pop()
    }

    /// Queues bytes of a service to its user.
    pub fn reply(&mut self, handle: Handle, bytes: &[u8]) {
        let Some(flow) = self.flows.get_mut(handle) else { return };
        if let Stage::Open(open) = &mut flow.stage
            && let Far::Own(service) = &mut open.far
        {
            service.reply(bytes);
            touch(&mut self.touched, handle, flow);
        }
    }

    /// Closes all flows of a user who is no longer one. The hosts see a reset; the user hears nothing.
    pub fn forget(&mut self, peer: PeerId) {
        let gone: Vec<_> =
            self.flows.iter().filter(|(_, flow)| flow.key.peer == peer).map(|(handle, _)| handle).collect();
        for handle in gone {
            if let Some(Stage::Open(open)) = self.remove(handle).map(|flow| flow.stage) {
                open.reset_host();
            }
        }
    }

    /// Resets all connections, because the gateway ends.
    pub fn abort_all(&mut self, cx: &mut Context<'_>) {
        let all: Vec<_> = self.flows.iter().map(|(handle, _)| handle).collect();
        for handle in all {
            let Some(flow) = self.remove(handle) else { continue };
            if let Stage::Open(mut open) = flow.stage {
                open.connection.abort();
                open.pump(&flow.key, cx);
                open.reset_host();
            }
        }
    }

    fn insert(&mut self, key: Key, stage: Stage) -> Handle {
        let timers = &mut self.timers;
        let handle = self.flows.insert_with(|handle| Flow {
            key,
            timer: timers.insert(handle),
            touched: false,
            stage,
        });
        self.index.insert(key, handle);
        self.places.fetch_add(1, Ordering::Relaxed);
        self.peers.entry(key.peer).or_default().flows += 1;
        handle
    }

    /// Whether a user may have no more flows. One user's may take most of what there is, not all.
    fn is_full(&self, peer: PeerId) -> bool {
        let own = self.peers.get(&peer).map_or(0, |load| load.flows);
        self.taken() >= self.limit || own >= self.limit / 4 * 3
    }

    /// Flows of all loops.
    fn taken(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }

    fn touch(&mut self, handle: Handle) {
        if let Some(flow) = self.flows.get_mut(handle) {
            touch(&mut self.touched, handle, flow);
        }
    }

    fn remove(&mut self, handle: Handle) -> Option<Flow> {
        let flow = self.flows.remove(handle)?;
        self.places.fetch_sub(1, Ordering::Relaxed);
        self.index.remove(&flow.key);
        self.timers.remove(flow.timer);
        self.last = None;
        if let Some(load) = self.peers.get_mut(&flow.key.peer) {
            load.flows -= 1;
            load.connecting -= u32::from(matches!(flow.stage, Stage::Connecting(_)));
            if load.flows == 0 {
                self.peers.remove(&flow.key.peer);
            }
        }
        Some(flow)
    }
}

// Beside the method, so that it can be called while a flow is borrowed.
fn touch(touched: &mut VecDeque<Handle>, handle: Handle, flow: &mut Flow) {
    if !flow.touched {
        flow.touched = true;
        touched.push_back(handle);
    }
}
