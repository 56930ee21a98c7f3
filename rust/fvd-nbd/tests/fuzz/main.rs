//! Whatever a client sends, and whatever a server sends.
//!
//! Deterministic: `FVD_FUZZ_SEED` replays a failure, `FVD_FUZZ_ITERATIONS` says how long to run.
//! The targets of cargo-fuzz (`fuzz/`) call the functions that take bytes.

pub(crate) mod client;
#[path = "../../../fvd/tests/fuzz/memory.rs"]
mod memory;
#[path = "../options/mod.rs"]
mod options;
pub(crate) mod protocol;
mod replies;
#[path = "../../../fvd/tests/seeds/mod.rs"]
mod seeds;
mod session;
pub(crate) mod sessions;
