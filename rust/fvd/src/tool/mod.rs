//! What works on whole disks, by path: create, convert, compare, map. Blocking where threads are
//! used.

pub mod compare;
pub mod convert;
mod create;
pub mod map;
mod progress;

pub use create::{Backing, CreateRequest, create, create_raw};
pub use progress::{Callback, Progress};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holder cannot leave its value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
