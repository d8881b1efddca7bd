//! The control port, and what it can change.

use ebb_tunnel::packet::icmp;
use ebb_tunnel::tcp::End;
use ebb_wire::{CONTROL_PORT, GATEWAY_ADDRESS, Live, Refusal, Reply, Request};

use crate::bed::{GATEWAY_V4, SERVER_V4, bed};
use crate::daemon::{Daemon, addresses, key, live, user};
use crate::host::Host;
use crate::tcp::echo_server;

#[test]
fn a_fresh_gateway_knows_nobody_and_says_so() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let telemetry = Daemon::new(&bed).telemetry();
    assert_eq!((telemetry.generation, telemetry.digest), (None, None));
    assert!(telemetry.peers.is_empty());
    assert_eq!(telemetry.boot.len(), 32);
}

#[test]
fn a_configuration_is_reported_back_and_an_older_one_refused() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(7, &[2, 3]));
    let telemetry = daemon.telemetry();
    assert_eq!(telemetry.generation, Some(7));
    assert_eq!(telemetry.digest, Some(live(7, &[2, 3]).digest()));
    let mut keys: Vec<_> = telemetry.peers.iter().map(|peer| peer.public_key).collect();
    keys.sort();
    let mut expected = vec![key(2).public(), key(3).public()];
    expected.sort();
    assert_eq!(keys, expected);

    let older = daemon.ask(&Request::Configure(live(6, &[2])));
    assert_eq!(older, Reply::Refused(Refusal::OlderGeneration { held: 7, offered: 6 }));
    assert_eq!(daemon.telemetry().peers.len(), 2);
}

#[test]
fn a_configuration_that_contradicts_itself_changes_nothing() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let broken = |change: &dyn Fn(&mut Live)| {
        let mut live = live(2, &[2, 3]);
        change(&mut live);
        live
    };
    let cases: [(&str, Live); 6] = [
        ("key of another", broken(&|live| live.peers[1].public_key = live.peers[0].public_key)),
        ("belongs to", broken(&|live| live.peers[1].addresses = live.peers[0].addresses.clone())),
        ("gateway's own", broken(&|live| live.peers[1].addresses = vec![GATEWAY_V4.into()])),
        ("outside", broken(&|live| live.peers[1].addresses = vec![SERVER_V4.into()])),
        ("control network", broken(&|live| live.routes.push(ebb_wire::control_network().into()))),
        (
            "no DNS name",
            broken(&|live| {
                live.dns.names.insert("a..b".into(), vec![SERVER_V4.into()]);
            }),
        ),
    ];
    for (part, live) in cases {
        match daemon.ask(&Request::Configure(live)) {
            Reply::Refused(Refusal::Invalid { why }) => assert!(why.contains(part), "{why}"),
            other => panic!("{part}: {other:?}"),
        }
    }
    assert_eq!(daemon.telemetry().digest, Some(live(1, &[2]).digest()));
}

#[test]
fn what_is_no_request_is_refused_and_the_next_one_answered() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    assert_eq!(daemon.ask_raw(&[0, 0, 0, 2, b'{', b'}']), Reply::Refused(Refusal::Unreadable));
    let other_version = [&[0, 0, 0, 16][..], br#"{"v":9,"m":null}"#].concat();
    assert_eq!(daemon.ask_raw(&other_version), Reply::Refused(Refusal::Version { supported: 1 }));
    daemon.telemetry();
}

#[test]
fn users_do_not_reach_the_control_port() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let mut user = user(&bed, 2);
    let id = user.connect((GATEWAY_ADDRESS, CONTROL_PORT));
    assert_eq!(user.client.unreachable(id), Some(icmp::Error::Prohibited));
    // Not by the gateway's other address either.
    let id = user.connect((GATEWAY_V4, CONTROL_PORT));
    assert_eq!(user.client.tcp(id).unwrap().ended(), Some(End::Refused));
}

#[test]
fn a_user_who_claims_the_daemons_address_is_not_heard() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let mut liar = Host::new(&bed, key(2), &[ebb_wire::DAEMON_ADDRESS.into()]);
    let now = liar.now();
    liar.client.initiate(now);
    liar.until("a handshake", |host| host.client.last_handshake());
    let id = liar.client.connect((GATEWAY_ADDRESS, CONTROL_PORT).into(), now).unwrap();
    liar.during(std::time::Duration::from_millis(1500));
    assert_eq!(liar.client.tcp(id).unwrap().state(), ebb_tunnel::tcp::State::SynSent);
}

#[test]
fn the_daemon_reaches_nothing_but_its_port() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let id = daemon.host.connect((crate::bed::SERVER_V6, 7));
    assert_eq!(daemon.host.client.tcp(id).unwrap().ended(), Some(End::Refused));
}

#[test]
fn a_removed_user_is_out_while_the_other_goes_on() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2, 3]));
    let (mut stays, mut goes) = (user(&bed, 2), user(&bed, 3));
    let kept = stays.connect((SERVER_V4, port));
    let lost = goes.connect((SERVER_V4, port));
    assert_eq!(stays.echo(kept, b"before"), b"before");
    assert_eq!(goes.echo(lost, b"before"), b"before");

    daemon.configure(&live(2, &[2]));
    goes.write(lost, b"after");
    goes.during(std::time::Duration::from_millis(500));
    assert_eq!(goes.read(lost), b"");
    assert_eq!(stays.echo(kept, b"after"), b"after");
    let telemetry = daemon.telemetry();
    assert_eq!(telemetry.peers.len(), 1);
    // The connection of the one who stays, and the control connection itself.
    assert_eq!(telemetry.flows.tcp, 2);
}

#[test]
fn a_users_address_can_move_to_another_user() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2, 3]));
    let mut swapped = live(2, &[2, 3]);
    swapped.peers[0].addresses = addresses(3).to_vec();
    swapped.peers[1].addresses = addresses(2).to_vec();
    daemon.configure(&swapped);
    let mut moved = Host::new(&bed, key(2), &addresses(3));
    let id = moved.connect((SERVER_V4, port));
    assert_eq!(moved.echo(id, b"hello"), b"hello");
}

#[test]
fn a_user_is_heard_from_listed_networks_alone_and_the_daemon_from_everywhere() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    let confined = |generation, networks: &[&str]| {
        let mut live = live(generation, &[2]);
        live.peers[0].source_ips = networks.iter().map(|network| network.parse().unwrap()).collect();
        live
    };
    daemon.configure(&confined(1, &["198.51.100.0/24"]));
    let mut user = user(&bed, 2);
    let now = user.now();
    user.client.initiate(now);
    user.during(std::time::Duration::from_millis(500));
    assert_eq!(user.client.last_handshake(), None);
    assert_eq!(daemon.telemetry().peers[0].endpoint, None);

    daemon.configure(&confined(2, &["198.51.100.0/24", "172.31.1.2/32"]));
    let id = user.connect((SERVER_V4, port));
    assert_eq!(user.echo(id, b"hello"), b"hello");

    daemon.configure(&confined(3, &["198.51.100.0/24"]));
    user.write(id, b"after");
    user.during(std::time::Duration::from_millis(500));
    assert_eq!(user.read(id), b"");
    let [out] = daemon.telemetry().peers.try_into().unwrap();
    assert_eq!(out.endpoint, None);

    daemon.configure(&confined(4, &[]));
    user.until("the connection goes on", |host| (host.read(id) == b"after").then_some(()));
}

#[test]
fn telemetry_counts_data_and_open_connections_and_nothing_else() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let mut user = user(&bed, 2);
    let now = user.now();
    user.client.initiate(now);
    user.until("a handshake", |host| host.client.last_handshake());
    user.during(std::time::Duration::from_millis(100));
    let [idle] = daemon.telemetry().peers.try_into().unwrap();
    assert!(idle.handshake_age_ms.is_some());
    assert_eq!((idle.data_age_ms, idle.received_bytes, idle.open_flows), (None, 0, 0));

    let id = user.connect((SERVER_V4, port));
    user.echo(id, &[7; 10_000]);
    let [busy] = daemon.telemetry().peers.try_into().unwrap();
    assert!(busy.data_age_ms.is_some_and(|age| age < 10_000));
    assert!(busy.received_bytes > 10_000 && busy.sent_bytes > 10_000);
    assert_eq!(busy.open_flows, 1);
    assert_eq!(busy.endpoint.map(|at| at.ip()), Some([172, 31, 1, 2].into()));
}
