//! Several loops, whatever this machine has for cores.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::bed::{SERVER_V4, bed};
use crate::daemon::{Daemon, addresses, key, live, user};
use crate::tcp::echo_server;

const USERS: [u8; 8] = [2, 3, 4, 5, 6, 7, 8, 9];

#[test]
fn users_of_all_loops_are_served_counted_and_removed() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let gateway = bed.start_with(&[], &["--loops", "4"]);
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &USERS));
    let mut users: Vec<_> = USERS.iter().map(|number| user(&bed, *number)).collect();
    let flows: Vec<_> = users.iter_mut().map(|user| user.connect((SERVER_V4, port))).collect();
    for (user, flow) in users.iter_mut().zip(&flows) {
        assert_eq!(user.echo(*flow, b"hello"), b"hello");
    }
    let telemetry = daemon.telemetry();
    assert_eq!((telemetry.peers.len(), telemetry.flows.tcp), (8, 9));
    assert!(telemetry.peers.iter().all(|peer| peer.open_flows == 1 && peer.data_age_ms.is_some()));

    // Every second one goes, and with it its flow; nobody else notices.
    let stay: Vec<_> = USERS.into_iter().filter(|number| number % 2 == 0).collect();
    daemon.configure(&live(2, &stay));
    for ((user, flow), number) in users.iter_mut().zip(&flows).zip(USERS) {
        if stay.contains(&number) {
            assert_eq!(user.echo(*flow, b"still here"), b"still here");
        }
    }
    let telemetry = daemon.telemetry();
    let mut keys: Vec<_> = stay.iter().map(|number| key(*number).public()).collect();
    keys.sort();
    assert_eq!(telemetry.peers.iter().map(|peer| peer.public_key).collect::<Vec<_>>(), keys);
    assert_eq!(telemetry.flows.tcp, 5);

    // All loops say goodbye.
    gateway.signal(Signal::SIGTERM);
    let (status, _, errors) = gateway.wait();
    assert!(status.success(), "{errors}");
    assert!(errors.contains("\"loops\":4"), "{errors}");
    for ((user, flow), number) in users.iter_mut().zip(&flows).zip(USERS) {
        if stay.contains(&number) {
            user.until("a reset", |host| {
                host.client.tcp(*flow).is_none_or(|tcp| tcp.ended().is_some()).then_some(())
            });
        }
    }
}

#[test]
fn users_of_different_loops_reach_each_other_where_a_route_allows_it() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start_with(&[], &["--loops", "3"]);
    let mut daemon = Daemon::new(&bed);
    let mut open = live(1, &[2, 3, 4]);
    open.routes.push("10.8.0.0/24".parse().unwrap());
    daemon.configure(&open);
    let mut users = [2, 3, 4].map(|number| user(&bed, number));
    // Their way is known once they have been heard.
    for user in &mut users {
        let now = user.now();
        user.client.initiate(now);
        user.until("a handshake", |host| host.client.last_handshake());
        user.during(Duration::from_millis(50));
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let receiver = users[to].client.udp_bind().unwrap();
        let port = users[to].client.udp_port(receiver).unwrap();
        let sender = users[from].client.udp_bind().unwrap();
        let destination = SocketAddr::new(addresses(2 + to as u8)[0], port);
        users[from].client.udp_send(sender, destination, b"hello").unwrap();
        users[from].turn();
        let (_, data) = users[to].until("the datagram", |host| host.client.udp_receive(receiver));
        assert_eq!(data, b"hello");
    }
}
