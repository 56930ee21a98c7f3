//! What was asked of the stores, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::CacheTally;

/// Counters of an [`Opener`](crate::Opener), over all its files since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests for data that were sent, those below included.
    pub requests: u64,
    /// Bytes of data that have come, also those that came twice.
    pub bytes: u64,
    /// Requests that were sent again after a failure.
    pub retries: u64,
    /// Second requests for what a first one did not bring in time.
    pub hedges: u64,
    /// Times the credentials were replaced because the server had refused them.
    pub refreshes: u64,
    /// Fetches that wait now: in a pause after a failure.
    pub waiting: u64,
    /// Units that were found in the host cache. Later reads of them are not counted.
    pub cache_found: u64,
    /// Units that were stored in the host cache.
    pub cache_stored: u64,
    /// Units in the host cache that were damaged, and fetched again.
    pub cache_damaged: u64,
    /// Failures of the host cache. After each it is not used for a minute.
    pub cache_failures: u64,
    /// Bytes of data in memory now, in all files of the process.
    pub memory: u64,
    /// Stores that cannot be reached now.
    pub outages: Vec<OutageState>,
}

/// A store that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutageState {
    /// The store, without credentials: scheme, and host or bucket.
    pub store: String,
    /// For how long its requests have been failing.
    pub lasting: Duration,
    /// Why the last one did.
    pub reason: String,
}

/// Counts while it happens.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    waiting: AtomicU64,
    pub(crate) cache: Arc<CacheTally>,
}

impl Tally {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a fetch as waiting until the result is dropped.
    pub(crate) fn wait(&self) -> impl Drop {
        struct Waiting<'a>(&'a AtomicU64);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    pub(crate) fn read(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            requests: read(&self.requests),
            bytes: read(&self.bytes),
            retries: read(&self.retries),
            hedges: read(&self.hedges),
            refreshes: read(&self.refreshes),
            waiting: read(&self.waiting),
            cache_found: read(&self.cache.found),
            cache_stored: read(&self.cache.stored),
            cache_damaged: read(&self.cache.damaged),
            cache_failures: read(&self.cache.failures),
            ..Counters::default()
        }
    }
}
