//! Populate: blocks become local with what the base holds.

pub(super) mod complete;
pub(super) mod copy_on_read;
pub(super) mod fill;
pub(super) mod inflight;
pub mod profile;
mod read_unit;
pub(super) mod tally;
