//! What works on whole disks: convert, compare, map. Blocking where threads are used.

pub mod compare;
pub mod convert;
pub mod map;
mod progress;

pub use progress::Progress;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holder cannot leave its value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
