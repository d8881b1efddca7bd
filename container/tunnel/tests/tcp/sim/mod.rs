//! A network in virtual time: hosts, links, and an event queue. Everything follows from seeds.

pub mod app;
pub mod host;
pub mod link;
pub mod observer;
pub mod pattern;
pub mod reference;
pub mod rng;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ebb_tunnel::Time;

use app::App;
use host::Endpoint;
use link::{Conditions, Link};
use observer::Observer;

/// A machine at the end of a path.
pub struct Host {
    pub endpoint: Box<dyn Endpoint>,
    pub app: App,
    pub observer: Option<Observer>,
    /// The link it sends into, and the host at its end.
    link: usize,
    peer: usize,
    /// Its timers fire at multiples of this many microseconds, as those of a loop with a coarse clock do.
    tick: u64,
    /// Packets are handled at multiples of this many microseconds, as a loop that is busy with others does.
    batch: u64,
    inbox: Vec<Vec<u8>>,
    process_at: Option<Time>,
    wake_at: Option<Time>,
}

impl Host {
    pub fn new(endpoint: Box<dyn Endpoint>, app: App, observer: Option<Observer>) -> Self {
        Self {
            endpoint,
            app,
            observer,
            link: 0,
            peer: 0,
            tick: 1000,
            batch: 0,
            inbox: Vec::new(),
            process_at: None,
            wake_at: None,
        }
    }

    pub fn with_batch(mut self, batch: u64) -> Self {
        self.batch = batch;
        self
    }
}

enum Kind {
    Arrive { host: usize, bytes: Vec<u8> },
    Process { host: usize },
    Wake { host: usize },
}

struct Event {
    at: Time,
    order: u64,
    kind: Kind,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Everything there is.
pub struct World {
    pub now: Time,
    pub hosts: Vec<Host>,
    pub links: Vec<Link>,
    events: BinaryHeap<Reverse<Event>>,
    order: u64,
    pub events_handled: u64,
    /// Set to print every segment: a test that fails is explained by its trace.
    pub trace: bool,
}

impl World {
    /// A world with two links, in this order: towards even hosts' peers (down), towards odd hosts' peers (up).
    pub fn new(down: Conditions, up: Conditions, seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            hosts: Vec::new(),
            links: vec![Link::new(down, seed), Link::new(up, seed.rotate_left(17) ^ 1)],
            events: BinaryHeap::new(),
            order: 0,
            events_handled: 0,
            trace: std::env::var_os("TCP_TRACE").is_some(),
        }
    }

    /// Adds a pair of hosts that talk to each other: the first sends into link 0, the second into link 1. Both start at
    /// `start`.
    pub fn connect(&mut self, mut server: Host, mut client: Host, start: Time) -> (usize, usize) {
        let first = self.hosts.len();
        server.link = 0;
        server.peer = first + 1;
        client.link = 1;
        client.peer = first;
        self.hosts.push(server);
        self.hosts.push(client);
        for host in [first, first + 1] {
            self.schedule(start, Kind::Wake { host });
        }
        (first, first + 1)
    }

    fn schedule(&mut self, at: Time, kind: Kind) {
        self.order += 1;
        self.events.push(Reverse(Event { at: at.max(self.now), order: self.order, kind }));
    }

    /// Handles one event; false when there is none left before `until`.
    pub fn step(&mut self, until: Time) -> bool {
        if self.events.peek().is_none_or(|Reverse(event)| event.at > until) {
            return false;
        }
        let Some(Reverse(event)) = self.events.pop() else { return false };
        self.now = event.at;
        self.events_handled += 1;
        match event.kind {
            Kind::Arrive { host, bytes } => {
                let now = self.now;
                let entry = &mut self.hosts[host];
                entry.inbox.push(bytes);
                if entry.process_at.is_none() {
                    let at = if entry.batch == 0 {
                        now
                    } else {
                        Time::from_micros(now.as_micros().next_multiple_of(entry.batch))
                    };
                    entry.process_at = Some(at);
                    self.schedule(at, Kind::Process { host });
                }
            }
            Kind::Process { host } => {
                let now = self.now;
                let trace = self.trace;
                let entry = &mut self.hosts[host];
                entry.process_at = None;
                for bytes in std::mem::take(&mut entry.inbox) {
                    if trace {
                        println!("{now:?} host {host} <- {}", describe(&bytes));
                    }
                    if let Some(observer) = &mut entry.observer {
                        observer.hears(&bytes);
                    }
                    entry.endpoint.receive(&bytes, now);
                }
                self.pump(host);
            }
            Kind::Wake { host } => {
                let now = self.now;
                let entry = &mut self.hosts[host];
                if entry.wake_at.is_some_and(|at| at <= now) {
                    entry.wake_at = None;
                }
                entry.endpoint.expire(now);
                self.pump(host);
            }
        }
        true
    }

    /// Lets the application and the connection of a host do what they can, and arms its timer.
    pub fn pump(&mut self, host: usize) {
        let now = self.now;
        let mut out = [0; 2048];
        loop {
            let entry = &mut self.hosts[host];
            entry.endpoint.pump(&mut entry.app, now);
            let mut sent = false;
            while let Some(length) = self.hosts[host].endpoint.transmit(&mut out, now) {
                sent = true;
                let entry = &mut self.hosts[host];
                let bytes = &out[..length];
                if self.trace {
                    println!("{now:?} host {host} -> {}", describe(bytes));
                }
                if let Some(observer) = &mut entry.observer {
                    observer.sees(bytes, entry.app.read, now);
                }
                let (link, peer) = (entry.link, entry.peer);
                for arrival in self.links[link].carry(length, now).into_iter().flatten() {
                    self.schedule(arrival, Kind::Arrive { host: peer, bytes: out[..length].to_vec() });
                }
            }
            if !sent {
                break;
            }
        }
        let entry = &mut self.hosts[host];
        let deadline = [entry.endpoint.deadline(), entry.app.deadline(now)].into_iter().flatten().min();
        if let Some(deadline) = deadline {
            let ticks = deadline.as_micros().max(now.as_micros() + 1).next_multiple_of(entry.tick);
            let at = Time::from_micros(ticks);
            if entry.wake_at.is_none_or(|armed| at < armed) {
                entry.wake_at = Some(at);
                self.schedule(at, Kind::Wake { host });
            }
        }
    }

    /// Runs until every end is over, or until `until`. Returns whether all are over.
    pub fn run(&mut self, until: Time) -> bool {
        loop {
            if self.hosts.iter().all(|host| host.endpoint.is_over() && host.app.saw_end) {
                return true;
            }
            if !self.step(until) {
                return false;
            }
        }
    }

    /// Runs until `until`, whatever happens.
    pub fn run_for_all(&mut self, until: Time) {
        while self.step(until) {}
        self.now = self.now.max(until);
    }
}

/// One line about a segment.
fn describe(bytes: &[u8]) -> String {
    let segment = ebb_tunnel::tcp::Segment::parse(bytes).expect("well formed");
    format!(
        "{:?} seq {:?} len {} ack {:?} win {} {:?}",
        segment.flags,
        segment.seq,
        segment.payload.len(),
        segment.ack,
        segment.window,
        segment.options.sack
    )
}
