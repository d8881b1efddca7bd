//! What is remembered, and for how long.

use std::time::Duration;

use domain::base::iana::{OptRcode, Rcode};
use domain::base::{Rtype, Ttl};
use domain::rdata::{A, Cname, Soa, Txt};
use ebb_tunnel::dns::Settings;

use crate::bed::{Bed, Query, Setup, client, name, query};

const SECOND: Duration = Duration::from_secs(1);

fn example() -> Query {
    query("example.com", Rtype::A)
}

/// Fills the cache with one answer.
fn learn(bed: &mut Bed, query: &Query, ttl: u32) {
    let ask = bed.forward(query);
    bed.reply(&ask, &ask.address("192.0.2.1", ttl));
    assert_eq!(bed.answer().ttls(), [ttl]);
}

#[test]
fn an_answer_is_kept_for_its_ttl_which_counts_down() {
    let mut bed = Bed::new();
    learn(&mut bed, &example(), 300);
    bed.pass(SECOND * 100);
    let answer = bed.at_once(&example().id(99).from(client(5)));
    assert_eq!((answer.ttls(), answer.id(), answer.client), (vec![200], 99, client(5)));
    bed.pass(SECOND * 200 - Duration::from_micros(1));
    assert_eq!(bed.at_once(&example()).ttls(), [1]);
    bed.pass(Duration::from_micros(1));
    bed.forward(&example());
    assert_eq!(bed.resolver.stats().cached, 2);
}

#[test]
fn the_shortest_ttl_of_an_answer_counts_for_all_of_it() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    let reply = ask.respond(|answer| {
        answer.push((name("example.com"), Ttl::from_secs(20), Cname::new(name("cdn.example")))).unwrap();
        answer.push((name("cdn.example"), Ttl::from_secs(300), A::new([192, 0, 2, 1].into()))).unwrap();
    });
    bed.reply(&ask, &reply);
    assert_eq!(bed.answer().ttls(), [20, 300]);
    bed.pass(SECOND * 19);
    assert_eq!(bed.at_once(&example()).ttls(), [1, 281]);
    bed.pass(SECOND);
    bed.forward(&example());
}

#[test]
fn a_ttl_of_zero_or_beyond_the_range_is_not_kept() {
    for ttl in [0, 0x8000_0000, u32::MAX] {
        let mut bed = Bed::new();
        let ask = bed.forward(&example());
        bed.reply(&ask, &ask.address("192.0.2.1", ttl));
        assert_eq!(bed.answer().ttls(), [0]);
        bed.forward(&example());
    }
}

#[test]
fn a_long_ttl_is_cut() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    bed.reply(&ask, &ask.address("192.0.2.1", 0x7fff_ffff));
    assert_eq!(bed.answer().ttls(), [86_400]);
    bed.pass(SECOND * 86_400);
    bed.forward(&example());
}

#[test]
fn a_name_that_does_not_exist_is_remembered_as_long_as_its_zone_says() {
    for (soa_ttl, minimum, kept) in [(60, 3600, 60), (3600, 60, 60), (100_000, 100_000, 900)] {
        for rcode in [Rcode::NXDOMAIN, Rcode::NOERROR] {
            let mut bed = Bed::new();
            let ask = bed.forward(&example());
            bed.reply(&ask, &ask.negative(rcode, soa_ttl, minimum));
            let answer = bed.answer();
            assert_eq!(answer.rcode(), OptRcode::from(rcode));
            assert_eq!(answer.soa(), Some(("example.com.".into(), kept)));
            bed.pass(SECOND * (kept - 1));
            assert_eq!(bed.at_once(&example()).soa().unwrap().1, 1);
            bed.pass(SECOND);
            bed.forward(&example());
        }
    }
}

#[test]
fn the_minimum_of_a_zone_limits_only_what_does_not_exist() {
    let mut bed = Bed::new();
    let ask = bed.forward(&query("example.com", Rtype::SOA));
    let hour = Ttl::from_hours(1);
    let soa = Soa::new(name("ns."), name("mail."), 1.into(), hour, hour, hour, Ttl::from_secs(60));
    let reply = ask.respond(|answer| answer.push((name("example.com"), hour, soa)).unwrap());
    bed.reply(&ask, &reply);
    assert_eq!(bed.answer().ttls(), [3600]);
}

#[test]
fn a_negative_answer_without_a_zone_is_passed_on_but_not_kept() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    bed.reply(&ask, &ask.error(Rcode::NXDOMAIN));
    assert_eq!(bed.answer().rcode(), OptRcode::NXDOMAIN);
    bed.forward(&example());
}

#[test]
fn no_data_at_the_end_of_an_alias_is_negative() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    let mut builder = domain::base::Message::from_octets(ask.respond(|answer| {
        answer.push((name("example.com"), Ttl::from_secs(3000), Cname::new(name("other.example")))).unwrap();
    }))
    .unwrap();
    builder.header_mut().set_ra(true);
    bed.reply(&ask, builder.as_slice());
    assert_eq!(bed.answer().records().len(), 1);
    // There is no SOA record, so nothing says how long "no data" holds.
    bed.forward(&example());
}

#[test]
fn type_dnssec_and_checking_are_part_of_the_question_and_case_is_not() {
    let mut bed = Bed::new();
    learn(&mut bed, &example(), 300);
    let mut shouted = example();
    shouted.name = "EXAMPLE.com".into();
    let answer = bed.at_once(&shouted);
    assert_eq!(answer.records(), ["EXAMPLE.com. A 192.0.2.1"]);
    let (mut typed, mut secure, mut unchecked) = (example(), example(), example());
    typed.rtype = Rtype::AAAA;
    secure.dnssec_ok = true;
    unchecked.checking_disabled = true;
    for (other, dnssec_ok, checking_disabled) in
        [(typed, false, false), (secure, true, false), (unchecked, false, true)]
    {
        let ask = bed.forward(&other);
        assert_eq!(ask.message.opt().unwrap().dnssec_ok(), dnssec_ok);
        assert_eq!(ask.message.header().cd(), checking_disabled);
    }
}

#[test]
fn failures_are_remembered_for_a_second() {
    let mut bed = Bed::with(Settings::default(), &Setup::default().upstream(&["1.1.1.1"]));
    let ask = bed.forward(&example());
    bed.reply(&ask, &ask.error(Rcode::SERVFAIL));
    assert_eq!(bed.answer().rcode(), OptRcode::SERVFAIL);
    bed.pass(SECOND - Duration::from_micros(1));
    assert_eq!(bed.at_once(&example()).rcode(), OptRcode::SERVFAIL);
    bed.pass(Duration::from_micros(1));
    bed.forward(&example());
}

#[test]
fn other_upstreams_make_all_answers_obsolete_and_other_names_none() {
    let mut bed = Bed::new();
    learn(&mut bed, &example(), 300);
    let mut setup = Setup::default();
    setup.dns.names.insert("more".into(), vec![]);
    setup.peers.clear();
    bed.configure(&setup).unwrap();
    assert_eq!(bed.at_once(&example()).ttls(), [300]);
    bed.configure(&setup.upstream(&["9.9.9.9", "1.1.1.1"])).unwrap();
    assert_eq!(bed.resolver.cached(), 0);
    bed.forward(&example());
}

#[test]
fn a_late_answer_of_a_replaced_upstream_is_not_kept() {
    let mut bed = Bed::new();
    let ask = bed.forward(&example());
    bed.configure(&Setup::default().upstream(&["9.9.9.9"])).unwrap();
    // Who asks now is not told what the old upstream will say.
    let new = bed.forward(&example().from(client(1)));
    assert_eq!(new.to.ip().to_string(), "9.9.9.9");
    bed.reply(&ask, &ask.address("192.0.2.1", 300));
    assert_eq!(bed.answer().client, client(0));
    assert_eq!(bed.resolver.cached(), 0);
    bed.reply(&new, &new.address("192.0.2.2", 300));
    assert_eq!(bed.answer().records(), ["example.com. A 192.0.2.2"]);
    assert_eq!(bed.at_once(&example()).records(), ["example.com. A 192.0.2.2"]);
}

#[test]
fn the_least_recently_used_answer_makes_room() {
    let settings = Settings { cache_entries: 3, ..Settings::default() };
    let mut bed = Bed::with(settings, &Setup::default());
    let names: Vec<_> = (0..4).map(|n| query(&format!("{n}.example"), Rtype::A)).collect();
    for query in &names[..3] {
        learn(&mut bed, query, 300);
    }
    bed.at_once(&names[0]);
    learn(&mut bed, &names[3], 300);
    assert_eq!(bed.resolver.cached(), 3);
    for kept in [0, 2, 3] {
        bed.at_once(&names[kept]);
    }
    bed.forward(&names[1]);
}

/// Fills the cache with answers of this many bytes of text each.
fn fill(bed: &mut Bed, names: std::ops::Range<u32>, text: usize) {
    for n in names {
        let ask = bed.forward(&query(&format!("{n}.example"), Rtype::TXT));
        let text: Txt<Vec<u8>> = Txt::build_from_slice(&vec![b'x'; text]).unwrap();
        let reply = ask.respond(|answer| {
            answer.push((ask.question().0, Ttl::from_secs(300), text)).unwrap();
        });
        bed.reply(&ask, &reply);
        bed.answer();
    }
}

#[test]
fn bytes_bound_the_cache_as_well() {
    let settings = Settings { cache_bytes: 100_000, ..Settings::default() };
    let mut bed = Bed::with(settings, &Setup::default());
    fill(&mut bed, 0..40, 5000);
    let kept = bed.resolver.cached();
    assert!((15..20).contains(&kept), "{kept}");
    // The latest ones.
    assert_eq!(bed.at_once(&query("39.example", Rtype::TXT).tcp()).records().len(), 1);
    bed.forward(&query("1.example", Rtype::TXT));
    // Small answers take space of their own beside their bytes.
    fill(&mut bed, 100..900, 1);
    let kept = bed.resolver.cached();
    assert!((150..300).contains(&kept), "{kept}");
    // A large one is not worth all the others.
    fill(&mut bed, 1000..1001, 15_000);
    assert_eq!(bed.resolver.cached(), kept);
}

#[test]
fn a_cache_may_have_no_room_at_all() {
    let settings = Settings { cache_entries: 0, ..Settings::default() };
    let mut bed = Bed::with(settings, &Setup::default());
    learn(&mut bed, &example(), 300);
    assert_eq!(bed.resolver.cached(), 0);
}
