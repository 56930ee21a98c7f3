//! The lock-free protocols of the engine, checked in every interleaving of their threads by loom.
//!
//! The files of the engine are compiled here once more, with the types of loom in place of those of std (see
//! `sync.rs`): what is checked is the code that runs, not a copy of it. Each model is a function that a test
//! calls. It panics if an interleaving breaks an invariant, or if all threads wait for each other.

// `cargo test --all-targets` would also build the unit tests of these files, which need the types of std.
#![cfg(not(test))]
#![allow(dead_code, unreachable_pub, reason = "most of each file of the engine is for others")]

mod format;
mod image;
mod sync;

pub use image::models;

mod mutation {
    pub(crate) enum Mutation {
        ReuseInFlight,
    }

    /// No deliberate fault.
    pub(crate) const fn is(_: Mutation) -> bool {
        false
    }
}
