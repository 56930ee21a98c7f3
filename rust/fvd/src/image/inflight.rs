//! Which requests of the guest are under way: whoever works in the background looks here, and waits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Image;
use crate::storage::Storage;

#[derive(Default)]
pub(super) struct InflightRequests {
    active: AtomicUsize,
    entered: AtomicU64,
}

/// A request; it ends when this is dropped.
pub(super) struct Request<'a>(&'a InflightRequests);

impl InflightRequests {
    pub(super) fn enter(&self) -> Request<'_> {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.entered.fetch_add(1, Ordering::Relaxed);
        Request(self)
    }

    fn is_idle(&self) -> bool {
        self.active.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Storage> Image<S> {
    /// Whether no request of the guest is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.inflight.is_idle()
    }

    /// Requests of the guest since the image was opened.
    pub(crate) fn requests(&self) -> u64 {
        self.inflight.entered.load(Ordering::Relaxed)
    }
}
