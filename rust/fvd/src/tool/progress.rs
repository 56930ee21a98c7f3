//! How far a long job is, and whether to go on: told and asked on the caller's thread while other
//! threads work.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::lock;
use crate::error::{Error, ErrorKind, Result};

/// Time between two calls of the callback.
const INTERVAL: Duration = Duration::from_millis(200);

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes to do in all. While the allocated data is still being counted it is an upper bound,
    /// which only falls. None: nobody knows, the source is a pipe.
    pub total: Option<u64>,
}

/// The caller's callback: [`ControlFlow::Break`] cancels the job.
pub type Callback<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Shared by the threads of one job.
#[derive(Debug, Default)]
pub(super) struct Meter {
    done: AtomicU64,
    stop: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Meter {
    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Whether everybody is to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Remembers the first failure and stops everybody.
    pub(super) fn fail(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.stop();
    }

    /// The first failure, if there was one.
    pub(super) fn outcome(&self) -> Result<()> {
        lock(&self.error).take().map_or(Ok(()), Err)
    }

    /// Reports once; a Break becomes the failure of the job.
    pub(super) fn report(&self, callback: &mut Callback<'_>, total: Option<u64>) {
        let progress = Progress {
            done: self.done(),
            total: total.map(|total| total.max(self.done())),
        };
        if callback(progress).is_break() {
            self.fail(Error::new(ErrorKind::Cancelled, "Cancelled"));
        }
    }

    /// Reports until the last sender of `workers` is gone. `count` is called as long as it
    /// gives true: it counts a part of what there is to do, which `total` then has.
    pub(super) fn watch(
        &self,
        workers: &Receiver<()>,
        callback: &mut Callback<'_>,
        count: &mut dyn FnMut() -> bool,
        total: &dyn Fn() -> Option<u64>,
    ) {
        let mut next = Instant::now() + INTERVAL;
        let mut counting = true;
        loop {
            let now = Instant::now();
            if now >= next {
                if !self.is_stopped() {
                    self.report(callback, total());
                }
                next = Instant::now() + INTERVAL;
            }
            counting = counting && !self.is_stopped() && count();
            let wait = if counting {
                Duration::ZERO
            } else {
                next.saturating_duration_since(now)
            };
            if let Err(RecvTimeoutError::Disconnected) = workers.recv_timeout(wait) {
                return;
            }
        }
    }
}
