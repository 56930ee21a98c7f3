//! Operations on whole disks, named by path: create, info, check, amend, convert, compare, map, measure,
//! profile, stats. Most functions are `async`. Those that start threads (convert, compare) block the caller.

mod amend;
mod check;
pub mod compare;
pub mod convert;
mod create;
mod info;
pub mod map;
mod measure;
mod new_files;
mod profile;
mod progress;
mod stats;

pub use amend::amend;
pub use check::check;
pub use create::{Backing, CreateRequest, create, create_raw, plan};
pub use info::{DiskInfo, NamedBacking, Qcow2Info, info};
pub use measure::units_with_data;
pub use profile::{StoredProfile, TakenProfile, profile, set_profile};
pub use progress::{Callback, Progress, drive};
pub use stats::{DiskStats, stats};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. Ignores poisoning, because a panic cannot leave the values of these mutexes half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
