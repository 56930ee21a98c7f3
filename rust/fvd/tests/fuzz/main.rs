//! Random mutations of valid images, and of parts of them.
//!
//! Deterministic: `FVD_FUZZ_SEED` replays a failure, and `FVD_FUZZ_ITERATIONS` sets the number of iterations.
//! The targets of cargo-fuzz (`fuzz/`) call the functions that take bytes.

pub(crate) mod format;
pub(crate) mod image;
mod memory;
mod patches;
pub(crate) mod qcow2;
#[path = "../seeds/mod.rs"]
mod seeds;
mod time;
