//! Changes of valid qcow2 images, which are then read.
#![no_main]

#[path = "../../rust/fvd/tests/fuzz/main.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::qcow2::patched(data));
