//! Units that are being stored, so that a process that ends does not lose them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::simulated;

/// How many there are.
#[derive(Debug, Default)]
pub(super) struct Pending {
    count: Mutex<usize>,
    changed: Condvar,
}

/// One of them. It has ended when this is dropped.
pub(crate) struct Storing(Arc<Pending>);

impl Pending {
    pub(super) fn begin(self: &Arc<Self>) -> Storing {
        *self.lock() += 1;
        Storing(Arc::clone(self))
    }

    /// Waits until there are none, for at most `limit`.
    pub(super) fn settle(&self, limit: Duration) {
        if simulated::runtime().is_some() {
            // What is pending runs on this thread, which must not wait for it.
            return;
        }
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |count| *count > 0);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.changed.notify_all();
    }
}
