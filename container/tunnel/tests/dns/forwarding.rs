//! How upstreams are asked.

use std::time::Duration;

use domain::base::iana::{OptRcode, Rcode};
use domain::base::{Rtype, Ttl, UnknownRecordData};
use domain::rdata::{A, Ns, Txt};
use ebb_tunnel::Time;
use ebb_tunnel::dns::{Settings, Transport};

use crate::bed::{Ask, Bed, Query, Setup, client, ip, name, query};

const MS: Duration = Duration::from_millis(1);

fn example() -> Query {
    query("example.com", Rtype::A)
}

fn one_upstream() -> Bed {
    Bed::with(Settings::default(), &Setup::default().upstream(&["1.1.1.1"]))
}

/// A TXT record too long for UDP.
fn long(ask: &Ask) -> Vec<u8> {
    let text: Txt<Vec<u8>> = Txt::build_from_slice(&[b'x'; 3000]).unwrap();
    ask.respond(|answer| {
        answer.push((ask.question().0, Ttl::from_secs(300), text)).unwrap();
    })
}

fn truncated(ask: &Ask) -> Vec<u8> {
    let mut reply = ask.respond(|_| {});
    reply[2] |= 2;
    reply
}

#[test]
fn a_query_goes_to_the_first_upstream_and_its_answer_to_the_client() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    assert_eq!((ask.to.ip(), ask.to.port(), ask.transport), (ip("1.1.1.1"), 53, Transport::Udp));
    assert!(ask.message.header().rd() && !ask.message.header().ad());
    assert_eq!(ask.message.opt().unwrap().udp_payload_size(), 1232);
    bed.reply(&ask, &ask.address("192.0.2.1", 300));
    let answer = bed.answer();
    assert_eq!((answer.id(), answer.rcode()), (0x1234, OptRcode::NOERROR));
    assert_eq!(answer.records(), ["example.com. A 192.0.2.1"]);
    let header = answer.message.header();
    assert!(header.qr() && header.rd() && header.ra() && !header.aa());
    assert!(bed.asks().is_empty());
    assert_eq!(bed.forgotten, [ask.attempt]);
    assert_eq!((bed.resolver.outstanding(), bed.resolver.deadline()), (0, None));
}

#[test]
fn ids_are_drawn_from_the_seed() {
    let mut bed = Bed::new();
    let ids: std::collections::BTreeSet<_> =
        (0..100).map(|n| bed.forward(&query(&format!("{n}.example"), Rtype::A)).id()).collect();
    assert!(ids.len() > 95);
}

#[test]
fn without_named_upstreams_those_of_the_host_are_asked_and_without_any_nobody() {
    let mut bed = Bed::with(Settings::default(), &Setup::default().upstream(&[]));
    assert_eq!(bed.forward(&example()).to.ip(), ip("9.9.9.9"));
    let mut alone = Setup::default().upstream(&[]);
    alone.fallback.clear();
    bed.configure(&alone).unwrap();
    let answer = bed.at_once(&example());
    assert_eq!((answer.rcode(), answer.error()), (OptRcode::SERVFAIL, Some(22)));
    // Help is felt at once.
    bed.configure(&Setup::default()).unwrap();
    bed.forward(&example());
}

#[test]
fn equal_questions_are_asked_once_and_all_are_answered() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    let mut shouted = example().id(7).from(client(1)).edns(None);
    shouted.name = "EXAMPLE.COM".into();
    bed.send(&shouted);
    // A retransmission is no new query.
    bed.send(&example());
    bed.send(&example().id(8));
    assert!(bed.asks().is_empty());
    bed.reply(&ask, &ask.address("192.0.2.1", 0));
    let answers = bed.answers();
    let who: Vec<_> = answers.iter().map(|answer| (answer.client.peer, answer.id())).collect();
    assert_eq!(who, [(0, 0x1234), (1, 7), (0, 8)]);
    assert_eq!(answers[1].records(), ["EXAMPLE.COM. A 192.0.2.1"]);
    assert!(answers[1].message.opt().is_none());
    let stats = bed.resolver.stats();
    assert_eq!((stats.queries, stats.forwarded, stats.repeated, stats.attempts), (4, 3, 1, 1));
}

#[test]
fn a_silent_upstream_leaves_time_for_the_next_within_half_a_second() {
    let mut bed = Bed::new();
    bed.forward(&example());
    bed.pass(400 * MS);
    let second = bed.ask();
    assert_eq!(second.to.ip(), ip("8.8.8.8"));
    bed.pass(20 * MS);
    bed.reply(&second, &second.address("192.0.2.1", 300));
    assert_eq!(bed.answer().records(), ["example.com. A 192.0.2.1"]);
    assert!(bed.now < Time::from_millis(500));
    // The next query does not wait for the silent one again.
    assert_eq!(bed.forward(&query("other.example", Rtype::A)).to.ip(), ip("8.8.8.8"));
    bed.pass(Duration::from_secs(31));
    bed.asks();
    bed.answers();
    assert_eq!(bed.forward(&query("third.example", Rtype::A)).to.ip(), ip("1.1.1.1"));
}

#[test]
fn a_late_answer_of_the_first_upstream_still_counts() {
    let mut bed = Bed::new();
    let first = bed.forward(&example());
    bed.pass(500 * MS);
    let second = bed.ask();
    bed.reply(&first, &first.address("192.0.2.1", 300));
    assert_eq!(bed.answer().records(), ["example.com. A 192.0.2.1"]);
    bed.asks();
    assert_eq!(bed.forgotten, [first.attempt, second.attempt]);
    // It is good again.
    assert_eq!(bed.forward(&query("other.example", Rtype::A)).to.ip(), ip("1.1.1.1"));
}

#[test]
fn silence_ends_in_servfail_before_the_client_gives_up() {
    let mut bed = one_upstream();
    let mut asks = vec![bed.forward(&example())];
    let mut times = vec![bed.now];
    while bed.resolver.outstanding() > 0 {
        bed.pass(MS);
        for ask in bed.asks() {
            times.push(bed.now);
            asks.push(ask);
        }
    }
    assert_eq!(times, [0, 400, 1200, 2800].map(Time::from_millis));
    assert_eq!(bed.now, Time::from_millis(4500));
    let answer = bed.answer();
    assert_eq!((answer.rcode(), answer.error()), (OptRcode::SERVFAIL, Some(22)));
    bed.asks();
    assert_eq!(bed.forgotten, asks.iter().map(|ask| ask.attempt).collect::<Vec<_>>());
    let stats = bed.resolver.stats();
    assert_eq!((stats.attempts, stats.timeouts, stats.unresolved), (4, 4, 1));
}

#[test]
fn a_question_holds_at_most_two_sockets() {
    let mut bed = one_upstream();
    bed.forward(&example());
    let mut open = 1_usize;
    while bed.resolver.outstanding() > 0 {
        bed.pass(MS);
        open += bed.asks().len();
        open -= std::mem::take(&mut bed.forgotten).len();
        assert!(open <= 2);
    }
    assert_eq!(open, 0);
}

#[test]
fn errors_move_on_to_the_next_upstream_at_once() {
    for rcode in [Rcode::SERVFAIL, Rcode::REFUSED, Rcode::NOTAUTH] {
        let mut bed = Bed::new();
        let first = bed.forward(&example());
        bed.reply(&first, &first.error(rcode));
        let second = bed.ask();
        assert_eq!(second.to.ip(), ip("8.8.8.8"));
        bed.reply(&second, &second.error(rcode));
        let answer = bed.answer();
        assert_eq!((answer.rcode(), answer.error()), (OptRcode::SERVFAIL, Some(23)));
        assert_eq!((bed.resolver.stats().failures, bed.resolver.stats().unresolved), (2, 1));
        assert_eq!(bed.now, Time::ZERO);
    }
}

#[test]
fn an_upstream_that_denies_a_name_is_not_shunned_for_all_others() {
    let mut bed = Bed::new();
    let first = bed.forward(&example());
    bed.reply(&first, &first.error(Rcode::SERVFAIL));
    bed.ask();
    assert_eq!(bed.forward(&query("other.example", Rtype::A)).to.ip(), ip("1.1.1.1"));
}

#[test]
fn a_broken_socket_moves_on_and_is_asked_last_for_a_while() {
    let mut bed = Bed::new();
    let first = bed.forward(&example());
    bed.resolver.upstream_failed(first.attempt, bed.now);
    let second = bed.ask();
    assert_eq!(second.to.ip(), ip("8.8.8.8"));
    assert_eq!(bed.forgotten, [first.attempt]);
    bed.resolver.upstream_failed(second.attempt, bed.now);
    assert_eq!(bed.answer().rcode(), OptRcode::SERVFAIL);
    bed.resolver.upstream_failed(second.attempt, bed.now);
    assert!(bed.answers().is_empty());

    let mut bed = Bed::new();
    let first = bed.forward(&example());
    bed.resolver.upstream_failed(first.attempt, bed.now);
    bed.ask();
    for (after, first) in [(0, "8.8.8.8"), (29_999, "8.8.8.8"), (1, "1.1.1.1")] {
        bed.pass(MS * after);
        bed.answers();
        bed.asks();
        assert_eq!(bed.forward(&query(&format!("{after}.example"), Rtype::A)).to.ip(), ip(first));
        bed.resolver.forget_peer(0);
        bed.asks();
    }
}

#[test]
fn an_error_of_the_second_upstream_does_not_hurry_the_first() {
    let mut bed = Bed::new();
    let first = bed.forward(&example());
    bed.pass(400 * MS);
    let second = bed.ask();
    bed.reply(&second, &second.error(Rcode::SERVFAIL));
    assert!(bed.asks().is_empty() && bed.answers().is_empty());
    bed.pass(200 * MS);
    bed.reply(&first, &first.address("192.0.2.1", 300));
    assert_eq!(bed.answer().records().len(), 1);
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp_and_cut_for_the_client() {
    let mut bed = Bed::new();
    let txt = query("long.example", Rtype::TXT);
    let udp = bed.forward(&txt);
    bed.send(&txt.clone().tcp());
    bed.reply(&udp, &truncated(&udp));
    let tcp = bed.ask();
    assert_eq!((tcp.to, tcp.transport, &bed.forgotten[..]), (udp.to, Transport::Tcp, &[udp.attempt][..]));
    bed.reply(&tcp, &long(&tcp));
    let answers = bed.answers();
    assert!(answers[0].truncated() && answers[0].records().is_empty());
    assert!(!answers[1].truncated());
    assert_eq!(answers[1].records().len(), 1);
    let stats = bed.resolver.stats();
    assert_eq!((stats.attempts, stats.tcp_attempts, stats.failures), (2, 1, 0));
    // Over TCP the client gets it from the cache.
    assert_eq!(bed.at_once(&txt.tcp()).records().len(), 1);
}

#[test]
fn tcp_gets_the_time_for_a_lost_syn() {
    let mut bed = Bed::new();
    let udp = bed.forward(&example());
    bed.reply(&udp, &truncated(&udp));
    let tcp = bed.ask();
    bed.pass(1499 * MS);
    assert!(bed.asks().is_empty());
    bed.pass(MS);
    assert_eq!(bed.ask().to.ip(), ip("8.8.8.8"));
    bed.reply(&tcp, &tcp.address("192.0.2.1", 300));
    assert_eq!(bed.answer().records().len(), 1);
}

#[test]
fn an_upstream_without_tcp_is_given_up_for_the_next() {
    let mut bed = Bed::new();
    let udp = bed.forward(&example());
    bed.reply(&udp, &truncated(&udp));
    let tcp = bed.ask();
    bed.resolver.upstream_failed(tcp.attempt, bed.now);
    let other = bed.ask();
    assert_eq!((other.to.ip(), other.transport), (ip("8.8.8.8"), Transport::Udp));
    bed.reply(&other, &truncated(&other));
    let tcp = bed.ask();
    bed.reply(&tcp, &truncated(&tcp));
    assert_eq!(bed.answer().rcode(), OptRcode::SERVFAIL);
}

#[test]
fn answers_fit_what_the_client_can_take() {
    let mut bed = Bed::new();
    let txt = query("long.example", Rtype::TXT);
    let ask = bed.forward(&txt);
    let text: Txt<Vec<u8>> = Txt::build_from_slice(&[b'x'; 900]).unwrap();
    let reply = ask.respond(|answer| {
        answer.push((ask.question().0, Ttl::from_secs(300), text)).unwrap();
    });
    bed.reply(&ask, &reply);
    bed.answer();
    for (size, fits) in
        [(None, false), (Some(0), false), (Some(512), false), (Some(1000), true), (Some(65_535), true)]
    {
        let answer = bed.at_once(&txt.clone().edns(size));
        assert_eq!(answer.truncated(), !fits, "{size:?}");
        let limit = usize::from(size.unwrap_or(512)).clamp(512, 1232);
        assert!(answer.message.as_slice().len() <= limit);
        assert_eq!(answer.message.opt().is_some(), size.is_some());
    }
}

#[test]
fn an_answer_may_fill_the_limit_to_the_last_byte() {
    // Header, question `t.example TXT`, owner as a pointer, fixed fields, and text in two strings.
    let around = 12 + 15 + 2 + 10 + 2;
    for (edns, limit) in [(None, 512), (Some(520), 520)] {
        for over in [0, 1] {
            let mut bed = Bed::new();
            let ask = bed.forward(&query("t.example", Rtype::TXT).edns(edns));
            let opt = if edns.is_some() { 11 } else { 0 };
            let text: Txt<Vec<u8>> = Txt::build_from_slice(&vec![b'x'; limit - around - opt + over]).unwrap();
            let reply = ask.respond(|answer| {
                answer.push((ask.question().0, Ttl::from_secs(300), text)).unwrap();
            });
            bed.reply(&ask, &reply);
            let answer = bed.answer();
            assert_eq!(answer.truncated(), over == 1);
            assert!(over == 1 || answer.message.as_slice().len() == limit);
        }
    }
}

#[test]
fn an_upstream_that_does_not_know_edns_is_asked_without() {
    for rcode in [Rcode::FORMERR, Rcode::NOTIMP] {
        let mut bed = one_upstream();
        let first = bed.forward(&example());
        bed.reply(&first, &first.error(rcode));
        let second = bed.ask();
        assert_eq!(second.to, first.to);
        assert!(first.message.opt().is_some() && second.message.opt().is_none());
        bed.reply(&second, &second.address("192.0.2.1", 300));
        assert_eq!(bed.answer().records().len(), 1);
        // Twice is an error like any other.
        let first = bed.forward(&query("other.example", Rtype::A));
        bed.reply(&first, &first.error(rcode));
        let second = bed.ask();
        bed.reply(&second, &second.error(rcode));
        assert_eq!(bed.answer().rcode(), OptRcode::SERVFAIL);
    }
}

#[test]
fn an_upstream_that_only_points_elsewhere_is_of_no_use() {
    let mut bed = Bed::new();
    let first = bed.forward(&example());
    let mut referral = domain::base::MessageBuilder::new_vec()
        .start_answer(&first.message, Rcode::NOERROR)
        .unwrap()
        .authority();
    referral.push((name("com"), Ttl::from_secs(300), Ns::new(name("a.gtld-servers.net")))).unwrap();
    bed.reply(&first, &referral.finish());
    assert_eq!(bed.ask().to.ip(), ip("8.8.8.8"));
}

#[test]
fn records_of_types_that_nobody_knows_pass_through_as_they_are() {
    let mut bed = Bed::new();
    let rtype = Rtype::from_int(65_280);
    let ask = bed.forward(&query("odd.example", rtype));
    let data = UnknownRecordData::from_octets(rtype, [0xc0, 0xff, 0, 1, 2]).unwrap();
    let reply = ask.respond(|answer| {
        answer.push((ask.question().0, Ttl::from_secs(300), data)).unwrap();
    });
    bed.reply(&ask, &reply);
    assert_eq!(bed.answer().records(), ["odd.example. TYPE65280 \\# 5 c0 ff 00 01 02"]);
}

#[test]
fn name_servers_and_glue_are_left_out_of_positive_answers() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    let mut reply =
        domain::base::MessageBuilder::new_vec().start_answer(&ask.message, Rcode::NOERROR).unwrap();
    let ttl = Ttl::from_secs(300);
    reply.push((name("example.com"), ttl, A::new([192, 0, 2, 1].into()))).unwrap();
    let mut reply = reply.authority();
    reply.push((name("example.com"), Ttl::from_secs(5), Ns::new(name("ns.example.com")))).unwrap();
    let mut reply = reply.additional();
    reply.push((name("ns.example.com"), ttl, A::new([192, 0, 2, 53].into()))).unwrap();
    bed.reply(&ask, &reply.finish());
    let answer = bed.answer();
    let counts = answer.message.header_counts();
    assert_eq!((counts.ancount(), counts.nscount(), counts.arcount()), (1, 0, 1));
    bed.pass(Duration::from_secs(10));
    assert_eq!(bed.at_once(&example()).ttls(), [290]);
}

#[test]
fn the_ad_bit_of_an_upstream_is_believed_only_where_that_was_chosen() {
    for (trust_ad, wanted, passed) in [(false, true, false), (true, true, true), (true, false, false)] {
        let settings = Settings { trust_ad, ..Settings::default() };
        let mut bed = Bed::with(settings, &Setup::default());
        let mut query = example();
        query.authentic = wanted;
        let ask = bed.forward(&query);
        assert_eq!(ask.message.header().ad(), trust_ad);
        let mut reply = ask.address("192.0.2.1", 300);
        reply[3] |= 0x20;
        bed.reply(&ask, &reply);
        assert_eq!(bed.answer().message.header().ad(), passed);
    }
}

#[test]
fn a_peer_that_leaves_takes_its_queries_along() {
    let mut bed = Bed::new();
    let alone = bed.forward(&query("alone.example", Rtype::A));
    let shared = bed.forward(&example());
    bed.send(&example().from(client(1)));
    bed.resolver.forget_peer(0);
    assert_eq!(bed.resolver.outstanding(), 1);
    assert!(bed.asks().is_empty());
    assert_eq!(bed.forgotten, [alone.attempt]);
    bed.reply(&shared, &shared.address("192.0.2.1", 300));
    bed.send(&example().from(client(2)));
    // Answers that are not sent yet go as well.
    bed.resolver.forget_peer(2);
    assert_eq!(bed.answer().client, client(1));
}
