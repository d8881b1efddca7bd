//! A TCP connection under arbitrary segments, calls and pauses.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/tcp/fuzzing.rs"]
mod fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::fuzz_connection(bytes));
