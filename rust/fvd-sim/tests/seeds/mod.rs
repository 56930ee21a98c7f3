//! Seeds that no run before has had.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seeds for one run: a run uses up fewer in a second than there are between two of these.
const A_SECOND: u64 = 1 << 14;

/// The first of them. Printed by whoever uses it, so that a run can be done again.
pub(crate) fn new_start() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() * A_SECOND)
}
