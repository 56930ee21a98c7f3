//! Who may send a request next: memory and connections are limited, and readers go before what is fetched ahead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::sync::oneshot::{self, Receiver, Sender};

use super::memory::{Memory, State};

/// Requests of a process at one time.
const REQUESTS: usize = 32;
/// Of these, for what is fetched ahead. The same share of the memory.
const AHEAD: usize = REQUESTS / 2;

/// What is known of a flight while it waits.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Whether a reader waits for it. Never becomes false again.
    is_wanted: AtomicBool,
    /// A reader has come after all others had given up.
    again: Notify,
}

impl Ticket {
    pub(super) fn new(is_wanted: bool) -> Self {
        Self {
            is_wanted: AtomicBool::new(is_wanted),
            again: Notify::new(),
        }
    }

    /// Wakes the flight, so not under a lock.
    pub(super) fn ask_again(&self) {
        self.again.notify_one();
    }

    pub(super) async fn asked_again(&self) {
        self.again.notified().await;
    }

    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }
}

/// Flights that wait, and what those in the air have.
pub(super) struct Queue {
    pub(super) limit: u64,
    /// Bytes that flights in the air will bring.
    pub(super) reserved: u64,
    requests: usize,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    ticket: Arc<Ticket>,
    bytes: u64,
    sender: Sender<Permit>,
}

/// Memory and a turn. Both are given back when it is dropped.
pub(super) struct Permit {
    memory: Arc<Memory>,
    /// The part of the memory that has not become units that are kept.
    bytes: Arc<std::sync::atomic::AtomicU64>,
}

/// A permit on its way. It is sent without the lock.
pub(super) struct Granted {
    sender: Sender<Permit>,
    permit: Permit,
}

/// Sends permits. One that no flight takes gives the next one its turn when it is dropped, here.
pub(super) fn send(granted: Vec<Granted>) {
    for Granted { sender, permit } in granted {
        drop(sender.send(permit));
    }
}

impl Queue {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            reserved: 0,
            requests: 0,
            waiting: VecDeque::new(),
        }
    }

    fn next(&self) -> Option<usize> {
        let is_demand = |waiting: &Waiting| waiting.ticket.is_wanted();
        if let Some(first) = self.waiting.iter().position(is_demand) {
            let fits = self.requests < REQUESTS && self.fits(self.waiting[first].bytes, self.limit);
            // Those behind it wait as well, so that a long request is not overtaken for ever.
            return fits.then_some(first);
        }
        let first = self.waiting.front()?;
        let fits = self.requests < AHEAD && self.fits(first.bytes, self.limit / 2);
        fits.then_some(0)
    }

    /// A request that is longer than the limit runs alone.
    fn fits(&self, bytes: u64, limit: u64) -> bool {
        self.reserved == 0 || self.reserved + bytes <= limit
    }
}

impl State {
    /// Waits in the queue for `bytes`.
    pub(super) fn enqueue(&mut self, ticket: Arc<Ticket>, bytes: u64) -> Receiver<Permit> {
        let (sender, receiver) = oneshot::channel();
        self.queue.waiting.push_back(Waiting { ticket, bytes, sender });
        receiver
    }

    /// Gives permits to those whose turn it is. The caller sends them without the lock.
    pub(super) fn grant(&mut self, memory: &Arc<Memory>) -> Vec<Granted> {
        self.queue.waiting.retain(|waiting| !waiting.sender.is_closed());
        let mut granted = Vec::new();
        while let Some(next) = self.queue.next() {
            let Waiting { bytes, sender, .. } = self.queue.waiting.remove(next).expect("it was found there");
            self.evict(bytes);
            self.queue.reserved += bytes;
            self.queue.requests += 1;
            let permit = Permit {
                memory: Arc::clone(memory),
                bytes: Arc::new(bytes.into()),
            };
            granted.push(Granted { sender, permit });
        }
        granted
    }
}

/// The memory of a permit, for the units that come.
pub(super) type Reservation = Arc<std::sync::atomic::AtomicU64>;

impl Permit {
    pub(super) fn reservation(&self) -> Reservation {
        Arc::clone(&self.bytes)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.queue.reserved -= self.bytes.swap(0, Ordering::Relaxed);
        state.queue.requests -= 1;
        let granted = state.grant(&self.memory);
        drop(state);
        send(granted);
    }
}
