//! Doing elsewhere what would block: on threads, or by the kernel itself.
//!
//! Knows no runtime: what waits is woken by its waker alone.

mod backend;
mod farewell;
mod handoff;
mod pool;
mod queue;
mod ring;

pub use backend::Backend;
pub(crate) use farewell::{Farewell, Opened, Remains};
#[cfg(test)]
pub(crate) use handoff::{Completer, handoff};
pub(crate) use handoff::{Handoff, Unfinished};
pub(crate) use pool::Pool;
pub(crate) use ring::{Guard, Outcome, Ring};
