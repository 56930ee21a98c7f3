//! What was asked of the stores, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fvd::remote::Counters;

use crate::cache::CacheTally;

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
