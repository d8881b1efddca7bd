//! The client of the data-plane bench: WireGuard between a TUN device and a UDP socket, with segmentation offload on both
//! sides and one thread. It costs less than half of what `wireguard-go` takes, so that the gateway is what is measured. It
//! knows one peer, takes no commands, and needs CAP_NET_ADMIN for the device.

mod join;
mod link;
mod offload;
#[cfg(test)]
mod samples;
mod split;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ebb_tunnel::Time;
use ebb_tunnel::wireguard::{Addresses, Endpoint, PeerConfig, Received, Start};
use ebb_wire::{PrivateKey, PublicKey};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tun_rs::{DeviceBuilder, SyncDevice};

use join::Joined;
use link::{BUFFERS, Link};
use split::Split;

/// Longest inner packet, as in the configurations that Ebb prints.
const MTU: u16 = 1420;
/// Packets of up to 64 KiB taken from the device before the network is looked at.
const READS: usize = 8;
/// The longest wait: nothing happens then.
const IDLE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [interface, config] = arguments.as_slice() else {
        return tell("usage: ebb-tun-client INTERFACE CONFIGURATION");
    };
    match run(interface, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell(&format!("error: {error}")),
    }
}

#[expect(clippy::print_stderr, reason = "a program says why it ends")]
fn tell(what: &str) -> ExitCode {
    eprintln!("{what}");
    ExitCode::FAILURE
}

/// Carries packets until it is killed.
fn run(interface: &str, path: &str) -> Result<(), Box<dyn Error>> {
    let config = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let value = |name: &str| {
        let lines = config.lines().filter_map(|line| line.split_once('='));
        let mut values =
            lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned());
        values.next().ok_or_else(|| format!("{path} has no {name}"))
    };
    let key: PrivateKey = value("PrivateKey")?.parse()?;
    let gateway: PublicKey = value("PublicKey")?.parse()?;
    let endpoint: SocketAddr = value("Endpoint")?.parse()?;

    let clock = Clock::start();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let start = Start { now: clock.now(), unix: clock.unix, seed };
    let peer =
        PeerConfig { key: gateway, addresses: Addresses::All, endpoint: Some(endpoint), keepalive: None };
    let (tunnel, peer) = Endpoint::with_peer(&key, MTU, peer, start);
    let link = Link::new(tunnel, peer, endpoint)?;
    let device = DeviceBuilder::new().name(interface).offload(true).build_sync()?;
    device.set_nonblocking(true)?;
    Client { clock, device, link, outgoing: vec![0; offload::PACKET_MAX] }.serve()
}

struct Client {
    clock: Clock,
    device: SyncDevice,
    link: Link,
    outgoing: Vec<u8>,
}

impl Client {
    fn serve(&mut self) -> Result<(), Box<dyn Error>> {
        let mut buffers = vec![0; BUFFERS * offload::PACKET_MAX];
        loop {
            self.wait()?;
            self.up();
            self.down(&mut buffers);
            self.link.tunnel.expire(self.clock.now());
            self.link.flush();
        }
    }

    /// Until something can be read, or a timer of the tunnel is due.
    fn wait(&self) -> Result<(), Box<dyn Error>> {
        let now = self.clock.now();
        let wait = self.link.tunnel.deadline().map_or(IDLE, |at| at.since(now).min(IDLE));
        // Rounded up, so that the deadline has passed.
        let wait = PollTimeout::try_from(wait + Duration::from_millis(1))?;
        let files = [self.device.as_fd(), self.link.socket()];
        poll(&mut files.map(|file| PollFd::new(file, PollFlags::POLLIN)), wait)?;
        Ok(())
    }

    /// From the device into the tunnel.
    fn up(&mut self) {
        for _ in 0..READS {
            let Ok(length) = self.device.recv(&mut self.outgoing) else { break };
            let Some(mut packets) = Split::new(&self.outgoing[..length]) else { continue };
            let now = self.clock.now();
            while self.link.send(now, |out| packets.next(out)) {}
        }
    }

    /// From the tunnel to the device.
    fn down(&mut self, buffers: &mut [u8]) {
        let arrived = self.link.receive(buffers);
        let now = self.clock.now();
        for (buffer, (length, stride)) in buffers.chunks_mut(offload::PACKET_MAX).zip(arrived) {
            let mut joined = Joined::default();
            for datagram in buffer[..length].chunks_mut(stride) {
                if let Received::Packet { packet, .. } = self.link.receive_datagram(datagram, now)
                    && !joined.push(&packet)
                {
                    joined.take(|slices| _ = self.device.send_vectored(slices));
                    joined.push(&packet);
                }
            }
            joined.take(|slices| _ = self.device.send_vectored(slices));
        }
    }
}

/// Reads the clocks.
struct Clock {
    started: Instant,
    unix: Duration,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the clock of this program")]
    fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), unix }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }
}
