//! What a server sends to a client in the negotiation.
#![no_main]

#[path = "../../rust/fvd-nbd/tests/fuzz/main.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::client::negotiation(data));
