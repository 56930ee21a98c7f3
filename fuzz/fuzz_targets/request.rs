//! The header of an NBD request.
#![no_main]

#[path = "../../rust/fvd-nbd/tests/fuzz/main.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::protocol::request(data));
