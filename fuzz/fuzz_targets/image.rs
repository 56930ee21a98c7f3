//! Changes of valid images, and everything that can be done with the result.
#![no_main]

#[path = "../../rust/fvd/tests/fuzz/main.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::image::patched(data));
