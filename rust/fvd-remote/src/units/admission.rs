//! Who may send a request next: memory and connections are limited, and readers go before what is fetched ahead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fvd::host::BoxFuture;
use fvd::remote::Urgency;
use tokio::sync::Notify;
use tokio::sync::oneshot::{self, Receiver, Sender};

use super::link::Link;
use super::memory::{Memory, State};
use crate::fault::fault;

/// Requests of a process at one time.
pub const REQUESTS: usize = 32;
/// Of these, for what is fetched ahead. The same share of the memory.
pub const AHEAD: usize = REQUESTS / 2;

/// What is known of a flight while it waits.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Whether a reader waits for it who goes before prefetch. Never becomes false again.
    is_wanted: AtomicBool,
    wanted: Notify,
    /// Whether it is for prefetch, or fetched ahead of prefetch.
    is_background: bool,
    /// A reader has come after all others had given up.
    again: Notify,
}

impl Ticket {
    pub(super) fn new(is_wanted: bool, urgency: Urgency) -> Self {
        Self {
            is_wanted: AtomicBool::new(is_wanted),
            wanted: Notify::new(),
            is_background: urgency != Urgency::Demand,
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

    /// Returns whether it was not wanted before: then [`Self::demand`] follows.
    pub(super) fn want(&self) -> bool {
        !self.is_wanted.swap(true, Ordering::Relaxed)
    }

    /// Wakes the flight, so not under a lock.
    pub(super) fn demand(&self) {
        self.wanted.notify_one();
    }

    /// Waits until it is wanted.
    pub(super) async fn demanded(&self) {
        while !self.is_wanted() {
            self.wanted.notified().await;
        }
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
    /// Of these, for prefetch.
    reserved_background: u64,
    /// Requests under way.
    flying: Vec<Arc<Reservation>>,
    pub(super) link: Link,
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
    reservation: Arc<Reservation>,
}

/// The memory of a permit, for the units that come. Changes only under the lock of the memory.
pub(super) struct Reservation {
    /// Bytes that have not become units that are kept.
    left: AtomicU64,
    ticket: Arc<Ticket>,
    is_background: bool,
    granted: Duration,
    /// Whether no unit has come yet.
    is_new: AtomicBool,
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
            reserved_background: 0,
            flying: Vec::new(),
            link: Link::default(),
            waiting: VecDeque::new(),
        }
    }

    fn next(&self, now: Duration) -> Option<usize> {
        let is_demand = |waiting: &Waiting| waiting.ticket.is_wanted() || fault!(FirstComeFirstServed);
        if let Some(first) = self.waiting.iter().position(is_demand) {
            let fits = self.flying.len() < REQUESTS && self.fits(self.waiting[first].bytes, self.limit);
            // Those behind it wait as well, so that a long request is not overtaken for ever.
            return fits.then_some(first);
        }
        let first = self.waiting.front()?;
        let fits = self.flying.len() < AHEAD && self.fits(first.bytes, self.limit / 2) && self.has_room(first, now);
        fits.then_some(0)
    }

    /// Whether the network can carry one more, if it is for prefetch, without a delay for readers.
    fn has_room(&self, waiting: &Waiting, now: Duration) -> bool {
        let background = self.reserved_background;
        !waiting.ticket.is_background
            || background == 0
            || fault!(NoRoomKept)
            || self
                .link
                .room(now, self.is_demanded())
                .is_none_or(|room| background + waiting.bytes <= room)
    }

    /// Whether a request is under way for a reader.
    fn is_demanded(&self) -> bool {
        self.flying.iter().any(|reservation| reservation.ticket.is_wanted())
    }

    /// A request that is longer than the limit runs alone.
    fn fits(&self, bytes: u64, limit: u64) -> bool {
        self.reserved == 0 || self.reserved + bytes <= limit || fault!(BudgetIgnored)
    }
}

impl Memory {
    /// Waits for memory and a turn of a flight. What it gets is in `reservation` as well.
    pub(super) fn admit<'a>(
        self: &Arc<Self>,
        ticket: &Arc<Ticket>,
        reservation: &'a Mutex<Option<Arc<Reservation>>>,
        bytes: u64,
    ) -> BoxFuture<'a, Box<dyn Send>> {
        let mut state = self.lock();
        let receiver = state.enqueue(Arc::clone(ticket), bytes);
        let granted = state.grant(self);
        drop(state);
        send(granted);
        Box::pin(async move {
            let permit = receiver.await.expect("the queue lives as long as the flight");
            *reservation.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&permit.reservation));
            Box::new(permit) as Box<dyn Send>
        })
    }
}

impl State {
    /// Waits in the queue for `bytes`.
    fn enqueue(&mut self, ticket: Arc<Ticket>, bytes: u64) -> Receiver<Permit> {
        let (sender, receiver) = oneshot::channel();
        self.queue.waiting.push_back(Waiting { ticket, bytes, sender });
        receiver
    }

    /// Gives permits to those whose turn it is. The caller sends them without the lock.
    pub(super) fn grant(&mut self, memory: &Arc<Memory>) -> Vec<Granted> {
        let now = memory.now();
        self.queue.waiting.retain(|waiting| !waiting.sender.is_closed());
        let mut granted = Vec::new();
        while let Some(next) = self.queue.next(now) {
            let Waiting { bytes, sender, ticket } = self.queue.waiting.remove(next).expect("it was found there");
            self.evict(bytes);
            let permit = Permit {
                memory: Arc::clone(memory),
                reservation: Arc::new(Reservation {
                    left: bytes.into(),
                    is_background: ticket.is_background && !ticket.is_wanted(),
                    ticket,
                    granted: now,
                    is_new: true.into(),
                }),
            };
            self.queue.begin(&permit.reservation);
            granted.push(Granted { sender, permit });
        }
        granted
    }

    /// A unit of `bytes` has come for `reservation`: what was set aside for it is in use now.
    pub(super) fn came(&mut self, now: Duration, reservation: &Reservation, bytes: u64) {
        let link = &mut self.queue.link;
        link.arrived(now, bytes);
        if reservation.is_new.swap(false, Ordering::Relaxed) {
            link.answered(now, now.saturating_sub(reservation.granted));
        }
        self.queue.give_back(reservation, bytes);
    }
}

impl Queue {
    fn begin(&mut self, reservation: &Arc<Reservation>) {
        let bytes = reservation.left.load(Ordering::Relaxed);
        self.flying.push(Arc::clone(reservation));
        self.reserved += bytes;
        if reservation.is_background {
            self.reserved_background += bytes;
        }
    }

    /// Gives back at most `bytes` of what is left.
    fn give_back(&mut self, reservation: &Reservation, bytes: u64) {
        let left = reservation.left.load(Ordering::Relaxed);
        let bytes = bytes.min(left);
        reservation.left.store(left - bytes, Ordering::Relaxed);
        self.reserved -= bytes;
        if reservation.is_background {
            self.reserved_background -= bytes;
        }
    }

    fn end(&mut self, reservation: &Arc<Reservation>) {
        self.flying.retain(|other| !Arc::ptr_eq(other, reservation));
        if !fault!(BudgetKept) {
            self.give_back(reservation, u64::MAX);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.queue.end(&self.reservation);
        let granted = state.grant(&self.memory);
        drop(state);
        send(granted);
    }
}
