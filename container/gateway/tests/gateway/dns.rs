//! Names inside the tunnel.

use std::net::{SocketAddr, UdpSocket};

use ebb_tunnel::dns::{Frames, frame};
use ebb_tunnel::packet::icmp;

use crate::bed::{GATEWAY_V4, Place, SERVER_V4, bed};
use crate::daemon::{Daemon, live, user};

/// A question for the address of a name.
fn question(name: &str) -> Vec<u8> {
    let mut message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend(b"\0\0\x01\0\x01");
    message
}

#[test]
fn names_of_the_session_are_answered_over_udp_and_tcp() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    let mut live = live(1, &[2, 3]);
    live.dns.names.insert("wiki".into(), vec![SERVER_V4.into()]);
    daemon.configure(&live);
    let mut user = user(&bed, 2);
    let resolver = SocketAddr::from((GATEWAY_V4, 53));
    let id = user.client.udp_bind().unwrap();
    for (name, address) in [("user3.ebb.internal", [10, 8, 0, 3]), ("wiki", SERVER_V4.octets())] {
        user.client.udp_send(id, resolver, &question(name)).unwrap();
        let (from, answer) = user.until("an answer", |host| host.client.udp_receive(id));
        assert_eq!(from, resolver);
        assert!(answer.ends_with(&address), "{name}: {answer:?}");
    }

    let id = user.connect(resolver);
    // Two questions in one stream.
    let questions = [frame(&question("wiki")), frame(&question("gateway.ebb.internal"))].concat();
    user.write(id, &questions);
    let (mut frames, mut answers) = (Frames::default(), Vec::new());
    user.until("two answers", |host| {
        let _ = frames.push(&host.read(id));
        answers.extend(frames.take());
        (answers.len() == 2).then_some(())
    });
    assert!(answers.iter().any(|answer| answer.ends_with(&SERVER_V4.octets())));
    assert!(answers.iter().any(|answer| answer.ends_with(&GATEWAY_V4.octets())));
}

#[test]
fn other_names_are_asked_upstream_and_may_not_lead_inside() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    let upstream = bed.inside(Place::Server, || UdpSocket::bind("172.31.2.2:53").unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = upstream.recv_from(&mut buffer) {
            let message = &buffer[..length];
            // Up to the end of the question, whatever was added behind it.
            let name = message[12..].iter().position(|byte| *byte == 0).unwrap() + 12;
            let inside = message[12..name].windows(6).any(|part| part.eq_ignore_ascii_case(b"inside"));
            let address = if inside { [169, 254, 169, 254] } else { [93, 184, 215, 14] };
            let mut answer = message[..name + 5].to_vec();
            answer[2] |= 0x80;
            answer[3] = 0x80;
            answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04");
            answer.extend(address);
            upstream.send_to(&answer, from).unwrap();
        }
    });
    let mut live = live(1, &[2]);
    live.dns.upstream = vec![SERVER_V4.into()];
    daemon.configure(&live);
    let mut user = user(&bed, 2);
    let id = user.client.udp_bind().unwrap();
    let mut ask = |name: &str| {
        user.client.udp_send(id, (GATEWAY_V4, 53).into(), &question(name)).unwrap();
        user.until("an answer", |host| host.client.udp_receive(id)).1
    };
    assert!(ask("www.example.org").ends_with(&[93, 184, 215, 14]));
    assert!(!ask("inside.example.org").ends_with(&[169, 254, 169, 254]));
}

#[test]
fn the_daemon_has_no_business_with_names() {
    let Some(bed) = bed() else { return };
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let id = daemon.host.connect((ebb_wire::GATEWAY_ADDRESS, 53));
    assert_eq!(daemon.host.client.unreachable(id), None::<icmp::Error>);
    assert_eq!(daemon.host.client.tcp(id).unwrap().ended(), Some(ebb_tunnel::tcp::End::Refused));
}
