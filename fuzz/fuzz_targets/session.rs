//! A whole NBD session.
#![no_main]

#[path = "../../rust/fvd-nbd/tests/fuzz/main.rs"]
#[allow(dead_code, unused_imports, reason = "most of it is for the tests of `make fuzz`")]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::sessions::session(data));
