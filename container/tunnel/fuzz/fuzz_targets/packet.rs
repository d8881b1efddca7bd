//! IP packets of users and what is in them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/packet.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod packet;

fuzz_target!(|bytes: &[u8]| packet::fuzz_packet(bytes));
