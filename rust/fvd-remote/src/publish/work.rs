//! Work on several threads, while this one shows the progress.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fvd::tool::{Callback, Progress};
use fvd::{Error, ErrorKind, Result};

/// Time between two calls of the callback.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);
/// Threads that read and hash.
const WORKERS: usize = 4;

/// Bytes that were read and written so far.
pub(crate) struct Meter {
    done: AtomicU64,
    total: u64,
}

/// What one call does: how far it is, and who wants to know.
pub(crate) struct Job<'a, 'b> {
    pub(crate) meter: &'a Meter,
    progress: &'a mut Callback<'b>,
}

impl Meter {
    /// For an object of `len` bytes, which is read and, unless `is_in_place`, written.
    pub(super) fn new(len: u64, is_in_place: bool) -> Self {
        let total = if is_in_place { len } else { len.saturating_mul(2) };
        Self {
            done: AtomicU64::new(0),
            total,
        }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl<'a, 'b> Job<'a, 'b> {
    pub(super) fn new(meter: &'a Meter, progress: &'a mut Callback<'b>) -> Self {
        Self { meter, progress }
    }

    /// Shows how far it is. Fails if the callback wants it to.
    pub(crate) fn report(&mut self) -> Result<()> {
        let total = self.meter.total;
        let report = Progress {
            done: self.meter.done.load(Ordering::Relaxed).min(total),
            total: Some(total),
        };
        if (self.progress)(report).is_break() {
            return Err(Error::new(ErrorKind::Cancelled, "Cancelled"));
        }
        Ok(())
    }

    /// Waits for what `ended` brings, and shows meanwhile how far it is.
    pub(crate) fn wait<T>(&mut self, ended: &Receiver<T>) -> Result<T> {
        loop {
            match ended.recv_timeout(INTERVAL) {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Timeout) => self.report()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Io, "The request was given up before its end"));
                }
            }
        }
    }

    pub(super) fn finish(&mut self) {
        self.meter.done.store(self.meter.total, Ordering::Relaxed);
        // It is done, whatever the callback says.
        _ = self.report();
    }
}

/// Runs `work` for parts of `all`, each of `step`, until all are done or one fails.
pub(crate) fn each(
    all: Range<u64>,
    step: u64,
    job: &mut Job<'_, '_>,
    work: &(dyn Fn(Range<u64>) -> Result<()> + Sync),
) -> Result<()> {
    let next = AtomicU64::new(all.start);
    let is_stopped = AtomicBool::new(false);
    let failed = Mutex::new(None);
    let fail = |error| {
        failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        is_stopped.store(true, Ordering::Relaxed);
    };
    let run = || {
        while !is_stopped.load(Ordering::Relaxed) {
            let start = next.fetch_add(step, Ordering::Relaxed);
            if start >= all.end {
                break;
            }
            if let Err(error) = work(start..(start + step).min(all.end)) {
                fail(error);
            }
        }
    };
    thread::scope(|scope| {
        let (sender, ended) = channel::<()>();
        for _ in 0..WORKERS {
            let (sender, run) = (sender.clone(), &run);
            scope.spawn(move || {
                run();
                // `ended` is disconnected when all have dropped theirs.
                drop(sender);
            });
        }
        drop(sender);
        while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            if let Err(error) = job.report() {
                fail(error);
            }
        }
    });
    failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}
