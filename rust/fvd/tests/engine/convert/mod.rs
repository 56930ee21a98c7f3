//! Conversions of whole disks.

mod content;
mod failures;
mod streams;
mod support;
