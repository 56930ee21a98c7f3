//! Which requests of the guest are in flight. Background work checks this, and waits for an idle guest.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::image::Image;
use crate::storage::Storage;

#[derive(Default)]
pub(in crate::image) struct InflightRequests {
    active: AtomicUsize,
    entered: AtomicU64,
}

/// A request in flight, until this is dropped.
pub(in crate::image) struct Request<'a>(&'a InflightRequests);

impl InflightRequests {
    pub(in crate::image) fn enter(&self) -> Request<'_> {
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
    /// Whether no request of the guest is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.inflight.is_idle()
    }

    /// Number of guest requests since the image was opened.
    pub(crate) fn requests(&self) -> u64 {
        self.inflight.entered.load(Ordering::Relaxed)
    }
}
