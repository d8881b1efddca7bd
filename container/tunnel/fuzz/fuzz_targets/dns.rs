//! The resolver under queries, replies, failures and time.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ebb_tunnel::dns::fuzz(bytes));
