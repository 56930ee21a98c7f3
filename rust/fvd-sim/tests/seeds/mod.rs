//! Seeds that no earlier run has used.

use std::time::{SystemTime, UNIX_EPOCH};

/// Distance between the seeds of two consecutive seconds. A run uses fewer seeds in a second.
const A_SECOND: u64 = 1 << 14;

/// The first seed of this run. The caller prints it, so that the run can be repeated.
pub(crate) fn new_start() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() * A_SECOND)
}
