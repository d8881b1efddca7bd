//! Control messages, boot files and log lines.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/wire.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod wire;

fuzz_target!(|bytes: &[u8]| wire::fuzz_wire(bytes));
