//! Doing elsewhere what would block: on threads, or by the kernel itself.
//!
//! Knows no runtime: what waits is woken by its waker alone.

mod backend;
mod close_guard;
mod oneshot;
mod pool;
mod queue;
mod ring;

pub use backend::Backend;
pub(crate) use close_guard::{CloseGuard, Opened, Remains};
pub(crate) use oneshot::{Receiver, Unfinished};
#[cfg(test)]
pub(crate) use oneshot::{Sender, oneshot};
pub(crate) use pool::Pool;
pub(crate) use ring::{Guard, Outcome, Ring};
