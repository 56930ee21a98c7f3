//! A bounded queue of records, for a program that hands them to its own logging.
//!
//! A thread that emits puts a record into the queue and wakes the program through an eventfd. It never waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use fvd::process::{CloseOnFork, PerProcess};
use rustix::event::{EventfdFlags, eventfd};
use tracing::level_filters::LevelFilter;

use crate::hub;
use crate::record::Record;

/// The most records that wait. Further ones are counted and dropped.
pub const MOST: usize = 4096;

/// A forked child has its own queue, which is empty.
static QUEUE: PerProcess<Queue> = PerProcess::new(Queue::default);

#[derive(Default)]
struct Queue {
    records: Mutex<VecDeque<Record>>,
    dropped: AtomicU64,
    /// Absent until the program asks for it.
    bell: OnceLock<Bell>,
}

struct Bell {
    /// Before the descriptor: it must be dropped first.
    _close_on_fork: CloseOnFork,
    eventfd: OwnedFd,
}

impl Queue {
    fn records(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From now on, records of up to this level go to the queue. [`LevelFilter::OFF`]: none.
pub fn set_level(level: LevelFilter) {
    hub::set_queue_level(level);
}

/// A descriptor that can be read (8 bytes) when records wait. It stays open. A forked child must ask again.
///
/// # Errors
///
/// The process has no descriptor to spare.
pub fn descriptor() -> io::Result<BorrowedFd<'static>> {
    let queue = QUEUE.get();
    if queue.bell.get().is_none() {
        // Blocking: a program may wait in a read.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        let close_on_fork = CloseOnFork::new(eventfd.as_fd());
        let _ = queue.bell.set(Bell {
            _close_on_fork: close_on_fork,
            eventfd,
        });
    }
    let bell = queue.bell.get().expect("it was set");
    // What came before is told, too.
    ring(queue);
    Ok(bell.eventfd.as_fd())
}

/// Takes all records that wait, and how many were dropped since the last call because the queue was full.
#[must_use]
pub fn take() -> (Vec<Record>, u64) {
    let queue = QUEUE.get();
    let records = queue.records().drain(..).collect();
    (records, queue.dropped.swap(0, Ordering::Relaxed))
}

pub(crate) fn put(record: Record) {
    let queue = QUEUE.get();
    let mut records = queue.records();
    if records.len() >= MOST {
        queue.dropped.fetch_add(1, Ordering::Relaxed);
        return;
    }
    records.push_back(record);
    let was_empty = records.len() == 1;
    drop(records);
    if was_empty {
        ring(queue);
    }
}

fn ring(queue: &Queue) {
    if let Some(bell) = queue.bell.get() {
        // It cannot block: the counter does not reach its limit.
        let _ = rustix::io::write(&bell.eventfd, &1_u64.to_ne_bytes());
    }
}
