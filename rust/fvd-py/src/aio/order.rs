//! Overlapping requests take effect in the order in which they were started.
//!
//! Asyncio code can cancel a write and continue immediately, while the write still runs to its end. That
//! write must not overtake requests on its range that are started later.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The writes in flight.
#[derive(Default)]
pub(super) struct Order {
    /// Each write: its range in bytes, and a receiver whose sender is dropped with its [`Turn`].
    writes: Mutex<Vec<(Range<u64>, watch::Receiver<()>)>>,
}

/// The position of a request among those that overlap with it. Dropping it ends the request.
pub(super) struct Turn {
    earlier: Vec<watch::Receiver<()>>,
    /// None for a read.
    _running: Option<watch::Sender<()>>,
}

impl Order {
    /// The turn of a request that changes `length` bytes from `offset` (bytes).
    pub(super) fn write(&self, offset: u64, length: u64) -> Turn {
        let (sender, receiver) = watch::channel(());
        self.turn(offset, length, Some((sender, receiver)))
    }

    /// The turn of a request that reads `length` bytes from `offset` (bytes).
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
    /// Waits until the earlier overlapping writes have ended.
    pub(super) async fn come(&mut self) {
        for mut running in self.earlier.drain(..) {
            // No value is ever sent: `changed` fails when the sender is dropped.
            while running.changed().await.is_ok() {}
        }
    }
}
