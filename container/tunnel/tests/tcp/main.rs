//! The TCP endpoint in a simulated network: properties over thousands of seeds, goodput on emulated WANs, the rules of the
//! RFCs one by one, and hostile peers. Time is virtual, so every run repeats exactly.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where its world is not as it says, and says where"
)]

mod fuzzing;
mod properties;
mod rules;
mod sim;
mod wan;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_segments_and_calls_breaks_a_connection(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        fuzzing::fuzz_connection(&bytes);
    }
}
