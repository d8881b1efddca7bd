//! What the fuzz targets run, driven by random bytes and by the committed corpora, so that every run of the tests exercises
//! them. The targets themselves are in `fuzz/`.

#![expect(clippy::unwrap_used, reason = "a broken promise is a panic")]

#[path = "../tcp/fuzzing.rs"]
mod connection;
mod packet;
mod wire;
mod wireguard;

use std::path::Path;

use proptest::prelude::*;

type Fuzz = fn(&[u8]);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_break_a_promise_about_packets(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        packet::fuzz_packet(&bytes);
    }

    /// Mostly right, because random bytes rarely get past the first check.
    #[test]
    fn no_damage_to_a_packet_breaks_a_promise(
        v6: bool, protocol in prop::sample::select(vec![1_u8, 6, 17, 44, 58, 0]),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        damage in proptest::collection::vec((0_usize..60, any::<u8>()), 0..4),
    ) {
        let mut bytes = packet::whole(v6, protocol, &payload);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        packet::fuzz_packet(&bytes);
    }

    #[test]
    fn no_bytes_break_a_promise_about_control_messages(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        wire::fuzz_wire(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_script_breaks_a_promise_of_wireguard(script in proptest::collection::vec(any::<u8>(), 0..400)) {
        wireguard::fuzz_wireguard(&script);
    }
}

#[test]
fn every_seed_of_the_corpora_holds() {
    let targets: [(&str, Fuzz); 5] = [
        ("connection", connection::fuzz_connection),
        ("packet", packet::fuzz_packet),
        ("wireguard", wireguard::fuzz_wireguard),
        ("wire", wire::fuzz_wire),
        ("dns", ebb_tunnel::dns::fuzz),
    ];
    for (target, fuzz) in targets {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let seeds: Vec<_> = std::fs::read_dir(directory).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 10, "{target} has {} seeds", seeds.len());
        for seed in seeds {
            fuzz(&std::fs::read(seed).unwrap());
        }
    }
}
