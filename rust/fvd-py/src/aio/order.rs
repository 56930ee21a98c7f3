//! Requests that overlap take effect in the order in which they were begun.
//!
//! Asyncio code can cancel a write and go on at once, while the write still runs to its end. What
//! is begun on its range after that must not be overtaken by it.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The writes under way.
#[derive(Default)]
pub(super) struct Order {
    /// A range in bytes, and what ends with its [`Turn`].
    writes: Mutex<Vec<(Range<u64>, watch::Receiver<()>)>>,
}

/// The place of a request among those that overlap with it. A write is over when it is dropped.
pub(super) struct Turn {
    earlier: Vec<watch::Receiver<()>>,
    /// None for what changes nothing.
    _running: Option<watch::Sender<()>>,
}

impl Order {
    /// The turn of something that changes `length` bytes from `offset`.
    pub(super) fn write(&self, offset: u64, length: u64) -> Turn {
        let (sender, receiver) = watch::channel(());
        self.turn(offset, length, Some((sender, receiver)))
    }

    /// The turn of something that reads them.
    pub(super) fn read(&self, offset: u64, length: u64) -> Turn {
        self.turn(offset, length, None)
    }

    fn turn(&self, offset: u64, length: u64, write: Option<(watch::Sender<()>, watch::Receiver<()>)>) -> Turn {
        let range = offset..offset.saturating_add(length);
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.retain(|(_, running)| running.has_changed().is_ok());
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        let earlier = writes.iter().filter(|(other, _)| overlaps(other));
        let earlier = earlier.map(|(_, running)| running.clone()).collect();
        let running = write.map(|(sender, receiver)| {
            writes.push((range, receiver));
            sender
        });
        Turn {
            earlier,
            _running: running,
        }
    }
}

impl Turn {
    /// Waits until the writes before this request have ended.
    pub(super) async fn come(&mut self) {
        for mut running in self.earlier.drain(..) {
            // Nothing is ever sent: it ends with an error, when the sender is dropped.
            while running.changed().await.is_ok() {}
        }
    }
}
