//! Which requests are under way that may know where a chunk lay: its storage may not be used again
//! before they have ended.
//!
//! Requests count in one of two epochs. To find out when all those of this moment have ended, the
//! epoch changes; from then on no request joins the old one.

use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::{Event, EventListener};

use super::Image;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

#[derive(Default)]
pub(super) struct Epochs {
    epoch: AtomicUsize,
    active: [AtomicUsize; 2],
    /// How many wait for the end of a epoch: to wake nobody costs a mutex, of every request.
    waiting: AtomicUsize,
    ended: Event,
}

/// A request that looks up storage chunks; ends when dropped.
pub(super) struct Pin<'a> {
    epochs: &'a Epochs,
    epoch: usize,
}

/// Somebody who waits for the end of a epoch; no more when dropped.
pub(super) struct EpochWaiter<'a>(&'a Epochs);

/// The requests that were under way at some moment.
#[derive(Clone, Copy)]
pub(super) struct Epoch(usize);

impl Epochs {
    fn active(&self, epoch: usize) -> &AtomicUsize {
        &self.active[epoch & 1]
    }

    fn pin(&self) -> Pin<'_> {
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            self.active(epoch).fetch_add(1, Ordering::SeqCst);
            let lookup = Pin { epochs: self, epoch };
            // If the epoch has changed meanwhile, nobody waits for this request: so it must not
            // look up anything before it belongs to the new one.
            if self.epoch.load(Ordering::SeqCst) == epoch {
                return lookup;
            }
        }
    }

    /// Begins a new epoch; gives the old one. None of the epochs before that is still waited for.
    pub(super) fn advance(&self) -> Epoch {
        Epoch(self.epoch.fetch_add(1, Ordering::SeqCst))
    }

    /// From now on requests tell when they are the last of a epoch.
    pub(super) fn wait(&self) -> EpochWaiter<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        EpochWaiter(self)
    }

    /// Whether all requests of the epoch have ended.
    pub(super) fn has_drained(&self, epoch: Epoch) -> bool {
        self.active(epoch.0).load(Ordering::SeqCst) == 0 || mutation::is(Mutation::ReuseInFlight)
    }
}

impl EpochWaiter<'_> {
    /// Wakes when the last request of a epoch ends. Look whether it has ended after this, not before.
    pub(super) fn listen(&self) -> EventListener {
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
        // In this order, and the other side in the other one: either it finds the epoch ended, or it is found waiting.
        let is_last = self.epochs.active(self.epoch).fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && self.epochs.waiting.load(Ordering::SeqCst) > 0 {
            self.epochs.ended.notify(usize::MAX);
        }
    }
}

impl<S: Storage> Image<S> {
    /// Whoever looks up storage chunks and then reads or writes there holds this meanwhile. None
    /// where chunks never move.
    pub(super) fn pin(&self) -> Option<Pin<'_>> {
        (self.writable && self.table.is_some()).then(|| self.epochs.pin())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event_listener::Listener;

    use super::*;

    #[test]
    fn a_phase_ends_with_its_requests_and_not_with_later_ones() {
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
    fn who_waits_is_woken_by_the_last_request_of_a_phase() {
        let epochs = Epochs::default();
        let (first, last) = (epochs.pin(), epochs.pin());
        let epoch = epochs.advance();
        let waiting = epochs.wait();
        let ended = waiting.listen();
        drop(first);
        assert!(!epochs.has_drained(epoch));
        drop(last);
        assert!(ended.wait_timeout(Duration::ZERO).is_some(), "it was told");
        drop(waiting);
        assert_eq!(epochs.waiting.load(Ordering::SeqCst), 0);
    }
}
