//! Which requests are under way that may know where a chunk lay: its storage may not be used again
//! before they have ended.
//!
//! Requests count in one of two phases. To find out when all those of this moment have ended, the
//! phase changes; from then on no request joins the old one.

use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::{Event, EventListener};

use super::Image;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

#[derive(Default)]
pub(super) struct Lookups {
    phase: AtomicUsize,
    active: [AtomicUsize; 2],
    /// How many wait for the end of a phase: to wake nobody costs a mutex, of every request.
    waiting: AtomicUsize,
    ended: Event,
}

/// A request that looks up storage chunks; ends when dropped.
pub(super) struct Lookup<'a> {
    lookups: &'a Lookups,
    phase: usize,
}

/// Somebody who waits for the end of a phase; no more when dropped.
pub(super) struct Waiting<'a>(&'a Lookups);

/// The requests that were under way at some moment.
#[derive(Clone, Copy)]
pub(super) struct Phase(usize);

impl Lookups {
    fn active(&self, phase: usize) -> &AtomicUsize {
        &self.active[phase & 1]
    }

    fn enter(&self) -> Lookup<'_> {
        loop {
            let phase = self.phase.load(Ordering::SeqCst);
            self.active(phase).fetch_add(1, Ordering::SeqCst);
            let lookup = Lookup { lookups: self, phase };
            // If the phase has changed meanwhile, nobody waits for this request: so it must not
            // look up anything before it belongs to the new one.
            if self.phase.load(Ordering::SeqCst) == phase {
                return lookup;
            }
        }
    }

    /// Begins a new phase; gives the old one. None of the phases before that is still waited for.
    pub(super) fn change(&self) -> Phase {
        Phase(self.phase.fetch_add(1, Ordering::SeqCst))
    }

    /// From now on requests tell when they are the last of a phase.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Whether all requests of the phase have ended.
    pub(super) fn have_ended(&self, phase: Phase) -> bool {
        self.active(phase.0).load(Ordering::SeqCst) == 0 || mutation::is(Mutation::ReuseInFlight)
    }
}

impl Waiting<'_> {
    /// Wakes when the last request of a phase ends. Look whether it has ended after this, not before.
    pub(super) fn listen(&self) -> EventListener {
        self.0.ended.listen()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        // In this order, and the other side in the other one: either it finds the phase ended, or it is found waiting.
        let is_last = self.lookups.active(self.phase).fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && self.lookups.waiting.load(Ordering::SeqCst) > 0 {
            self.lookups.ended.notify(usize::MAX);
        }
    }
}

impl<S: Storage> Image<S> {
    /// Whoever looks up storage chunks and then reads or writes there holds this meanwhile. None
    /// where chunks never move.
    pub(super) fn look(&self) -> Option<Lookup<'_>> {
        (self.writable && self.table.is_some()).then(|| self.lookups.enter())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event_listener::Listener;

    use super::*;

    #[test]
    fn a_phase_ends_with_its_requests_and_not_with_later_ones() {
        let lookups = Lookups::default();
        let early = lookups.enter();
        let phase = lookups.change();
        let late = lookups.enter();
        assert!(!lookups.have_ended(phase));
        drop(early);
        assert!(lookups.have_ended(phase));
        let phase = lookups.change();
        assert!(!lookups.have_ended(phase));
        drop(late);
        assert!(lookups.have_ended(phase));
    }

    #[test]
    fn who_waits_is_woken_by_the_last_request_of_a_phase() {
        let lookups = Lookups::default();
        let (first, last) = (lookups.enter(), lookups.enter());
        let phase = lookups.change();
        let waiting = lookups.wait();
        let ended = waiting.listen();
        drop(first);
        assert!(!lookups.have_ended(phase));
        drop(last);
        assert!(ended.wait_timeout(Duration::ZERO).is_some(), "it was told");
        drop(waiting);
        assert_eq!(lookups.waiting.load(Ordering::SeqCst), 0);
    }
}
