//! The daemon's side of the control connection.

use std::net::IpAddr;

use ebb_tunnel::client::SocketId;
use ebb_wire::{
    CONTROL_PORT, DAEMON_ADDRESS, Frames, GATEWAY_ADDRESS, Live, Peer, PrivateKey, Reply, Request, Telemetry,
    encode,
};

use crate::bed::Bed;
use crate::host::Host;

pub struct Daemon {
    pub host: Host,
    control: SocketId,
    frames: Frames,
}

impl Daemon {
    /// Connects to the gateway's control port.
    pub fn new(bed: &Bed) -> Self {
        let mut host = Host::new(bed, bed.control_key.clone(), &[DAEMON_ADDRESS.into()]);
        let now = host.now();
        host.client.initiate(now);
        let control = host.connect((GATEWAY_ADDRESS, CONTROL_PORT));
        Self { host, control, frames: Frames::default() }
    }

    pub fn ask(&mut self, request: &Request) -> Reply {
        self.ask_raw(&encode(request).unwrap())
    }

    pub fn ask_raw(&mut self, frame: &[u8]) -> Reply {
        let (control, frames) = (self.control, &mut self.frames);
        let mut sent = 0;
        self.host.until("a reply on the control port", |host| {
            sent += host.write(control, &frame[sent..]);
            frames.push(&host.read(control));
            frames.take().unwrap()
        })
    }

    pub fn configure(&mut self, live: &Live) {
        let reply = self.ask(&Request::Configure(live.clone()));
        assert_eq!(reply, Reply::Configured { digest: live.digest() });
    }

    pub fn telemetry(&mut self) -> Telemetry {
        match self.ask(&Request::Telemetry) {
            Reply::Telemetry(telemetry) => telemetry,
            other => panic!("{other:?}"),
        }
    }
}

/// The key of a user.
pub fn key(user: u8) -> PrivateKey {
    PrivateKey::from_random([100 + user; 32])
}

/// The addresses of a user.
pub fn addresses(user: u8) -> [IpAddr; 2] {
    let v6 = std::net::Ipv6Addr::new(0xfd65, 0x6262, 0, 1, 0, 0, 0, u16::from(user));
    [[10, 8, 0, user].into(), v6.into()]
}

/// A user's client.
pub fn user(bed: &Bed, user: u8) -> Host {
    Host::new(bed, key(user), &addresses(user))
}

/// A configuration with these users, and routes to everything, the server's networks by name.
pub fn live(generation: u64, users: &[u8]) -> Live {
    let routes = ["0.0.0.0/0", "::/0", "172.31.2.0/24", "fd31:2::/64"];
    Live {
        generation,
        peers: users
            .iter()
            .map(|user| Peer {
                name: format!("user{user}"),
                public_key: key(*user).public(),
                addresses: addresses(*user).to_vec(),
                source_ips: Vec::new(),
            })
            .collect(),
        routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
        dns: ebb_wire::Dns::default(),
    }
}
