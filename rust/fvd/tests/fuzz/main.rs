//! Random mutations of valid images, and of parts of them.
//!
//! Deterministic: `FVD_FUZZ_SEED` replays a failure, and `FVD_FUZZ_ITERATIONS` sets the number of iterations.

mod format;
mod image;
mod memory;
mod qcow2;
#[path = "../seeds/mod.rs"]
mod seeds;
