//! Two WireGuard ends on a network that a script controls.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/wireguard.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod wireguard;

fuzz_target!(|bytes: &[u8]| wireguard::fuzz_wireguard(bytes));
