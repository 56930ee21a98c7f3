//! Inspect: what can be said of an image without changing it.

pub mod dump;
pub mod info;
pub(super) mod local;
pub(super) mod stats;
pub(super) mod totals;
