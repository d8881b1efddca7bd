//! The fuzzers' entry, fed with random scripts: no bytes make the resolver break a promise.

use ebb_tunnel::dns::{Resolver, Settings, fuzz};
use proptest::prelude::*;

use crate::bed::{Bed, client, query};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_script_breaks_a_promise(script in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz(&script);
    }

    #[test]
    fn no_script_of_plain_steps_breaks_a_promise(
        steps in proptest::collection::vec((2_u8..8, 0_u8..4, any::<[u8; 3]>()), 0..300),
    ) {
        let script: Vec<u8> =
            steps.iter().flat_map(|&(step, peer, rest)| [step | peer << 4, rest[0], rest[1], rest[2] % 8]).collect();
        fuzz(&script);
    }

    #[test]
    fn no_damage_to_a_reply_breaks_the_resolver(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bed = Bed::new();
        let ask = bed.forward(&query("example.com", domain::base::Rtype::A));
        let mut reply = ask.negative(domain::base::iana::Rcode::NXDOMAIN, 60, 60);
        reply.extend_from_slice(&ask.address("192.0.2.1", 60)[12..]);
        for (place, value) in damage {
            let place = place.index(reply.len() - 2) + 2;
            reply[place] = value;
        }
        reply.truncate(cut.index(reply.len() * 2));
        bed.reply(&ask, &reply);
        bed.asks();
        prop_assert!(bed.answers().len() <= 1);
    }

    #[test]
    fn no_bytes_of_a_client_break_a_new_resolver(message in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut resolver = Resolver::new(Settings::default(), [1; 32], Box::new(|_| false));
        resolver.query(client(0), &message, ebb_tunnel::Time::ZERO);
        prop_assert!(resolver.poll_answer().is_none_or(|(_, answer)| answer[..2] == message[..2]));
    }
}
