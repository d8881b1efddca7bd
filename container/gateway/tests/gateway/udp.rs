//! Datagrams of users.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::bed::{Bed, Gateway, Place, SERVER_V4, SERVER_V6, bed};
use crate::daemon::{Daemon, addresses, live, user};
use crate::host::Host;

fn server_socket(bed: &Bed) -> (UdpSocket, u16) {
    let socket = bed.inside(Place::Server, || UdpSocket::bind("[::]:0").unwrap());
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn with_user(bed: &Bed) -> (Gateway, Daemon, Host) {
    let gateway = bed.start();
    let mut daemon = Daemon::new(bed);
    daemon.configure(&live(1, &[2, 3]));
    let user = user(bed, 2);
    (gateway, daemon, user)
}

/// The next datagram at the server, while the user's side runs on.
fn arrival(user: &mut Host, server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 65_536];
    user.until("a datagram at the server", |_| {
        server.recv_from(&mut buffer).ok().map(|(length, from)| (buffer[..length].to_vec(), from))
    })
}

#[test]
fn datagrams_pass_both_ways_over_ipv4_and_ipv6() {
    let Some(bed) = bed() else { return };
    let (server, port) = server_socket(&bed);
    let (_gateway, mut daemon, mut user) = with_user(&bed);
    let id = user.client.udp_bind().unwrap();
    for to in [SocketAddr::from((SERVER_V4, port)), SocketAddr::from((SERVER_V6, port))] {
        for length in [0, 1, 500, 1372] {
            user.client.udp_send(id, to, &vec![7; length]).unwrap();
            let (data, from) = arrival(&mut user, &server);
            assert_eq!(data.len(), length);
            server.send_to(&vec![8; length], from).unwrap();
            let (sender, data) = user.until("the answer", |host| host.client.udp_receive(id));
            assert_eq!((sender, data), (to, vec![8; length]));
        }
    }
    assert_eq!(daemon.telemetry().flows.udp, 2);
}

#[test]
fn one_source_looks_the_same_to_everybody_and_hears_only_whom_it_has_spoken_to() {
    let Some(bed) = bed() else { return };
    let ((first, first_port), (second, second_port)) = (server_socket(&bed), server_socket(&bed));
    let stranger = bed.inside(Place::Gateway, || UdpSocket::bind("172.31.2.1:0").unwrap());
    let (_gateway, _daemon, mut user) = with_user(&bed);
    let id = user.client.udp_bind().unwrap();
    user.client.udp_send(id, (SERVER_V4, first_port).into(), b"one").unwrap();
    let (_, seen_by_first) = arrival(&mut user, &first);
    user.client.udp_send(id, (SERVER_V4, second_port).into(), b"two").unwrap();
    let (_, seen_by_second) = arrival(&mut user, &second);
    assert_eq!(seen_by_first, seen_by_second);

    let outer = SocketAddr::from(([172, 31, 2, 1], seen_by_first.port()));
    stranger.send_to(b"unasked", outer).unwrap();
    second.send_to(b"asked", seen_by_second).unwrap();
    let (from, data) = user.until("the answer", |host| host.client.udp_receive(id));
    assert_eq!((from, data), ((SERVER_V4, second_port).into(), b"asked".to_vec()));
    user.during(Duration::from_millis(100));
    assert_eq!(user.client.udp_receive(id), None);
}

#[test]
fn a_run_of_datagrams_arrives_in_order_whatever_their_lengths() {
    let Some(bed) = bed() else { return };
    let (server, port) = server_socket(&bed);
    let (_gateway, _daemon, mut user) = with_user(&bed);
    let id = user.client.udp_bind().unwrap();
    let lengths = [1200, 1200, 1200, 300, 1200, 40, 40, 40, 41, 1372, 1372, 0, 5];
    for length in lengths {
        user.client.udp_send(id, (SERVER_V4, port).into(), &vec![length as u8; length]).unwrap();
    }
    for length in lengths {
        let (data, _) = arrival(&mut user, &server);
        assert_eq!(data, vec![length as u8; length]);
    }
}

#[test]
fn users_do_not_reach_each_other_unless_a_route_names_their_network() {
    let Some(bed) = bed() else { return };
    let (_gateway, mut daemon, mut first) = with_user(&bed);
    let mut second = user(&bed, 3);
    for user in [&mut first, &mut second] {
        let now = user.now();
        user.client.initiate(now);
        user.until("a handshake", |host| host.client.last_handshake());
        user.during(Duration::from_millis(50));
    }
    let (from, to) = (first.client.udp_bind().unwrap(), second.client.udp_bind().unwrap());
    let port = second.client.udp_port(to).unwrap();
    let destination = SocketAddr::new(addresses(3)[0], port);
    first.client.udp_send(from, destination, b"forbidden").unwrap();
    first.during(Duration::from_millis(100));
    second.during(Duration::from_millis(100));
    assert_eq!(second.client.udp_receive(to), None);
    assert_eq!(daemon.telemetry().flows.refused, 1);

    let mut open = live(2, &[2, 3]);
    open.routes.push("10.8.0.0/24".parse().unwrap());
    daemon.configure(&open);
    first.client.udp_send(from, destination, b"allowed").unwrap();
    first.turn();
    let (sender, data) = second.until("the other user's datagram", |host| host.client.udp_receive(to));
    assert_eq!((sender.ip(), data), (addresses(2)[0], b"allowed".to_vec()));
}
