//! Operations on whole disks, named by path: create, info, check, amend, convert, compare, commit,
//! rebase, map, measure, profile, stats. Most functions are `async`. Those that start threads (convert, compare, commit,
//! rebase) block the caller.

mod amend;
mod check;
mod commit;
pub mod compare;
pub mod convert;
mod create;
mod info;
pub mod map;
mod measure;
mod new_files;
mod pace;
mod profile;
mod progress;
mod rebase;
mod stats;
mod transfer;

pub use amend::amend;
pub use check::check;
#[cfg(test)]
pub(crate) use commit::commit_opened;
pub use commit::{CommitRequest, Committed, commit};
pub use create::{Backing, CreateRequest, create, create_raw, plan};
pub use info::{DiskInfo, NamedBacking, Qcow2Info, info};
pub use measure::units_with_data;
pub use profile::{StoredProfile, TakenProfile, profile, set_profile};
pub use progress::{Callback, Progress, drive};
pub use rebase::{RebaseRequest, Rebased, rebase};
pub use stats::{DiskStats, stats};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. Ignores poisoning, because a panic cannot leave the values of these mutexes half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
