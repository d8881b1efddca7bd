//! Messages as clients send them, good and bad.

use domain::base::iana::{Class, Opcode, OptRcode};
use domain::base::{MessageBuilder, Name, Rtype};
use ebb_tunnel::dns::Transport;

use crate::bed::{Answer, Bed, client, name, query, with_opcode};

fn raw(bed: &mut Bed, message: &[u8]) -> Option<Answer> {
    bed.resolver.query(client(0), message, bed.now);
    assert!(bed.asks().is_empty());
    let mut answers = bed.answers();
    assert!(answers.len() <= 1);
    answers.pop()
}

#[test]
fn what_is_no_query_gets_no_answer() {
    let mut bed = Bed::new();
    let mut response = query("wiki", Rtype::A).bytes();
    response[2] |= 0x80;
    for message in [&[][..], &[0; 11], &response] {
        assert!(raw(&mut bed, message).is_none());
    }
    assert_eq!(bed.resolver.stats().dropped, 3);
}

#[test]
fn what_cannot_be_read_gets_a_format_error_with_its_id() {
    let mut bed = Bed::new();
    let good = query("wiki", Rtype::A).edns(None).bytes();
    let mut two = good.clone();
    two[5] = 2;
    two.extend_from_slice(&good[12..]);
    let mut none = good[..12].to_vec();
    none[5] = 0;
    let mut counted = good.clone();
    counted[11] = 1;
    let mut looped = good[..12].to_vec();
    looped.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    let mut compressed = good[..12].to_vec();
    compressed.extend_from_slice(&[1, b'a', 0xc0, 4, 0, 1, 0, 1]);
    for message in [&two, &none, &counted, &looped, &compressed, &good[..good.len() - 1].to_vec()] {
        let answer = raw(&mut bed, message).unwrap();
        assert_eq!((answer.rcode(), answer.id()), (OptRcode::FORMERR, 0x1234), "{message:?}");
        assert!(answer.message.header().qr() && answer.message.header().rd());
        assert_eq!(answer.message.header_counts().qdcount(), 0);
    }
}

#[test]
fn two_opt_records_or_one_that_is_not_at_the_root_are_a_format_error() {
    let mut bed = Bed::new();
    let good = query("wiki", Rtype::A).bytes();
    let opt = good[good.len() - 11..].to_vec();
    let mut two = good.clone();
    two[11] = 2;
    two.extend_from_slice(&opt);
    let mut named = good[..good.len() - 11].to_vec();
    named.extend_from_slice(&[1, b'x']);
    named.extend_from_slice(&opt);
    let mut broken = good.clone();
    let end = broken.len();
    broken[end - 1] = 3;
    broken.extend_from_slice(&[0, 10, 0]);
    for message in [two, named, broken] {
        assert_eq!(raw(&mut bed, &message).unwrap().rcode(), OptRcode::FORMERR);
    }
}

#[test]
fn a_query_may_be_padded_but_not_without_end() {
    let mut bed = Bed::new();
    for (length, rcode) in [(4096, OptRcode::NOERROR), (4097, OptRcode::FORMERR)] {
        let mut padded = query("wiki", Rtype::A).tcp().bytes();
        padded.resize(length, 0);
        assert_eq!(raw(&mut bed, &padded).unwrap().rcode(), rcode);
    }
}

#[test]
fn other_records_beside_the_opt_record_do_not_matter() {
    let mut bed = Bed::new();
    let good = query("wiki", Rtype::A).bytes();
    let (question, opt) = good.split_at(good.len() - 11);
    let record = [0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 1, 0];
    let mut more = [question, &record, opt].concat();
    more[11] = 2;
    assert_eq!(raw(&mut bed, &more).unwrap().message.opt().unwrap().udp_payload_size(), 1232);
    // In another section it is no OPT record.
    let mut misplaced = good.clone();
    (misplaced[7], misplaced[11]) = (1, 0);
    let answer = raw(&mut bed, &misplaced).unwrap();
    assert_eq!((answer.records().len(), answer.message.opt().is_none()), (1, true));
}

#[test]
fn other_operations_are_not_implemented() {
    let mut bed = Bed::new();
    for opcode in [Opcode::IQUERY, Opcode::STATUS, Opcode::NOTIFY, Opcode::UPDATE, Opcode::DSO] {
        let answer = raw(&mut bed, &with_opcode(query("wiki", Rtype::A).bytes(), opcode)).unwrap();
        assert_eq!(answer.rcode(), OptRcode::NOTIMP);
        assert_eq!(answer.message.header().opcode(), opcode);
    }
}

#[test]
fn transfers_meta_types_and_other_classes_are_refused_even_for_names_known_here() {
    let mut bed = Bed::new();
    for rtype in [Rtype::AXFR, Rtype::IXFR, Rtype::TKEY, Rtype::TSIG, Rtype::MAILB, Rtype::from_int(200)] {
        for name in ["ebb.internal", "example.com"] {
            assert_eq!(bed.at_once(&query(name, rtype)).rcode(), OptRcode::REFUSED, "{rtype}");
        }
    }
    for rtype in [Rtype::OPT, Rtype::from_int(0)] {
        assert_eq!(bed.at_once(&query("example.com", rtype)).rcode(), OptRcode::FORMERR, "{rtype}");
    }
    for class in [Class::CH, Class::HS, Class::NONE, Class::ANY] {
        let mut builder = MessageBuilder::new_vec().question();
        builder.push((name("version.bind"), Rtype::TXT, class)).unwrap();
        let answer = raw(&mut bed, &builder.finish()).unwrap();
        assert_eq!(answer.rcode(), OptRcode::REFUSED);
        // Clients ignore an answer that does not repeat their question.
        let question = answer.message.sole_question().unwrap();
        assert_eq!((question.qtype(), question.qclass()), (Rtype::TXT, class));
    }
    assert_eq!(bed.resolver.stats().refused, 18);
}

#[test]
fn a_later_edns_version_is_told_which_one_is_spoken() {
    let mut bed = Bed::new();
    let mut message = query("wiki", Rtype::A).bytes();
    let version = message.len() - 5;
    message[version] = 1;
    let answer = raw(&mut bed, &message).unwrap();
    assert_eq!(answer.rcode(), OptRcode::BADVERS);
    assert_eq!(answer.message.opt().unwrap().version(), 0);
}

#[test]
fn an_opt_record_is_answered_with_one_and_silence_with_none() {
    let mut bed = Bed::new();
    let mut secure = query("wiki", Rtype::A);
    secure.dnssec_ok = true;
    let answer = bed.at_once(&secure);
    let opt = answer.message.opt().unwrap();
    assert!(opt.dnssec_ok());
    assert_eq!(opt.udp_payload_size(), 1232);
    for name in ["wiki", "x.invalid"] {
        let answer = bed.at_once(&query(name, Rtype::A).edns(None));
        assert_eq!(answer.message.header_counts().arcount(), 0);
    }
    let refused = bed.at_once(&query("example.com", Rtype::AXFR).edns(None));
    assert_eq!(refused.message.header_counts().arcount(), 0);
    assert_eq!(refused.message.sole_question().unwrap().qtype(), Rtype::AXFR);
}

#[test]
fn options_of_a_client_are_not_repeated_to_upstreams() {
    let mut bed = Bed::new();
    let mut message = query("example.com", Rtype::A).bytes();
    let end = message.len();
    // A client subnet (RFC 7871), which would tell the upstream where the user is.
    let option = [0, 8, 0, 7, 0, 1, 24, 0, 10, 8, 0];
    message[end - 1] = u8::try_from(option.len()).unwrap();
    message.extend_from_slice(&option);
    bed.resolver.query(client(0), &message, bed.now);
    let ask = bed.ask();
    assert!(ask.message.opt().unwrap().opt().is_empty());
}

#[test]
fn without_recursion_only_names_known_here_are_answered() {
    let mut bed = Bed::new();
    let ask = bed.forward(&query("example.com", Rtype::A));
    bed.reply(&ask, &ask.address("192.0.2.1", 300));
    bed.answer();
    let mut iterative = query("example.com", Rtype::A);
    iterative.recursion = false;
    // What others have asked lately is nobody's business.
    let answer = bed.at_once(&iterative);
    assert_eq!((answer.rcode(), answer.error()), (OptRcode::REFUSED, Some(20)));
    assert_eq!(bed.resolver.stats().refused, 1);
    iterative.name = "wiki".into();
    assert_eq!(bed.at_once(&iterative).records().len(), 1);
    assert_eq!(bed.resolver.stats().local, 1);
}

#[test]
fn the_root_and_the_longest_name_are_forwarded_like_any_other() {
    let mut bed = Bed::new();
    let label = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefg";
    let longest = format!("{label}.{label}.{label}.{label}.{}", "x".repeat(13));
    assert_eq!(name(&longest).len(), 255);
    for name in [".", &longest] {
        let ask = bed.forward(&query(name, Rtype::NS));
        assert_eq!(ask.question().0, Name::vec_from_str(name).unwrap());
    }
    let mut tcp = query(".", Rtype::SOA);
    tcp.client.transport = Transport::Tcp;
    bed.forward(&tcp);
}
