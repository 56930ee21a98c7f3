//! Which requests of the guest are under way: whoever works in the background waits for them.

use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::Event;

use super::Image;
use crate::storage::Storage;

#[derive(Default)]
pub(super) struct Guests {
    active: AtomicUsize,
    idle: Event,
}

/// A request; it ends when this is dropped.
pub(super) struct Request<'a>(&'a Guests);

impl Guests {
    pub(super) fn enter(&self) -> Request<'_> {
        self.active.fetch_add(1, Ordering::Relaxed);
        Request(self)
    }

    fn is_idle(&self) -> bool {
        self.active.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify(usize::MAX);
        }
    }
}

impl<S: Storage> Image<S> {
    /// Whether no request of the guest is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.guests.is_idle()
    }

    /// Waits for a moment without a request of the guest. With a guest that is never idle it
    /// waits forever: the caller bounds it.
    pub(crate) async fn idle(&self) {
        loop {
            let listener = self.guests.idle.listen();
            if self.guests.is_idle() {
                return;
            }
            listener.await;
        }
    }
}
