//! How many clients there may be, and what happens when the last one leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::counters::{Counters, add};
use super::phase::{Phase, advance};

/// Who shares a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Clients at once; further ones wait, unaccepted, until one leaves. 0: as many as
    /// [`Limits::connections`](super::Limits::connections), and further ones are hung up on. More
    /// than these raise that limit.
    pub shared: usize,
    /// Whether the server goes on when its last client has left. Before one has taken an export (not
    /// only asked for the list, or said nothing) it goes on in any case.
    pub persistent: bool,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            shared: 0,
            persistent: true,
        }
    }
}

/// The places for clients.
#[derive(Debug)]
pub(super) struct Clients {
    sharing: Sharing,
    /// Places that are waited for.
    shared: Arc<Semaphore>,
    /// Places that are there or not.
    connections: Arc<Semaphore>,
    /// Whether somebody ever took an export.
    used: AtomicBool,
    counters: Arc<Counters>,
    phases: watch::Sender<Phase>,
}

impl Clients {
    pub(super) fn new(
        sharing: Sharing,
        connections: usize,
        counters: Arc<Counters>,
        phases: watch::Sender<Phase>,
    ) -> Self {
        let shared = match sharing.shared {
            0 => Semaphore::MAX_PERMITS,
            shared => shared.min(Semaphore::MAX_PERMITS),
        };
        Self {
            sharing,
            shared: Arc::new(Semaphore::new(shared)),
            connections: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            used: AtomicBool::new(false),
            counters,
            phases,
        }
    }

    /// Leave to accept, for as long as it is held. Nobody holds it while nobody comes: several
    /// listeners share the places.
    pub(super) fn try_accept(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared).try_acquire_owned().ok()
    }

    /// Ready when [`Clients::try_accept`] is worth another try.
    pub(super) async fn room(&self) {
        drop(self.shared.acquire().await);
    }

    /// The place of one that was accepted. None, and counted, if there are too many.
    pub(super) fn admit(self: &Arc<Self>, leave: OwnedSemaphorePermit) -> Option<Client> {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            add(&self.counters.refused, 1);
            return None;
        };
        add(&self.counters.total, 1);
        add(&self.counters.open, 1);
        Some(Client {
            clients: Arc::clone(self),
            _places: (leave, permit),
        })
    }
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Client {
    clients: Arc<Clients>,
    _places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Client {
    pub(super) fn took_an_export(&self) {
        self.clients.used.store(true, Ordering::Release);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let clients = &self.clients;
        let before = clients.counters.open.fetch_sub(1, Ordering::AcqRel);
        if before == 1 && clients.used.load(Ordering::Acquire) && !clients.sharing.persistent {
            advance(&clients.phases, Phase::Ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(sharing: Sharing) -> (Arc<Clients>, watch::Receiver<Phase>) {
        let phases = watch::Sender::new(Phase::Serving);
        let phase = phases.subscribe();
        let clients = Clients::new(sharing, 2, Arc::default(), phases);
        (Arc::new(clients), phase)
    }

    fn enter(clients: &Arc<Clients>) -> Option<Client> {
        clients.admit(clients.try_accept()?)
    }

    #[test]
    fn the_last_one_ends_a_server_that_is_not_persistent_if_an_export_was_taken() {
        for persistent in [false, true] {
            let (clients, phase) = clients(Sharing { shared: 0, persistent });
            let (first, second) = (enter(&clients).unwrap(), enter(&clients).unwrap());
            first.took_an_export();
            drop(first);
            assert_eq!(*phase.borrow(), Phase::Serving, "one is left");
            drop(second);
            assert_eq!(*phase.borrow() == Phase::Ending, !persistent);
        }
    }

    #[test]
    fn before_an_export_is_taken_nobody_ends_the_server_by_leaving() {
        let (clients, phase) = clients(Sharing {
            shared: 0,
            persistent: false,
        });
        drop(enter(&clients));
        assert_eq!(*phase.borrow(), Phase::Serving);
    }

    #[test]
    fn too_many_are_refused_and_those_beyond_the_share_wait() {
        let (unshared, _) = clients(Sharing::default());
        let _two = (enter(&unshared).unwrap(), enter(&unshared).unwrap());
        assert!(unshared.try_accept().is_some() && enter(&unshared).is_none());
        assert_eq!(unshared.counters.connections().refused, 1);
        let (shared, _) = clients(Sharing {
            shared: 1,
            persistent: true,
        });
        let one = enter(&shared);
        assert!(shared.try_accept().is_none());
        drop(one);
        assert!(shared.try_accept().is_some());
    }
}
