//! Populate: blocks become local with what the base holds.

pub(super) mod complete;
pub(super) mod copies;
pub(super) mod fill;
pub(super) mod inflight;
pub mod profile;
pub(super) mod tally;
