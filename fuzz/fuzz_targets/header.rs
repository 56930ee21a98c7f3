//! The header of an image.
#![no_main]

#[path = "../../rust/fvd/tests/fuzz/main.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format::any_header(data));
