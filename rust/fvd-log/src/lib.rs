//! What a program does with the records of fvd.
//!
//! The engine and the server emit spans and events of `tracing`, and know of no consumer. This crate is one:
//!
//! * [`start_lines`]: lines of text or JSON on stderr, for the command line.
//! * [`queue`]: a bounded queue that the program empties, for `logging` of Python.
//!
//! A span gives two records: one when it begins, and one when it ends, with the time in between.
//!
//! Emitting never blocks: where a queue is full, records are counted and dropped. It is safe after a fork:
//! what a thread of the parent may have locked (spans, the queue) exists once in each process. That is why
//! this is no layer on the registry of `tracing-subscriber`, whose locks a child would inherit.

mod filter;
mod format;
mod hub;
mod lines;
pub mod queue;
mod record;
mod span;
mod time;

pub use filter::Filter;
pub use format::Format;
pub use hub::{finish_lines, start_lines};
pub use record::{Fields, Record, Scope, Value};
