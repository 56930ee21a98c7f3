//! The replies of an NBD server to a client.
#![no_main]

#[path = "../../rust/fvd-nbd/tests/fuzz/main.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::client::replies(data));
