//! What a load balancer does with datagrams: it takes them at its public address and carries them to where its rules lead at that
//! moment, and the answers back.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::{FakeArm, Shared};
use crate::e2e::namespace::Namespace;

/// How soon it obeys a changed rule.
const OBEYS_WITHIN: Duration = Duration::from_millis(20);

/// The data path of the load balancer. It ends with the service.
pub struct Forwarder;

/// One client's datagrams to one port.
struct Flow {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Forwarder {
    /// Starts it at this address of a namespace.
    pub fn start(namespace: &Namespace, azure: &FakeArm, address: IpAddr) {
        let shared = Arc::downgrade(&azure.shared.0);
        namespace.thread(move || forward(&shared, address));
    }
}

fn forward(shared: &Weak<std::sync::Mutex<super::State>>, address: IpAddr) {
    let mut fronts: BTreeMap<u16, UdpSocket> = BTreeMap::new();
    let mut flows: BTreeMap<(u16, SocketAddr), Flow> = BTreeMap::new();
    let mut buffer = vec![0; 65_536];
    while let Some(shared) = shared.upgrade().map(Shared) {
        let rules = shared.lock().balancers.rules();
        drop(shared);
        fronts.retain(|port, _| rules.contains_key(port));
        for port in rules.keys().filter(|port| !fronts.contains_key(port)).copied().collect::<Vec<_>>() {
            fronts.insert(port, socket(address, port));
        }
        // A flow goes where it went for as long as the pool has that address.
        flows.retain(|(port, _), flow| rules.get(port).is_some_and(|to| to.contains(&flow.to)));
        let sockets = fronts.values().chain(flows.values().map(|flow| &flow.socket));
        let mut wanted: Vec<_> =
            sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        // Interrupted or not, it looks at everything.
        let _ = ppoll(&mut wanted, Some(TimeSpec::from_duration(OBEYS_WITHIN)), None);
        drop(wanted);
        for (port, front) in &fronts {
            while let Some((length, client)) = receive(front, &mut buffer) {
                let Some(to) = rules[port].first() else { continue };
                let flow = flows
                    .entry((*port, client))
                    .or_insert_with(|| Flow { socket: socket(Ipv4Addr::UNSPECIFIED.into(), 0), to: *to });
                // What cannot be sent is lost, as anywhere.
                let _ = flow.socket.send_to(&buffer[..length], flow.to);
            }
        }
        for ((port, client), flow) in &flows {
            while let Some((length, _)) = receive(&flow.socket, &mut buffer) {
                let _ = fronts[port].send_to(&buffer[..length], *client);
            }
        }
    }
}

fn socket(address: IpAddr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).unwrap_or_else(|error| panic!("{address}:{port}: {error}"));
    socket.set_nonblocking(true).expect("a socket can be told so");
    socket
}

/// The next datagram. Word that an earlier one was refused is none.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Ok(received) => return Some(received),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
}
