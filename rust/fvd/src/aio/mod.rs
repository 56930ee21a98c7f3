//! Runs what would block where it may block: on worker threads, or in the kernel.
//!
//! This module depends on no async runtime: it wakes a task only through its waker.

mod backend;
mod close_guard;
mod how;
mod oneshot;
mod pool;
mod queue;
mod ring;
mod threaded;

pub use backend::Backend;
pub(crate) use close_guard::{CloseGuard, Opened, Remains};
pub use how::{How, Observed};
pub(crate) use oneshot::{Receiver, Unfinished};
#[cfg(test)]
pub(crate) use oneshot::{Sender, oneshot};
pub(crate) use pool::Pool;
pub(crate) use ring::{Guard, Outcome, Ring};
pub use threaded::Threaded;
