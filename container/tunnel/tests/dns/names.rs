//! Names that are answered in the gateway.

use domain::base::Rtype;
use domain::base::iana::OptRcode;

use crate::bed::{Bed, Setup, ip, query};

fn records(bed: &mut Bed, name: &str, rtype: Rtype) -> Vec<String> {
    let answer = bed.at_once(&query(name, rtype));
    assert_eq!(answer.rcode(), OptRcode::NOERROR, "{name} {rtype}");
    assert!(answer.message.header().aa() && answer.message.header().ra());
    answer.records()
}

#[test]
fn users_and_the_session_have_names() {
    let mut bed = Bed::new();
    assert_eq!(records(&mut bed, "alice.ebb.internal", Rtype::A), ["alice.ebb.internal. A 10.8.0.2"]);
    assert_eq!(
        records(&mut bed, "bob.ebb.internal", Rtype::AAAA),
        ["bob.ebb.internal. AAAA fd65:6262:0:1::3"]
    );
    for gateway in ["gateway.ebb.internal", "alice-east.ebb.internal"] {
        assert_eq!(records(&mut bed, gateway, Rtype::A), [format!("{gateway}. A 10.8.0.1")]);
        assert_eq!(records(&mut bed, gateway, Rtype::AAAA), [format!("{gateway}. AAAA fd65:6262:0:1::1")]);
    }
}

#[test]
fn a_single_label_is_answered_bare_and_under_the_zone() {
    let mut bed = Bed::new();
    assert_eq!(records(&mut bed, "wiki", Rtype::A), ["wiki. A 10.0.0.7"]);
    assert_eq!(records(&mut bed, "wiki.ebb.internal", Rtype::A), ["wiki.ebb.internal. A 10.0.0.7"]);
}

#[test]
fn a_longer_name_is_answered_exactly_as_written() {
    let mut bed = Bed::new();
    assert_eq!(records(&mut bed, "api.example.com", Rtype::A), ["api.example.com. A 10.0.0.8"]);
    let answer = bed.at_once(&query("api.example.com.ebb.internal", Rtype::A));
    assert_eq!(answer.rcode(), OptRcode::NXDOMAIN);
    for public in ["example.com", "www.api.example.com", "xapi.example.com"] {
        bed.forward(&query(public, Rtype::A));
    }
}

#[test]
fn case_does_not_matter_and_comes_back_as_it_was_sent() {
    let mut bed = Bed::new();
    let answer = bed.at_once(&query("aLiCe.EBB.internal", Rtype::A));
    assert_eq!(answer.records(), ["aLiCe.EBB.internal. A 10.8.0.2"]);
    assert_eq!(answer.message.sole_question().unwrap().qname().to_string(), "aLiCe.EBB.internal");
}

#[test]
fn addresses_of_the_tunnel_have_names_too() {
    let mut bed = Bed::new();
    for (address, name) in [
        ("10.8.0.1", "gateway"),
        ("10.8.0.2", "alice"),
        ("fd65:6262:0:1::1", "gateway"),
        ("fd65:6262:0:1::3", "bob"),
    ] {
        let reverse = domain::base::Name::<Vec<u8>>::reverse_from_addr(ip(address)).unwrap().to_string();
        assert_eq!(records(&mut bed, &reverse, Rtype::PTR), [format!("{reverse}. PTR {name}.ebb.internal.")]);
    }
    let nobody = bed.at_once(&query("77.0.8.10.in-addr.arpa", Rtype::PTR));
    assert_eq!(
        (nobody.rcode(), nobody.soa().unwrap().0.as_str()),
        (OptRcode::NXDOMAIN, "0.8.10.in-addr.arpa.")
    );
    assert!(bed.at_once(&query("2.0.8.10.in-addr.arpa", Rtype::A)).is_no_data());
}

#[test]
fn an_existing_name_without_the_type_is_no_data_and_any_other_is_nxdomain() {
    let mut bed = Bed::new();
    for (name, rtype) in [
        ("wiki", Rtype::AAAA),
        ("alice.ebb.internal", Rtype::MX),
        ("alice.ebb.internal", Rtype::HTTPS),
        ("api.example.com", Rtype::TXT),
        ("alice.ebb.internal", Rtype::SOA),
        ("alice.ebb.internal", Rtype::NS),
        ("ebb.internal", Rtype::A),
        // Nothing is there, but something is under it.
        ("under.ebb.internal", Rtype::A),
        ("0.8.10.in-addr.arpa", Rtype::PTR),
        ("0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.0.0.2.6.2.6.5.6.d.f.ip6.arpa", Rtype::PTR),
        ("local", Rtype::A),
        ("10.in-addr.arpa", Rtype::NULL),
    ] {
        assert!(bed.at_once(&query(name, rtype)).is_no_data(), "{name} {rtype}");
    }
    for name in ["carol.ebb.internal", "x.alice.ebb.internal", "der.ebb.internal"] {
        let answer = bed.at_once(&query(name, Rtype::A));
        assert_eq!(answer.rcode(), OptRcode::NXDOMAIN, "{name}");
        assert_eq!(answer.soa(), Some(("ebb.internal.".into(), 30)), "{name}");
        assert!(answer.message.header().aa());
        assert!(bed.at_once(&query(name, Rtype::SOA)).records().is_empty());
    }
}

#[test]
fn the_zone_has_a_soa_and_a_name_server() {
    let mut bed = Bed::new();
    assert_eq!(records(&mut bed, "ebb.internal", Rtype::NS), ["ebb.internal. NS gateway.ebb.internal."]);
    let before = records(&mut bed, "ebb.internal", Rtype::SOA);
    bed.configure(&Setup::default()).unwrap();
    let after = records(&mut bed, "ebb.internal", Rtype::SOA);
    assert!(
        before[0].starts_with("ebb.internal. SOA gateway.ebb.internal. nobody.invalid. 1 "),
        "{before:?}"
    );
    assert!(after[0].starts_with("ebb.internal. SOA gateway.ebb.internal. nobody.invalid. 2 "), "{after:?}");
}

#[test]
fn what_the_desired_state_names_wins_over_all_and_users_win_over_the_session() {
    let mut setup = Setup { session: "alice".into(), ..Setup::default() };
    let mut bed = Bed::with(Default::default(), &setup);
    assert_eq!(records(&mut bed, "alice.ebb.internal", Rtype::A), ["alice.ebb.internal. A 10.8.0.2"]);
    for taken in ["alice", "gateway"] {
        setup.dns.names.insert(taken.into(), vec![ip("10.0.0.99")]);
    }
    bed.configure(&setup).unwrap();
    for taken in ["alice", "gateway"] {
        let name = format!("{taken}.ebb.internal");
        assert_eq!(records(&mut bed, &name, Rtype::A), [format!("{name}. A 10.0.0.99")]);
    }
}

#[test]
fn changed_names_are_seen_within_two_minutes_by_caches_that_honour_ttls() {
    let mut bed = Bed::new();
    let answer = bed.at_once(&query("wiki", Rtype::A));
    assert!(answer.ttls().iter().all(|&ttl| ttl <= 120));
    assert!(bed.at_once(&query("new.ebb.internal", Rtype::A)).soa().unwrap().1 <= 120);
    let mut setup = Setup::default();
    setup.dns.names.insert("wiki".into(), vec![ip("10.0.0.70")]);
    setup.peers.remove(0);
    bed.configure(&setup).unwrap();
    assert_eq!(records(&mut bed, "wiki", Rtype::A), ["wiki. A 10.0.0.70"]);
    assert_eq!(bed.at_once(&query("alice.ebb.internal", Rtype::A)).rcode(), OptRcode::NXDOMAIN);
}

#[test]
fn a_name_that_was_forwarded_and_cached_is_answered_here_once_it_is_named() {
    let mut bed = Bed::new();
    let ask = bed.forward(&query("later.example.com", Rtype::A));
    bed.reply(&ask, &ask.address("192.0.2.1", 3600));
    bed.answer();
    let mut setup = Setup::default();
    setup.dns.names.insert("later.example.com".into(), vec![ip("10.0.0.5")]);
    bed.configure(&setup).unwrap();
    assert_eq!(records(&mut bed, "later.example.com", Rtype::A), ["later.example.com. A 10.0.0.5"]);
}

#[test]
fn a_bad_name_is_refused_and_changes_nothing() {
    let mut bed = Bed::new();
    for bad in ["a..b", "", ".", "wiki.", &"x".repeat(64), &["abcdefgh"; 32].join(".")] {
        let mut setup = Setup::default().upstream(&["9.9.9.9"]);
        setup.dns.names.clear();
        setup.dns.names.insert(bad.into(), vec![]);
        let error = bed.configure(&setup).unwrap_err().to_string();
        assert!(error.contains(bad) && error.contains("no DNS name"), "{error}");
    }
    assert_eq!(records(&mut bed, "wiki", Rtype::A), ["wiki. A 10.0.0.7"]);
    assert_eq!(bed.forward(&query("example.com", Rtype::A)).to.ip(), ip("1.1.1.1"));
}

#[test]
fn special_names_never_reach_a_public_upstream() {
    let mut bed = Bed::new();
    for name in [
        "printer.local",
        "local",
        "facebookcorewwwi.onion",
        "x.invalid",
        "some.test",
        "corp.internal",
        "nas.home.arpa",
        "_dns.resolver.arpa",
        "1.2.3.10.in-addr.arpa",
        "1.0.16.172.in-addr.arpa",
        "1.0.31.172.in-addr.arpa",
        "1.1.168.192.in-addr.arpa",
        "1.0.64.100.in-addr.arpa",
        "1.0.127.100.in-addr.arpa",
        "254.169.254.169.in-addr.arpa",
        "1.0.0.127.in-addr.arpa",
        "1.0.0.0.ip6.d.f.ip6.arpa",
        "1.0.8.e.f.ip6.arpa",
        "PRINTER.LOCAL",
    ] {
        for rtype in [Rtype::A, Rtype::PTR, Rtype::SOA, Rtype::HTTPS, Rtype::ANY] {
            let answer = bed.at_once(&query(name, rtype));
            let known = matches!(answer.rcode(), OptRcode::NXDOMAIN | OptRcode::NOERROR);
            assert!(known && answer.message.header().aa(), "{name} {rtype}");
        }
    }
    // Next to them, but public.
    for name in
        ["locals", "1.0.15.172.in-addr.arpa", "1.0.32.172.in-addr.arpa", "1.0.63.100.in-addr.arpa", "arpa"]
    {
        bed.forward(&query(name, Rtype::A));
    }
}

#[test]
fn localhost_is_the_clients_own_host() {
    let mut bed = Bed::new();
    assert_eq!(records(&mut bed, "localhost", Rtype::A), ["localhost. A 127.0.0.1"]);
    assert_eq!(records(&mut bed, "x.localhost", Rtype::AAAA), ["x.localhost. AAAA ::1"]);
    assert!(bed.at_once(&query("localhost", Rtype::MX)).is_no_data());
}

#[test]
fn private_names_go_to_private_resolvers_that_were_named_and_to_no_other() {
    let mut bed = Bed::with(Default::default(), &Setup::default().upstream(&["1.1.1.1", "10.0.0.53"]));
    for name in ["corp.internal", "dc.corp.local", "1.2.3.10.in-addr.arpa"] {
        let ask = bed.forward(&query(name, Rtype::A));
        assert_eq!(ask.to.ip(), ip("10.0.0.53"), "{name}");
        bed.reply(&ask, &ask.address("10.20.0.1", 60));
        assert_eq!(bed.answer().records(), [format!("{name}. A 10.20.0.1")]);
    }
    for here in ["carol.ebb.internal", "9.0.8.10.in-addr.arpa", "x.onion", "1.0.0.127.in-addr.arpa"] {
        assert_eq!(bed.at_once(&query(here, Rtype::A)).rcode(), OptRcode::NXDOMAIN, "{here}");
    }
    // The host's own resolver was not chosen by anybody.
    let mut fallback = Setup::default().upstream(&[]);
    fallback.fallback = vec![ip("168.63.129.16")];
    bed.configure(&fallback).unwrap();
    assert_eq!(bed.at_once(&query("dc.corp.local", Rtype::A)).rcode(), OptRcode::NXDOMAIN);
    assert_eq!(bed.forward(&query("example.com", Rtype::A)).to.ip(), ip("168.63.129.16"));
}

#[test]
fn any_gets_one_harmless_record() {
    let mut bed = Bed::new();
    for name in ["wiki", "2.0.8.10.in-addr.arpa", "example.com", "ebb.internal"] {
        let hinfo = format!("{name}. HINFO \"RFC8482\" \"\"");
        assert_eq!(bed.at_once(&query(name, Rtype::ANY)).records(), [hinfo]);
    }
    assert_eq!(bed.at_once(&query("carol.ebb.internal", Rtype::ANY)).rcode(), OptRcode::NXDOMAIN);
}

#[test]
fn reverse_zones_follow_the_network_where_it_ends_within_a_label() {
    let mut bed = Bed::new();
    let setup = Setup::default().upstream(&["10.0.0.53"]);
    let config = ebb_tunnel::dns::Config {
        session: "s",
        dns: &setup.dns,
        peers: &[],
        gateway: &[],
        networks: &["10.8.0.0/22".parse().unwrap(), "fd65:6262::/62".parse().unwrap()],
        fallback: &[],
    };
    bed.resolver.configure(&config).unwrap();
    for inside in ["1.3.8.10.in-addr.arpa", "3.0.0.0.0.0.0.0.2.6.2.6.5.6.d.f.ip6.arpa"] {
        bed.at_once(&query(inside, Rtype::PTR));
    }
    for outside in ["1.4.8.10.in-addr.arpa", "4.0.0.0.0.0.0.0.2.6.2.6.5.6.d.f.ip6.arpa"] {
        bed.forward(&query(outside, Rtype::PTR));
    }
}

#[test]
fn a_name_with_many_addresses_comes_whole_over_tcp() {
    let mut setup = Setup::default();
    setup.dns.names.insert("many".into(), (0..=255).map(|n| [10, 0, 1, n].into()).collect());
    let mut bed = Bed::with(Default::default(), &setup);
    let short = bed.at_once(&query("many", Rtype::A));
    assert!(short.truncated() && short.records().is_empty());
    let whole = bed.at_once(&query("many", Rtype::A).tcp());
    assert_eq!(whole.records().len(), 256);
}
