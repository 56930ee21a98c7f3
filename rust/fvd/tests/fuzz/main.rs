//! Valid images and parts of them, broken at random.
//!
//! Deterministic: `FVD_FUZZ_SEED` replays a failure, `FVD_FUZZ_ITERATIONS` says how long to run.

mod format;
mod image;
mod memory;
mod qcow2;
#[path = "../seeds/mod.rs"]
mod seeds;
