//! Processes without threads, and forked children.

mod forked;
mod lost_threads;
