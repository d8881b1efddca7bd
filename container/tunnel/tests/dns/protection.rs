//! Forged replies and names that lead where they must not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use domain::base::iana::{OptRcode, Rcode};
use domain::base::{MessageBuilder, Rtype, Ttl, UnknownRecordData};
use domain::rdata::{A, Aaaa, Cname};
use ebb_tunnel::dns::{Resolver, Settings, Transport};

use crate::bed::{Ask, Bed, Query, Setup, ip, name, query};

fn example() -> Query {
    query("example.com", Rtype::A)
}

#[test]
fn only_the_reply_to_the_question_from_the_upstream_counts() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    let other = bed.forward(&query("other.example", Rtype::A));
    let good = ask.address("192.0.2.1", 300);
    let elsewhere = SocketAddr::new(ip("8.8.8.8"), 53);
    let port = SocketAddr::new(ask.to.ip(), 54);
    for from in [elsewhere, port] {
        bed.resolver.upstream_reply(ask.attempt, from, &good, bed.now);
    }
    let mut wrong_id = good.clone();
    wrong_id[0] ^= 1;
    let mut query = good.clone();
    query[2] &= 0x7f;
    let mut notify = good.clone();
    notify[2] |= 4 << 3;
    let mut other_name = good.clone();
    other_name[13] ^= 1;
    let type_at = 12 + ask.question().0.len() + 1;
    let mut other_type = good.clone();
    other_type[type_at] = 28;
    let mut other_class = good.clone();
    other_class[type_at + 2] = 3;
    let mut no_question = MessageBuilder::new_vec();
    no_question.header_mut().set_id(ask.id());
    no_question.header_mut().set_qr(true);
    let forged = [
        wrong_id,
        query,
        notify,
        other_name,
        other_type,
        other_class,
        no_question.finish(),
        other.address("192.0.2.2", 300),
        good[..11].to_vec(),
        Vec::new(),
    ];
    for message in &forged {
        bed.reply(&ask, message);
        let answers = bed.answers();
        assert!(answers.is_empty(), "{message:?} gave {answers:?}");
    }
    assert_eq!(bed.resolver.stats().ignored, 12);
}

#[test]
fn the_answer_to_one_question_on_the_socket_of_another_is_ignored() {
    let mut bed = Bed::new();
    let one = bed.forward(&example());
    let two = bed.forward(&query("other.example", Rtype::A));
    bed.resolver.upstream_reply(one.attempt, one.to, &two.address("192.0.2.2", 300), bed.now);
    bed.resolver.upstream_reply(two.attempt, two.to, &one.address("192.0.2.1", 300), bed.now);
    assert!(bed.answers().is_empty());
}

#[test]
fn somebody_who_guesses_ids_drives_the_question_to_tcp() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    let forged = |ask: &Ask, guess| {
        let mut forged = ask.address("198.51.100.66", 300);
        forged[1] ^= guess;
        forged
    };
    for guess in 1..3 {
        bed.reply(&ask, &forged(&ask, guess));
        assert!(bed.asks().is_empty());
    }
    bed.reply(&ask, &forged(&ask, 3));
    let tcp = bed.ask();
    assert_eq!((tcp.to, tcp.transport, &bed.forgotten[..]), (ask.to, Transport::Tcp, &[ask.attempt][..]));
    // The right guess comes too late.
    bed.reply(&ask, &ask.address("198.51.100.66", 300));
    assert!(bed.answers().is_empty());
    // Who can send on the connection is the upstream; there is nothing to flee to.
    for guess in 1..=5 {
        bed.reply(&tcp, &forged(&tcp, guess));
    }
    assert!(bed.asks().is_empty());
    assert_eq!(bed.resolver.stats().ignored, 9);
    bed.reply(&tcp, &tcp.address("192.0.2.1", 300));
    assert_eq!(bed.answer().records(), ["example.com. A 192.0.2.1"]);
}

#[test]
fn a_reply_with_broken_records_moves_on_to_the_next_upstream() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    let mut cut = ask.address("192.0.2.1", 300);
    cut.truncate(cut.len() - 2);
    bed.reply(&ask, &cut);
    assert_eq!(bed.ask().to.ip(), ip("8.8.8.8"));
}

#[test]
fn a_name_that_points_into_what_is_cut_off_is_broken() {
    for (rtype, before) in [
        (Rtype::CNAME, 0),
        (Rtype::DNAME, 0),
        (Rtype::NS, 0),
        (Rtype::PTR, 0),
        (Rtype::MX, 2),
        (Rtype::SRV, 6),
    ] {
        let mut bed = Bed::new();
        let ask = bed.forward(&query("example.com", rtype));
        let data =
            UnknownRecordData::from_octets(rtype, [&vec![0; before][..], &[0xc0, 0xff]].concat()).unwrap();
        let mut reply = ask.respond(|answer| {
            answer.push((name("example.com"), Ttl::from_secs(300), data)).unwrap();
        });
        reply.resize(300, 0);
        bed.reply(&ask, &reply);
        assert_eq!(bed.ask().to.ip(), ip("8.8.8.8"), "{rtype}");
    }
}

#[test]
fn an_error_without_a_question_is_believed() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    let mut refused = MessageBuilder::new_vec();
    refused.header_mut().set_id(ask.id());
    refused.header_mut().set_qr(true);
    refused.header_mut().set_rcode(Rcode::REFUSED);
    bed.reply(&ask, &refused.finish());
    assert_eq!(bed.ask().to.ip(), ip("8.8.8.8"));
}

fn a(ask: &Ask, address: &str) -> Vec<u8> {
    ask.respond(|answer| {
        answer.push((name("example.com"), Ttl::from_secs(60), Cname::new(name("x.example")))).unwrap();
        let ttl = Ttl::from_secs(60);
        match ip(address) {
            std::net::IpAddr::V4(v4) => answer.push((name("x.example"), ttl, A::new(v4))).unwrap(),
            std::net::IpAddr::V6(v6) => answer.push((name("x.example"), ttl, Aaaa::new(v6))).unwrap(),
        }
    })
}

fn rcode_for(bed: &mut Bed, address: &str) -> OptRcode {
    let rtype = if ip(address).is_ipv4() { Rtype::A } else { Rtype::AAAA };
    let ask = bed.forward(&query("example.com", rtype));
    bed.reply(&ask, &a(&ask, address));
    let answer = bed.answer();
    if answer.rcode() == OptRcode::REFUSED {
        assert_eq!((answer.error(), bed.resolver.stats().rebinding), (Some(15), 1));
        assert!(answer.records().is_empty());
    }
    answer.rcode()
}

const NEVER: [&str; 12] = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "169.254.169.254",
    "169.254.1.1",
    "168.63.129.16",
    "::1",
    "::",
    "fe80::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
];

#[test]
fn a_public_name_that_leads_into_a_private_place_is_withheld() {
    for address in NEVER.iter().chain(&["10.1.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1"]) {
        assert_eq!(rcode_for(&mut Bed::new(), address), OptRcode::REFUSED, "{address}");
    }
    // The session has a route to 10.0.0.0/16.
    for address in ["10.0.3.4", "192.0.2.1", "2001:db8::1", "169.253.0.1", "168.63.129.17"] {
        assert_eq!(rcode_for(&mut Bed::new(), address), OptRcode::NOERROR, "{address}");
    }
}

#[test]
fn a_private_resolver_that_was_named_may_speak_of_its_network_but_not_of_the_clients_host() {
    let site = Setup::default().upstream(&["10.0.0.53"]);
    for address in ["10.1.0.1", "192.168.1.1", "fd00::1"] {
        assert_eq!(rcode_for(&mut Bed::with(Settings::default(), &site), address), OptRcode::NOERROR);
    }
    for address in NEVER {
        assert_eq!(rcode_for(&mut Bed::with(Settings::default(), &site), address), OptRcode::REFUSED);
    }
}

#[test]
fn hints_of_service_records_are_watched_as_well() {
    let hint = |key: u16, address: &[u8]| {
        let length = u16::try_from(address.len()).unwrap();
        [&[0, 1, 0][..], &key.to_be_bytes(), &length.to_be_bytes(), address].concat()
    };
    for (data, rcode) in [
        (hint(4, &[192, 168, 1, 1]), OptRcode::REFUSED),
        (hint(6, &[0xfd; 16]), OptRcode::REFUSED),
        (hint(4, &[192, 0, 2, 1]), OptRcode::NOERROR),
        // Clients must ignore what is malformed (RFC 9460, section 2.2).
        (hint(4, &[192, 168, 1]), OptRcode::NOERROR),
    ] {
        for rtype in [Rtype::HTTPS, Rtype::SVCB] {
            let mut bed = Bed::new();
            let ask = bed.forward(&query("example.com", rtype));
            let data = UnknownRecordData::from_octets(rtype, data.clone()).unwrap();
            let reply = ask.respond(|answer| {
                answer.push((name("example.com"), Ttl::from_secs(60), data)).unwrap();
            });
            bed.reply(&ask, &reply);
            assert_eq!(bed.answer().rcode(), rcode);
        }
    }
}

#[test]
fn a_route_that_is_withdrawn_takes_cached_names_along() {
    for rebinding_protection in [true, false] {
        let routed = Arc::new(AtomicBool::new(true));
        let policy = Arc::clone(&routed);
        let settings = Settings { rebinding_protection, ..Settings::default() };
        let mut bed = Bed::new();
        bed.resolver = Resolver::new(settings, [7; 32], Box::new(move |_| policy.load(Relaxed)));
        bed.configure(&Setup::default()).unwrap();
        for (n, address) in ["10.0.0.1", "192.0.2.1"].iter().enumerate() {
            let ask = bed.forward(&query(&format!("{n}.example"), Rtype::A));
            bed.reply(&ask, &ask.address(address, 300));
            bed.answer();
        }
        bed.configure(&Setup::default()).unwrap();
        assert_eq!(bed.resolver.cached(), 2);
        routed.store(false, Relaxed);
        bed.configure(&Setup::default()).unwrap();
        assert_eq!(bed.resolver.cached(), if rebinding_protection { 1 } else { 2 });
    }
}

#[test]
fn names_of_the_desired_state_may_lead_anywhere() {
    let mut setup = Setup::default();
    setup.dns.names.insert("router.example.com".into(), vec![ip("192.168.1.1")]);
    let mut bed = Bed::with(Settings::default(), &setup);
    assert_eq!(bed.at_once(&query("router.example.com", Rtype::A)).records().len(), 1);
}

#[test]
fn protection_can_be_turned_off() {
    let settings = Settings { rebinding_protection: false, ..Settings::default() };
    assert_eq!(rcode_for(&mut Bed::with(settings, &Setup::default()), "127.0.0.1"), OptRcode::NOERROR);
}
