//! The far side comes first: a connect of the kernel, and what becomes of it.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::packet::{Header, Packet, header_length, icmp, protocol};
use ebb_tunnel::tcp::{self, Budget, Connection, Flags, Options, Segment, Seq, SynInfo};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::open::{Far, Open};
use super::relay::Relay;
use super::{Context, Flows, Key, Stage};
use crate::plane::icmp_errors::from_errno;
use crate::plane::poller::{EventFlags, Source};
use crate::plane::table::Handle;

/// Connects of one user that may be under way. A browser that restores its windows starts some hundred; a SYN flood would
/// take every file descriptor.
const PER_PEER: u32 = 1024;

/// Time for a connect. The kernel would try for two minutes. A user who still wants the connection has repeated the SYN by
/// then, and the next repetition starts another connect.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A connect under way.
pub(super) struct Connecting {
    socket: Socket,
    pub syn: SynInfo,
}

impl Flows {
    /// Starts a connect for a SYN.
    pub(super) fn connect(&mut self, key: Key, syn: SynInfo, cx: &mut Context<'_>) {
        if self.peers.get(&key.peer).is_some_and(|load| load.connecting >= PER_PEER) {
            // The user repeats the SYN; until then some of the others are done.
            return;
        }
        if self.is_full(key.peer) {
            return Self::refuse(&key, &syn, None, cx);
        }
        let socket = match start(&key) {
            Ok(socket) => socket,
            Err(error) => return Self::refuse(&key, &syn, reason(&error), cx),
        };
        let handle = self.insert(key, Stage::Connecting(Connecting { socket, syn }));
        self.peers.entry(key.peer).or_default().connecting += 1;
        let Some(flow) = self.flows.get_mut(handle) else { return };
        self.timers.set(flow.timer, Some(cx.now + TIMEOUT));
        let Stage::Connecting(connecting) = &flow.stage else { return };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if cx.poller.add(&connecting.socket, Source::Tcp(handle), flags).is_err() {
            self.remove(handle);
            Self::refuse(&key, &syn, None, cx);
        }
    }

    /// The kernel has decided about a connect.
    #[cold]
    pub(super) fn connected(&mut self, handle: Handle, flags: EventFlags, cx: &mut Context<'_>) {
        let Some(flow) = self.flows.get_mut(handle) else { return };
        let key = flow.key;
        let Stage::Connecting(connecting) = &mut flow.stage else { return };
        let syn = connecting.syn;
        if flags.intersects(EventFlags::ERR | EventFlags::HUP)
            && let Some(error) = connecting.socket.take_error().unwrap_or_else(Some)
        {
            self.remove(handle);
            // Silence stays silence.
            if Errno::from_io_error(&error) != Some(Errno::TIMEDOUT) {
                Self::refuse(&key, &syn, reason(&error), cx);
            }
            return;
        }
        if !flags.contains(EventFlags::OUT) {
            return;
        }
        let open = Open::new(self.accept(&key, &syn, &self.budget, cx.now), Far::Gone);
        let Some(flow) = self.flows.get_mut(handle) else { return };
        let before = std::mem::replace(&mut flow.stage, Stage::Open(Box::new(open)));
        if let (Stage::Connecting(connecting), Stage::Open(open)) = (before, &mut flow.stage) {
            open.far = Far::Host(Relay::new(TcpStream::from(connecting.socket), flags, cx.now));
        }
        self.peers.entry(key.peer).or_default().connecting -= 1;
        self.touch(handle);
    }

    /// Our answer to a user's SYN.
    pub(super) fn accept(&self, key: &Key, syn: &SynInfo, budget: &Budget, now: Time) -> Connection {
        let isn = tcp::initial_sequence(&self.secret, key.local, key.remote, now);
        Connection::answer(key.local, key.remote, syn, &self.settings, budget, isn, now)
    }

    /// Tells a user that there will be no connection: why, where ICMP has a word for it, and a reset, because clients take
    /// an error for something that may pass (RFC 5461) and would wait.
    #[cold]
    pub(super) fn refuse(key: &Key, syn: &SynInfo, error: Option<icmp::Error>, cx: &mut Context<'_>) {
        let segment = Segment {
            source_port: key.remote.port(),
            destination_port: key.local.port(),
            seq: syn.seq,
            ack: Seq(0),
            flags: Flags::SYN,
            window: syn.window,
            options: Options::default(),
            payload: &[],
        };
        let mut bytes = [0; 60];
        let Some(packet) = quoted(&mut bytes, key, &segment) else { return };
        if let Some(error) = error {
            cx.link.report(key.peer, error, &packet, cx.now);
        }
        cx.link.reset(key.peer, &packet, &segment, cx.now);
    }
}

/// The user's SYN, as far as an ICMP error has to quote it: addresses, ports and sequence number.
fn quoted<'a>(bytes: &'a mut [u8; 60], key: &Key, segment: &Segment<'_>) -> Option<Packet<'a>> {
    let start = header_length(key.local.ip());
    let header = Header::new(key.remote.ip(), key.local.ip(), protocol::TCP);
    header.write(bytes, tcp::HEADER)?;
    let tcp = &mut bytes[start..start + tcp::HEADER];
    tcp[0..2].copy_from_slice(&segment.source_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&segment.destination_port.to_be_bytes());
    tcp[4..8].copy_from_slice(&segment.seq.0.to_be_bytes());
    tcp[12] = 0x50;
    tcp[13] = segment.flags.bits();
    tcp[14..16].copy_from_slice(&segment.window.to_be_bytes());
    Packet::parse(bytes).ok()
}

fn start(key: &Key) -> io::Result<Socket> {
    let domain = match key.local.ip() {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    // The user's own stack has decided what to send together.
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&key.local.into()) {
        Ok(()) => Ok(socket),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// What ICMP has to say about an error of the kernel; `None` where a reset says it.
fn reason(error: &io::Error) -> Option<icmp::Error> {
    Errno::from_io_error(error).and_then(from_errno).filter(|error| *error != icmp::Error::Port)
}
