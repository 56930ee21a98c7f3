//! Decisions without I/O and without a clock, for models of many readers. They are those of the real reader.

pub use crate::fetch::UNIT;
pub use crate::retry::{Backoff, Pace};
pub use crate::units::{AHEAD, Link, REQUESTS, Streams};
