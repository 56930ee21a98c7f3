//! Epochs: which requests in flight may know where a virtual chunk lay. Its old storage chunk must not be
//! used again before they have ended (I12).
//!
//! Each request counts in one of two epochs. To find out when all requests of this moment have ended, the
//! epoch changes; from then on no request joins the old one.
//!
//! `rust/fvd-loom` checks this file in every interleaving of its threads.

use crate::mutation::{self, Mutation};
use crate::sync::{AtomicUsize, Event, EventListener, Ordering};

#[derive(Default)]
pub(in crate::image) struct Epochs {
    epoch: AtomicUsize,
    active: [AtomicUsize; 2],
    /// How many tasks wait for the end of an epoch. A notification takes a mutex: without waiters no request
    /// pays for it.
    waiting: AtomicUsize,
    ended: Event,
}

/// A request that looks up storage chunks, until this is dropped.
pub(in crate::image) struct Pin<'a> {
    epochs: &'a Epochs,
    epoch: usize,
}

/// A task that waits for the end of an epoch, until this is dropped.
pub(in crate::image) struct EpochWaiter<'a>(&'a Epochs);

/// The requests that were in flight at some moment.
#[derive(Clone, Copy)]
pub(in crate::image) struct Epoch(usize);

impl Epochs {
    fn active(&self, epoch: usize) -> &AtomicUsize {
        &self.active[epoch & 1]
    }

    pub(in crate::image) fn pin(&self) -> Pin<'_> {
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            self.active(epoch).fetch_add(1, Ordering::SeqCst);
            let pin = Pin { epochs: self, epoch };
            // If the epoch has changed meanwhile, no task waits for this request. So the request must not
            // look up anything before it counts in the new epoch.
            if self.epoch.load(Ordering::SeqCst) == epoch {
                return pin;
            }
        }
    }

    /// Begins a new epoch, and returns the old one. No earlier epoch may still have a waiter.
    pub(in crate::image) fn advance(&self) -> Epoch {
        Epoch(self.epoch.fetch_add(1, Ordering::SeqCst))
    }

    /// From now on, the last request of an epoch notifies its waiters.
    pub(in crate::image) fn wait(&self) -> EpochWaiter<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        EpochWaiter(self)
    }

    /// Whether all requests of the epoch have ended.
    pub(in crate::image) fn has_drained(&self, epoch: Epoch) -> bool {
        self.active(epoch.0).load(Ordering::SeqCst) == 0 || mutation::is(Mutation::ReuseInFlight)
    }
}

impl EpochWaiter<'_> {
    /// Resolves when the last request of an epoch ends. The caller must check `has_drained` after this call,
    /// not before.
    pub(in crate::image) fn listen(&self) -> EventListener {
        self.0.ended.listen()
    }
}

impl Drop for EpochWaiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        // A waiter first counts itself in `waiting` and then checks `active`; here the order is the opposite.
        // So either the waiter finds the epoch drained, or it is notified.
        let is_last = self.epochs.active(self.epoch).fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && self.epochs.waiting.load(Ordering::SeqCst) > 0 {
            self.epochs.ended.notify(usize::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event_listener::Listener;

    use super::*;

    #[test]
    fn an_epoch_ends_with_its_requests_and_not_with_later_ones() {
        let epochs = Epochs::default();
        let early = epochs.pin();
        let epoch = epochs.advance();
        let late = epochs.pin();
        assert!(!epochs.has_drained(epoch));
        drop(early);
        assert!(epochs.has_drained(epoch));
        let epoch = epochs.advance();
        assert!(!epochs.has_drained(epoch));
        drop(late);
        assert!(epochs.has_drained(epoch));
    }

    #[test]
    fn the_last_request_of_an_epoch_wakes_the_waiter() {
        let epochs = Epochs::default();
        let (first, last) = (epochs.pin(), epochs.pin());
        let epoch = epochs.advance();
        let waiting = epochs.wait();
        let ended = waiting.listen();
        drop(first);
        assert!(!epochs.has_drained(epoch));
        drop(last);
        assert!(ended.wait_timeout(Duration::ZERO).is_some(), "notified");
        drop(waiting);
        assert_eq!(epochs.waiting.load(Ordering::SeqCst), 0);
    }
}
