//! Units of objects in memory: who waits for which, what is kept, what is fetched ahead (R3, R4).

mod admission;
mod cached;
mod flight;
mod link;
mod memory;
mod open;
mod read;
mod scattered;
mod streams;
mod template;
mod wanted;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fvd::{Error, Result};
use tokio::sync::oneshot::Receiver;
use tokio::task::AbortHandle;

pub use admission::{AHEAD, REQUESTS};
pub use link::Link;
pub(crate) use memory::Memory;
pub(crate) use open::{Opening, linger};
pub use streams::Streams;
pub(crate) use template::Sidecars;

use crate::cache::{Cached, Lead};
use crate::fetch::{Source, UNIT, fetch};
use crate::transport::io_thread;
use cached::fill;
use flight::Flight;
use wanted::Piece;

/// An open object, shared by all files of this process that have it open.
pub(crate) struct Units {
    id: u64,
    memory: Arc<Memory>,
    source: Arc<dyn Source>,
    /// Length of the object in bytes.
    len: u64,
    /// The object in the host cache, if there is one.
    cached: Option<Arc<Cached>>,
    streams: Mutex<Streams>,
    /// Fetches in flight, by their number: they end with the object.
    fetches: Arc<Mutex<HashMap<u64, AbortHandle>>>,
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

fn next_number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

impl Units {
    /// An object that no cache has.
    pub(crate) fn new(memory: &Arc<Memory>, source: Arc<dyn Source>) -> Self {
        Self::with_cache(memory, source, None, Vec::new())
    }

    /// `leads`: units of the answer that has begun. No other process fetches them.
    fn with_cache(memory: &Arc<Memory>, source: Arc<dyn Source>, cached: Option<Cached>, leads: Vec<Lead>) -> Self {
        let units = Self {
            id: next_number(),
            memory: Arc::clone(memory),
            len: source.pin().len,
            source,
            cached: cached.map(Arc::new),
            streams: Mutex::default(),
            fetches: Arc::default(),
        };
        let begun = units.source.begun();
        if begun > 0 {
            let covered = 0..begun.div_ceil(UNIT);
            units.launch(memory.begin(units.id, units.len, covered), Some(leads));
        }
        units
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// Units that are in memory now.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> Vec<(u64, bytes::Bytes)> {
        self.memory.kept(self.id)
    }

    /// Begins these fetches. The answer of the first has begun already, if it has leads.
    fn launch(&self, flights: Vec<Flight>, mut begun: Option<Vec<Lead>>) {
        for flight in flights {
            let source = Arc::clone(&self.source);
            let begun = begun.take();
            let cached = self.cached.clone();
            let failing = flight.handle();
            let task = async move {
                let result = match &cached {
                    Some(cached) => fill(&*source, cached, &flight, begun).await,
                    None => fetch(&*source, &flight).await,
                };
                flight.end(&result.unwrap_or(Ok(())));
            };
            self.begin(task, |error| failing.fail(error));
        }
    }

    /// Runs a fetch, which ends with the object. `fail`: it cannot begin.
    fn begin(&self, fetch: impl Future<Output = ()> + Send + 'static, fail: impl FnOnce(&Error)) {
        let number = next_number();
        let fetches = Arc::clone(&self.fetches);
        let task = async move {
            fetch.await;
            fetches.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        };
        // Locked until the handle is in the list, so that the task finds it there at its end.
        let mut running = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        match io_thread::spawn(task) {
            Ok(handle) => drop(running.insert(number, handle)),
            Err(error) => fail(&error),
        }
    }

    /// Begins to fetch `bytes` without what lies around them. None: their units are there, or coming.
    fn scatter(&self, bytes: &Range<u64>) -> Option<Receiver<Result<Piece>>> {
        let (flight, receiver) = self.memory.scatter(self.id, self.len, bytes)?;
        let source = Arc::clone(&self.source);
        let flight = Arc::new(flight);
        let failing = Arc::clone(&flight);
        let task = async move {
            let result = fetch(&*source, &*flight).await;
            flight.end(&result.unwrap_or(Ok(())));
        };
        self.begin(task, |error| failing.fail(error));
        Some(receiver)
    }

    /// Units that a reader of `range` will probably want next.
    fn ahead(&self, range: &Range<u64>) -> Range<u64> {
        let window = self.source.store().tuning.window;
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = streams.read(range, window);
        let mut ahead = ahead.start.div_ceil(UNIT)..ahead.end.min(self.len()).div_ceil(UNIT);
        // What the host cache has need not be fetched.
        if let Some(cached) = &self.cached {
            while !ahead.is_empty() && cached.is_known(ahead.start) {
                ahead.start += 1;
            }
        }
        self.without_zeros(ahead)
    }

    /// The first of these units that are not known to be zeros, up to the next zeros.
    fn without_zeros(&self, mut units: Range<u64>) -> Range<u64> {
        if units.is_empty() {
            return units;
        }
        let (mut is_zero, mut next) = self.source.zeros(units.start);
        if is_zero {
            units.start = next.min(units.end);
            if units.is_empty() {
                return units;
            }
            (is_zero, next) = self.source.zeros(units.start);
        }
        debug_assert!(!is_zero, "runs of zeros do not touch");
        units.end = units.end.min(next);
        units
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        let fetches = std::mem::take(&mut *self.fetches.lock().unwrap_or_else(PoisonError::into_inner));
        fetches.values().for_each(AbortHandle::abort);
        self.memory.forget(self.id);
        if let Some(cached) = &self.cached {
            cached.settle();
        }
        self.source.settle();
    }
}

/// The units that have bytes of `range`.
fn units(range: &Range<u64>) -> Range<u64> {
    range.start / UNIT..range.end.div_ceil(UNIT)
}
