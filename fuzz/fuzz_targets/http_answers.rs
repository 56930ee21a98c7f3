//! The answers of a store or a web server.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fvd_remote::fuzz::http_answers(data));
