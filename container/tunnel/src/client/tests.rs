use proptest::prelude::*;

use super::*;
use crate::tcp::{End, State, SynInfo};
use crate::wireguard::{Sealed, Start};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 8, 0, 2));
const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 8, 0, 1));

fn outer(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 41820))
}

fn start(seed: u8, now: Time) -> Start {
    Start { now, unix: Duration::from_secs(1_700_000_000), seed: [seed; 32] }
}

/// A gateway in memory: an endpoint and one TCP service that echoes.
struct Gateway {
    tunnel: Endpoint,
    peer: PeerId,
    connection: Option<(Connection, SocketAddr, SocketAddr)>,
    /// Datagrams of the client that arrived, by protocol of the inner packet.
    packets: Vec<Vec<u8>>,
}

impl Gateway {
    fn receive(&mut self, mut datagram: Vec<u8>, now: Time) {
        let received = self.tunnel.receive(&mut datagram, outer(2).into(), now);
        let Received::Packet { packet, .. } = received else { return };
        self.packets.push(packet.bytes.to_vec());
        let Some(segment) = Segment::parse(packet.payload).filter(|_| packet.protocol == protocol::TCP)
        else {
            return;
        };
        let local = SocketAddr::new(packet.destination, segment.destination_port);
        let remote = SocketAddr::new(packet.source, segment.source_port);
        if let Some((connection, ..)) = &mut self.connection {
            connection.receive(&segment, now);
        } else if let Some(syn) = SynInfo::of(&segment).filter(|_| local.port() == 7) {
            let settings = tcp::Settings::default();
            let connection =
                Connection::answer(local, remote, &syn, &settings, &tcp::Budget::new(1 << 20), 1, now);
            self.connection = Some((connection, local, remote));
        }
    }

    fn echo(&mut self) {
        let Some((connection, ..)) = &mut self.connection else { return };
        let (first, second) = connection.readable();
        let data = [first, second].concat();
        let (room, _) = connection.writable();
        let count = room.len().min(data.len());
        room[..count].copy_from_slice(&data[..count]);
        connection.commit(count);
        connection.consume(count);
        if connection.remote_finished() {
            connection.finish();
        }
    }

    fn transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        let mut out = vec![0; 2048];
        if let Some((length, _)) = self.tunnel.transmit(&mut out) {
            out.truncate(length);
            return Some(out);
        }
        let (connection, local, remote) = self.connection.as_mut()?;
        let sealed = self.tunnel.seal(self.peer, &mut out, now, |inner| {
            let length = connection.transmit(&mut inner[20..], now)?;
            Header::new(local.ip(), remote.ip(), protocol::TCP).write(inner, length)?;
            Some(length + 20)
        });
        let Sealed::Datagram(length, _) = sealed else { return None };
        out.truncate(length);
        Some(out)
    }
}

/// A client and a gateway with a network of equal delay between them.
struct World {
    client: Client,
    gateway: Gateway,
    now: Time,
    to_gateway: VecDeque<(Time, Vec<u8>)>,
    to_client: VecDeque<(Time, Vec<u8>)>,
    /// Datagrams of the client that the network swallows first.
    swallow: usize,
}

impl World {
    fn new() -> Self {
        let now = Time::from_millis(1);
        let (client_key, gateway_key) = (PrivateKey::from_random([1; 32]), PrivateKey::from_random([2; 32]));
        let peer = PeerConfig {
            key: client_key.public(),
            addresses: Addresses::Hosts(vec![CLIENT]),
            endpoint: None,
            keepalive: None,
        };
        let (tunnel, peer) = Endpoint::with_peer(&gateway_key, 1420, peer, start(4, now));
        let config = ClientConfig {
            private_key: client_key,
            gateway_key: gateway_key.public(),
            endpoint: outer(1),
            addresses: vec![CLIENT],
            mtu: 1420,
            persistent_keepalive: None,
        };
        Self {
            client: Client::new(config, start(3, now)),
            gateway: Gateway { tunnel, peer, connection: None, packets: Vec::new() },
            now,
            to_gateway: VecDeque::new(),
            to_client: VecDeque::new(),
            swallow: 0,
        }
    }

    /// Runs for a while, or until `done`.
    fn run(&mut self, time: Duration, mut done: impl FnMut(&mut Client) -> bool) -> bool {
        let end = self.now + time;
        while self.now < end {
            self.exchange();
            if done(&mut self.client) {
                self.exchange();
                return true;
            }
            self.now += Duration::from_millis(1);
            if self.client.deadline().is_some_and(|at| at <= self.now) {
                self.client.expire(self.now);
            }
            self.gateway.tunnel.expire(self.now);
            if let Some((connection, ..)) = &mut self.gateway.connection
                && connection.deadline().is_some_and(|at| at <= self.now)
            {
                connection.expire(self.now);
            }
        }
        false
    }

    fn exchange(&mut self) {
        let arrival = self.now + Duration::from_millis(5);
        let mut out = [0; 2048];
        while let Some((length, to)) = self.client.transmit(&mut out, self.now) {
            assert_eq!(to, outer(1));
            if self.swallow > 0 {
                self.swallow -= 1;
            } else {
                self.to_gateway.push_back((arrival, out[..length].to_vec()));
            }
        }
        while let Some((_, datagram)) = self.to_gateway.pop_front_if(|(at, _)| *at <= self.now) {
            self.gateway.receive(datagram, self.now);
        }
        self.gateway.echo();
        while let Some(datagram) = self.gateway.transmit(self.now) {
            self.to_client.push_back((arrival, datagram));
        }
        while let Some((_, mut datagram)) = self.to_client.pop_front_if(|(at, _)| *at <= self.now) {
            self.client.receive(&mut datagram, outer(1), self.now);
        }
    }

    /// Lets the gateway send a packet.
    fn gateway_sends(&mut self, packet: &[u8]) {
        let mut slot = vec![0; 2048];
        let sealed = self.gateway.tunnel.seal(self.gateway.peer, &mut slot, self.now, |out| {
            out[..packet.len()].copy_from_slice(packet);
            Some(packet.len())
        });
        let Sealed::Datagram(length, _) = sealed else { panic!("{sealed:?}") };
        slot.truncate(length);
        self.to_client.push_back((self.now, slot));
    }
}

#[test]
fn a_connection_carries_bytes_both_ways_and_ends_in_order() {
    let mut world = World::new();
    let id = world.client.connect((GATEWAY, 7).into(), world.now).unwrap();
    let sent: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut written, mut read) = (0, Vec::new());
    let done = world.run(Duration::from_secs(20), |client| {
        let connection = client.tcp(id).unwrap();
        let (room, _) = connection.writable();
        let count = room.len().min(sent.len() - written);
        room[..count].copy_from_slice(&sent[written..written + count]);
        connection.commit(count);
        written += count;
        if written == sent.len() {
            connection.finish();
        }
        let (first, second) = connection.readable();
        read.extend([first, second].concat());
        let count = first.len() + second.len();
        connection.consume(count);
        connection.remote_finished() && connection.local_finished()
    });
    assert!(done);
    assert_eq!(read.len(), sent.len());
    assert!(read == sent);
}

#[test]
fn a_lost_first_handshake_is_repeated_long_before_wireguards_five_seconds() {
    let mut world = World::new();
    world.swallow = 2;
    world.client.initiate(world.now);
    let start = world.now;
    assert!(world.run(Duration::from_secs(2), |client| client.last_handshake().is_some()));
    assert!(world.now.since(start) < Duration::from_millis(400), "{:?}", world.now);
}

#[test]
fn a_first_packet_starts_the_handshake_and_arrives_after_it() {
    let mut world = World::new();
    world.swallow = 1;
    let id = world.client.udp_bind().unwrap();
    world.client.udp_send(id, (GATEWAY, 53).into(), b"question").unwrap();
    assert!(world.run(Duration::from_secs(2), |client| client.last_handshake().is_some()));
    world.run(Duration::from_millis(20), |_| false);
    let arrived = world.gateway.packets.iter().filter(|bytes| bytes.ends_with(b"question")).count();
    assert_eq!(arrived, 1);
}

#[test]
fn repetitions_are_quick_at_first_then_wireguards_own_and_stop_when_nobody_answers() {
    let mut world = World::new();
    world.swallow = usize::MAX;
    world.client.initiate(world.now);
    let mut sent_in = |seconds| {
        let before = world.swallow;
        world.run(Duration::from_secs(seconds), |_| false);
        before - world.swallow
    };
    let (first, next, later, last) = (sent_in(4), sent_in(16), sent_in(80), sent_in(100));
    assert!((5..=6).contains(&first), "{first}");
    assert!((3..=4).contains(&next), "{next}");
    assert!((14..=17).contains(&later), "{later}");
    assert_eq!(last, 0);
}

#[test]
fn datagrams_come_back_to_the_socket_that_sent_them() {
    let mut world = World::new();
    world.client.initiate(world.now);
    world.run(Duration::from_secs(1), |client| client.last_handshake().is_some());
    let (first, second) = (world.client.udp_bind().unwrap(), world.client.udp_bind().unwrap());
    world.client.udp_send(second, (GATEWAY, 53).into(), b"question").unwrap();
    world.run(Duration::from_millis(20), |_| false);
    let question = world.gateway.packets.pop().unwrap();
    let port = udp::Datagram::parse(Packet::parse(&question).unwrap().payload).unwrap().source_port;
    let mut answer = [0; 64];
    let length = udp::write(&mut answer, (GATEWAY, 53).into(), (CLIENT, port).into(), b"answer").unwrap();
    world.gateway_sends(&answer[..length]);
    world.run(Duration::from_millis(20), |_| false);
    assert_eq!(world.client.udp_receive(first), None);
    assert_eq!(world.client.udp_receive(second), Some(((GATEWAY, 53).into(), b"answer".to_vec())));
    assert_eq!(world.client.udp_receive(second), None);

    world.client.close(second);
    assert_eq!(world.client.udp_send(second, (GATEWAY, 53).into(), b""), Err(SocketError::Closed));
    let too_long = world.client.udp_send(first, (GATEWAY, 53).into(), &[0; 1400]);
    assert_eq!(too_long, Err(SocketError::TooLong));
}

#[test]
fn an_address_of_a_family_the_client_has_not_is_refused_at_once() {
    let mut world = World::new();
    let to = "[2001:db8::1]:80".parse().unwrap();
    assert_eq!(world.client.connect(to, world.now), Err(SocketError::NoAddress));
}

#[test]
fn a_connection_that_policy_forbids_ends_with_the_reason() {
    let mut world = World::new();
    world.client.initiate(world.now);
    world.run(Duration::from_secs(1), |client| client.last_handshake().is_some());
    let id = world.client.connect(SocketAddr::from(([169, 254, 169, 254], 80)), world.now).unwrap();
    world.run(Duration::from_millis(20), |_| false);
    let syn = world.gateway.packets.pop().unwrap();
    let mut out = [0; 600];
    let about = Packet::parse(&syn).unwrap();
    let length = icmp::write_error(&mut out, icmp::Error::Prohibited, GATEWAY, &about).unwrap();
    world.gateway_sends(&out[..length]);
    world.run(Duration::from_millis(20), |_| false);
    assert_eq!(world.client.unreachable(id), Some(icmp::Error::Prohibited));
    assert_eq!(world.client.tcp(id).unwrap().ended(), Some(End::Aborted));
}

#[test]
fn an_icmp_error_does_not_end_an_established_connection() {
    let mut world = World::new();
    let id = world.client.connect((GATEWAY, 7).into(), world.now).unwrap();
    let established =
        world.run(Duration::from_secs(2), |client| client.tcp(id).unwrap().state() == State::Established);
    assert!(established);
    let syn = world.gateway.packets.remove(0);
    let mut out = [0; 600];
    let about = Packet::parse(&syn).unwrap();
    let length = icmp::write_error(&mut out, icmp::Error::Host, GATEWAY, &about).unwrap();
    world.gateway_sends(&out[..length]);
    world.run(Duration::from_millis(20), |_| false);
    assert_eq!(world.client.tcp(id).unwrap().state(), State::Established);
    assert_eq!(world.client.unreachable(id), None);
}

#[test]
fn a_removed_connection_is_reset_and_its_name_is_void() {
    let mut world = World::new();
    let id = world.client.connect((GATEWAY, 7).into(), world.now).unwrap();
    world.run(Duration::from_secs(2), |client| client.tcp(id).unwrap().state() == State::Established);
    world.client.remove(id, world.now);
    assert!(world.client.tcp(id).is_none());
    world.run(Duration::from_millis(20), |_| false);
    assert_eq!(world.gateway.connection.as_ref().unwrap().0.ended(), Some(End::Reset));
}

#[test]
fn a_segment_without_a_connection_is_reset() {
    let mut world = World::new();
    let id = world.client.connect((GATEWAY, 7).into(), world.now).unwrap();
    world.run(Duration::from_secs(2), |client| client.tcp(id).unwrap().state() == State::Established);
    world.client.sockets.take(id);
    let (connection, ..) = world.gateway.connection.as_mut().unwrap();
    connection.writable().0[..4].copy_from_slice(b"data");
    connection.commit(4);
    world.run(Duration::from_millis(100), |_| false);
    assert_eq!(world.gateway.connection.as_ref().unwrap().0.ended(), Some(End::Reset));
}

#[test]
fn a_client_can_move_to_another_thread() {
    fn send<T: Send>(_: &T) {}
    send(&World::new().client);
}

proptest! {
    #[test]
    fn no_packet_of_the_gateway_makes_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 1..200), protocol in prop::sample::select(vec![1_u8, 6, 17, 58]),
    ) {
        let mut world = World::new();
        world.client.initiate(world.now);
        world.run(Duration::from_millis(100), |_| false);
        let mut packet = vec![0; 20 + bytes.len()];
        Header::new(GATEWAY, CLIENT, protocol).write(&mut packet, bytes.len()).unwrap();
        packet[20..].copy_from_slice(&bytes);
        world.gateway_sends(&packet);
        world.run(Duration::from_millis(20), |_| false);
    }
}
