//! What one client can take from the others.

use domain::base::Rtype;
use domain::base::iana::OptRcode;
use ebb_tunnel::dns::Settings;

use crate::bed::{Bed, Query, Setup, client, query};

fn bed(outstanding: usize, outstanding_per_client: usize) -> Bed {
    let settings = Settings { outstanding, outstanding_per_client, ..Settings::default() };
    Bed::with(settings, &Setup::default())
}

fn from(peer: u64, n: u16) -> Query {
    query(&format!("{n}.example"), Rtype::A).id(n).from(client(peer))
}

#[test]
fn a_client_over_its_share_gets_servfail_at_once_and_others_go_on() {
    let mut bed = bed(100, 3);
    for n in 0..3 {
        bed.forward(&from(0, n));
    }
    let answer = bed.at_once(&from(0, 3));
    assert_eq!((answer.rcode(), answer.error()), (OptRcode::SERVFAIL, Some(0)));
    // Other ports and connections are the same client.
    let mut elsewhere = from(0, 4).tcp();
    elsewhere.client.source.set_port(41_000);
    assert_eq!(bed.at_once(&elsewhere).rcode(), OptRcode::SERVFAIL);
    bed.forward(&from(1, 5));
    // Names known here cost nothing.
    assert_eq!(bed.at_once(&query("wiki", Rtype::A)).rcode(), OptRcode::NOERROR);
    assert_eq!(bed.resolver.stats().limited, 2);
}

#[test]
fn joining_a_question_of_others_counts_too() {
    let mut bed = bed(3, 2);
    bed.forward(&from(0, 1));
    bed.send(&from(1, 1));
    bed.send(&from(1, 1).id(8));
    assert_eq!(bed.at_once(&from(1, 1).id(9)).rcode(), OptRcode::SERVFAIL);
    assert_eq!(bed.at_once(&from(2, 1)).rcode(), OptRcode::SERVFAIL);
    assert_eq!(bed.resolver.outstanding(), 3);
}

#[test]
fn the_share_comes_back_with_the_answer() {
    let mut bed = bed(2, 1);
    for round in 0..10 {
        let ask = bed.forward(&from(0, round));
        assert_eq!(bed.at_once(&from(0, 100 + round)).rcode(), OptRcode::SERVFAIL);
        bed.reply(&ask, &ask.address("192.0.2.1", 300));
        bed.answer();
    }
    // A refusal for lack of room is not remembered as an answer.
    bed.forward(&from(0, 100));
}

#[test]
fn the_share_comes_back_with_the_peers_departure() {
    let mut bed = bed(4, 4);
    for n in 0..4 {
        bed.forward(&from(0, n));
    }
    bed.resolver.forget_peer(0);
    assert_eq!((bed.resolver.outstanding(), bed.resolver.deadline()), (0, None));
    bed.asks();
    bed.forward(&from(1, 9));
}
