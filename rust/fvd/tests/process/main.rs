//! What a process may lack, and what its children do not get.

mod forked;
mod lost_threads;
