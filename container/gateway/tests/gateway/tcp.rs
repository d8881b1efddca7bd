//! Connections of users.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ebb_tunnel::packet::icmp;
use ebb_tunnel::tcp::{End, State};

use crate::bed::{Bed, GATEWAY_OUTER_V6, PATIENCE, Place, SERVER_V4, SERVER_V6, SILENT, bed};
use crate::daemon::{Daemon, addresses, key, live, user};
use crate::host::Host;

/// A server on both families that hands every connection to `serve`; returns its port.
pub fn server(bed: &Bed, serve: impl Fn(TcpStream) + Send + Clone + 'static) -> u16 {
    let listener = bed.inside(Place::Server, || TcpListener::bind("[::]:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

pub fn echo_server(bed: &Bed) -> u16 {
    server(bed, |mut stream| {
        let mut buffer = [0; 65_536];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    })
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn with_user(bed: &Bed) -> (crate::bed::Gateway, Daemon, Host) {
    let gateway = bed.start();
    let mut daemon = Daemon::new(bed);
    daemon.configure(&live(1, &[2]));
    let user = user(bed, 2);
    (gateway, daemon, user)
}

#[test]
fn bytes_pass_both_ways_over_ipv4_and_ipv6() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let (_gateway, _daemon, mut user) = with_user(&bed);
    let sent = pattern(3_000_000);
    for to in [SocketAddr::from((SERVER_V4, port)), SocketAddr::from((SERVER_V6, port))] {
        let id = user.connect(to);
        assert!(user.echo(id, &sent) == sent, "{to}");
    }
}

#[test]
fn a_tunnel_over_ipv6_works_too() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let (_gateway, _daemon, _) = with_user(&bed);
    let mut user = Host::towards(&bed, key(2), &addresses(2), GATEWAY_OUTER_V6);
    let id = user.connect((SERVER_V4, port));
    assert_eq!(user.echo(id, b"hello"), b"hello");
}

#[test]
fn either_side_may_finish_first_and_the_other_goes_on() {
    let Some(bed) = bed() else { return };
    // Reads to the end, then answers with the length.
    let counting = server(&bed, |mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(bytes.len().to_string().as_bytes()).unwrap();
    });
    // Says everything at once, then reads to the end and tells by closing.
    let (told, tell) = std::sync::mpsc::sync_channel(1);
    let talking = server(&bed, move |mut stream| {
        stream.write_all(b"all I have to say").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        told.send(bytes).unwrap();
    });
    let (_gateway, _daemon, mut user) = with_user(&bed);

    let id = user.connect((SERVER_V4, counting));
    assert_eq!(user.write(id, &[1; 5000]), 5000);
    user.client.tcp(id).unwrap().finish();
    let mut answer = Vec::new();
    user.until("the count", |host| {
        answer.extend(host.read(id));
        host.client.tcp(id).unwrap().remote_finished().then_some(())
    });
    assert_eq!(answer, b"5000");

    let id = user.connect((SERVER_V4, talking));
    let mut heard = Vec::new();
    user.until("the end of the server's words", |host| {
        heard.extend(host.read(id));
        host.client.tcp(id).unwrap().remote_finished().then_some(())
    });
    assert_eq!(heard, b"all I have to say");
    assert_eq!(user.write(id, b"a late word"), 11);
    user.client.tcp(id).unwrap().finish();
    user.until("both ends finished", |host| host.client.tcp(id).unwrap().local_finished().then_some(()));
    assert_eq!(tell.recv_timeout(PATIENCE).unwrap(), b"a late word");
}

#[test]
fn a_closed_port_is_refused_a_missing_host_unreachable_and_a_silent_one_silent() {
    let Some(bed) = bed() else { return };
    let (_gateway, mut daemon, mut user) = with_user(&bed);
    let id = user.connect((SERVER_V4, 9));
    assert_eq!(user.client.tcp(id).unwrap().ended(), Some(End::Refused));
    assert_eq!(user.client.unreachable(id), None);

    let id = user.connect(([172, 31, 2, 99], 80));
    assert_eq!(user.client.unreachable(id), Some(icmp::Error::Host));

    let now = user.now();
    let id = user.client.connect((SILENT, 80).into(), now).unwrap();
    // Long enough for a repeated SYN, which must not start another connect.
    user.during(Duration::from_millis(2500));
    assert_eq!(user.client.tcp(id).unwrap().state(), State::SynSent);
    assert_eq!(daemon.telemetry().flows.tcp, 2);
}

#[test]
fn a_destination_without_a_route_is_refused_at_once() {
    let Some(bed) = bed() else { return };
    let (_gateway, _daemon, mut user) = with_user(&bed);
    let id = user.connect(("2606:4700:4700::1111".parse::<std::net::Ipv6Addr>().unwrap(), 443));
    assert_eq!(user.client.unreachable(id), Some(icmp::Error::NoRoute));
}

#[test]
fn what_the_policy_forbids_is_refused_and_counted() {
    let Some(bed) = bed() else { return };
    let (_gateway, mut daemon, mut user) = with_user(&bed);
    let forbidden: [SocketAddr; 8] = [
        ([169, 254, 169, 254], 80).into(),
        ([168, 63, 129, 16], 80).into(),
        ([127, 0, 0, 1], 80).into(),
        ([10, 8, 0, 3], 80).into(),
        ([192, 168, 1, 1], 80).into(),
        // The gateway's own interfaces.
        ([172, 31, 2, 1], 80).into(),
        "[::1]:80".parse().unwrap(),
        "[::ffff:169.254.169.254]:80".parse().unwrap(),
    ];
    for to in forbidden {
        let id = user.connect(to);
        assert_eq!(user.client.unreachable(id), Some(icmp::Error::Prohibited), "{to}");
    }
    // What is forbidden by address is refused packet by packet or as a connection; both count.
    assert_eq!(daemon.telemetry().flows.refused, 8);
}

#[test]
fn a_users_reset_reaches_the_server_and_a_servers_reset_the_user() {
    let Some(bed) = bed() else { return };
    let (told, tell) = std::sync::mpsc::sync_channel(1);
    let listening = server(&bed, move |mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        told.send(stream.read_exact(&mut byte).unwrap_err().kind()).unwrap();
    });
    // Closes with bytes unread, which makes the kernel reset.
    let resetting = server(&bed, |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
    });
    let (_gateway, _daemon, mut user) = with_user(&bed);
    let id = user.connect((SERVER_V4, listening));
    user.write(id, b"x");
    user.until("the acknowledgment", |host| {
        (host.client.tcp(id).unwrap().statistics().bytes_acknowledged > 0).then_some(())
    });
    user.client.tcp(id).unwrap().abort();
    user.turn();
    assert_eq!(tell.recv_timeout(PATIENCE).unwrap(), std::io::ErrorKind::ConnectionReset);

    let id = user.connect((SERVER_V4, resetting));
    user.write(id, b"more than one byte");
    let end = user.until("the reset", |host| host.client.tcp(id).unwrap().ended());
    assert_eq!(end, End::Reset);
}

#[test]
fn a_slow_server_slows_the_user_and_loses_nothing() {
    let Some(bed) = bed() else { return };
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let (told, tell) = std::sync::mpsc::sync_channel(1);
    let port = server(&bed, move |mut stream| {
        wait.lock().unwrap().recv().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        told.send(bytes).unwrap();
    });
    let (_gateway, mut daemon, mut user) = with_user(&bed);
    let sent = pattern(40_000_000);
    let id = user.connect((SERVER_V4, port));
    let mut written = 0;
    // Everything stands still once the buffers on the way are full.
    let mut still = 0;
    user.until("a standstill", |host| {
        let count = host.write(id, &sent[written..]);
        written += count;
        still = if count == 0 { still + 1 } else { 0 };
        (still > 2000).then_some(())
    });
    assert!(written < 30_000_000, "{written} bytes without anybody reading");
    assert!(daemon.telemetry().flows.buffered_bytes < 20_000_000);
    go.send(()).unwrap();
    user.until("the rest", |host| {
        written += host.write(id, &sent[written..]);
        (written == sent.len()).then(|| host.client.tcp(id).unwrap().finish())
    });
    let received = user.until("the server's count", |_| tell.try_recv().ok());
    assert!(received == sent);
}

#[test]
fn segments_of_no_connection_are_reset() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let mut user = user(&bed, 2);
    let id = user.connect((SERVER_V4, port));
    user.echo(id, b"hello");
    // A gateway that was replaced knows no connection of the one before.
    drop(gateway);
    let _gateway = bed.start();
    Daemon::new(&bed).configure(&live(1, &[2]));
    let now = user.now();
    user.client.initiate(now);
    user.write(id, b"anybody there?");
    let end = user.until("the reset", |host| host.client.tcp(id).unwrap().ended());
    assert_eq!(end, End::Reset);
}

#[test]
fn many_connections_at_once_all_come_up() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let (_gateway, mut daemon, mut user) = with_user(&bed);
    let now = user.now();
    let ids: Vec<_> = (0..300).map(|_| user.client.connect((SERVER_V4, port).into(), now).unwrap()).collect();
    user.until("300 connections", |host| {
        let open = |id: &_| host.client.tcp(*id).unwrap().state() == State::Established;
        ids.iter().all(open).then_some(())
    });
    for id in &ids {
        assert_eq!(user.echo(*id, b"hello"), b"hello");
    }
    let [peer] = daemon.telemetry().peers.try_into().unwrap();
    assert_eq!(peer.open_flows, 300);
    for id in ids {
        user.client.close(id);
    }
    user.during(Duration::from_millis(200));
    let telemetry = loop {
        user.turn();
        let telemetry = daemon.telemetry();
        if telemetry.flows.tcp == 1 {
            break telemetry;
        }
    };
    assert_eq!(telemetry.flows.buffered_bytes, telemetry.flows.buffered_bytes.min(1 << 20));
}

#[test]
fn without_files_new_connections_are_refused_and_the_old_ones_live() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let _gateway = bed.start_with(&["prlimit", "--nofile=200:200"], &[]);
    Daemon::new(&bed).configure(&live(1, &[2, 3]));
    let mut user = user(&bed, 2);
    let ids: Vec<_> = (0..200).map(|_| user.connect((SERVER_V4, port))).collect();
    let (up, refused): (Vec<_>, Vec<_>) =
        ids.into_iter().partition(|id| user.client.tcp(*id).unwrap().ended().is_none());
    assert!(up.len() > 20 && refused.len() > 20, "{} up, {} refused", up.len(), refused.len());
    for id in &refused {
        assert_eq!(user.client.tcp(*id).unwrap().ended(), Some(End::Refused));
    }
    for id in &up {
        assert_eq!(user.echo(*id, b"still there"), b"still there");
    }
    // Nobody takes everything.
    let mut other = crate::daemon::user(&bed, 3);
    let id = other.connect((SERVER_V4, port));
    assert_eq!(other.echo(id, b"room for me"), b"room for me");
    // Room comes back.
    user.client.close(up[0]);
    user.until("room for another", |host| {
        let id = host.connect((SERVER_V4, port));
        host.client.tcp(id).unwrap().ended().is_none().then_some(())
    });
}

#[test]
fn beyond_the_memory_for_flows_new_ones_are_refused_the_old_ones_live_and_the_daemon_comes_through() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    // 256 flows.
    let _gateway = bed.start_with(&[], &["--memory-mib", "1"]);
    Daemon::new(&bed).configure(&live(1, &[2, 3]));
    let mut users = [user(&bed, 2), user(&bed, 3)];
    let mut up = Vec::new();
    for user in &mut users {
        let ids: Vec<_> = (0..250).map(|_| user.connect((SERVER_V4, port))).collect();
        let (open, refused): (Vec<_>, Vec<_>) =
            ids.into_iter().partition(|id| user.client.tcp(*id).unwrap().ended().is_none());
        assert!(refused.len() > 50, "{} refused", refused.len());
        assert!(refused.iter().all(|id| user.client.tcp(*id).unwrap().ended() == Some(End::Refused)));
        up.push(open);
    }
    assert!(up.iter().map(Vec::len).sum::<usize>() <= 256);
    let telemetry = Daemon::new(&bed).telemetry();
    assert!(telemetry.flows.buffered_bytes <= 1 << 20);
    for (user, open) in users.iter_mut().zip(up) {
        assert_eq!(user.echo(open[0], b"still there"), b"still there");
    }
}

#[test]
fn with_little_memory_many_downloads_are_slow_and_none_is_lost() {
    let Some(bed) = bed() else { return };
    let sent = pattern(300_000);
    let port = {
        let sent = sent.clone();
        server(&bed, move |mut stream| stream.write_all(&sent).unwrap())
    };
    let _gateway = bed.start_with(&[], &["--memory-mib", "1"]);
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let mut user = user(&bed, 2);
    let now = user.now();
    let ids: Vec<_> = (0..100).map(|_| user.client.connect((SERVER_V4, port).into(), now).unwrap()).collect();
    let mut received = vec![Vec::new(); ids.len()];
    let mut most = 0;
    user.until("100 downloads", |host| {
        for (id, received) in ids.iter().zip(&mut received) {
            received.extend(host.read(*id));
        }
        most = most.max(daemon.telemetry().flows.buffered_bytes);
        received.iter().all(|received| received.len() == sent.len()).then_some(())
    });
    assert!(received.iter().all(|received| *received == sent));
    assert!(most <= 1 << 20, "{most} bytes in buffers");
}

#[test]
fn without_segmentation_offload_bytes_pass_all_the_same() {
    let Some(bed) = bed() else { return };
    let port = echo_server(&bed);
    let _gateway = bed.start_with(&[], &["--no-gso"]);
    Daemon::new(&bed).configure(&live(1, &[2]));
    let mut user = user(&bed, 2);
    let id = user.connect((SERVER_V4, port));
    let sent = pattern(1_000_000);
    assert!(user.echo(id, &sent) == sent);
}
