//! Limits on the number of clients, and the end of a server that is not persistent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::counters::{Counters, add};
use super::phase::{Phase, advance};

/// How many clients share a server, and how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The maximum number of clients at once. Further clients are not accepted until one leaves: they wait in
    /// the backlog of the socket. 0: no such limit; beyond
    /// [`Limits::connections`](super::Limits::connections) new connections are closed. A value above that
    /// limit raises the limit.
    pub shared: usize,
    /// Whether the server continues when its last client has left. It always continues until the first client
    /// has opened an export. (To list the exports, or to connect and send nothing, does not count.)
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

/// The slots for clients.
#[derive(Debug)]
pub(super) struct Clients {
    sharing: Sharing,
    /// Slots for [`Sharing::shared`]: a listener waits for a free one.
    shared: Arc<Semaphore>,
    /// Slots for [`Limits::connections`](super::Limits::connections): without a free one the connection is
    /// closed.
    connections: Arc<Semaphore>,
    /// Whether any client has ever opened an export.
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

    /// A permit to accept one client. A listener must not hold it while no client connects, because several
    /// listeners share the permits.
    pub(super) fn try_accept(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared).try_acquire_owned().ok()
    }

    /// Completes when [`Clients::try_accept`] may succeed again.
    pub(super) async fn room(&self) {
        drop(self.shared.acquire().await);
    }

    /// Registers an accepted client. Returns None, and counts the refusal, if there are too many clients.
    pub(super) fn admit(self: &Arc<Self>, shared: OwnedSemaphorePermit) -> Option<Client> {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            add(&self.counters.refused, 1);
            return None;
        };
        add(&self.counters.total, 1);
        add(&self.counters.open, 1);
        Some(Client {
            clients: Arc::clone(self),
            _permits: (shared, permit),
        })
    }
}

/// A registered connection. Dropping it frees its slots.
#[derive(Debug)]
pub(super) struct Client {
    clients: Arc<Clients>,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
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
    fn the_last_client_ends_a_non_persistent_server() {
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
    fn clients_that_opened_no_export_do_not_end_the_server() {
        let (clients, phase) = clients(Sharing {
            shared: 0,
            persistent: false,
        });
        drop(enter(&clients));
        assert_eq!(*phase.borrow(), Phase::Serving);
    }

    #[test]
    fn excess_clients_are_refused_or_wait_if_sharing_is_limited() {
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
