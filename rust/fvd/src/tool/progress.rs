//! Progress and cancellation of long jobs. The callback runs on the caller's thread while worker threads do
//! the work.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::lock;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::sys::threads::beside;

/// Time between two calls of the callback.
const INTERVAL: Duration = Duration::from_millis(200);

/// The progress of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// The total number of bytes to do. An upper bound that only decreases, while the allocated data is still
    /// being counted. `None` if it is unknown: the source is a pipe, or the job is still creating its target.
    pub total: Option<u64>,
}

/// The progress callback. [`ControlFlow::Break`] cancels the job.
pub type Callback<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Polls `work` on this thread until it is ready, and calls `go_on` between polls, at most every 200 ms.
/// `work` is dropped if `go_on` returns [`ControlFlow::Break`].
///
/// # Errors
///
/// The error of `work`; [`ErrorKind::Cancelled`] after a Break.
pub fn drive<T>(work: impl Future<Output = Result<T>>, go_on: &mut dyn FnMut() -> ControlFlow<()>) -> Result<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    let mut next = Instant::now() + INTERVAL;
    loop {
        if let Poll::Ready(result) = work.as_mut().poll(&mut context) {
            return result;
        }
        thread::park_timeout(INTERVAL);
        if Instant::now() >= next {
            if go_on().is_break() {
                return Err(Error::new(ErrorKind::Cancelled, "Cancelled"));
            }
            next = Instant::now() + INTERVAL;
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The amount of work, as far as it has been counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total {
    /// See [`Progress::total`].
    pub(super) bytes: Option<u64>,
    /// Whether everything has been counted.
    pub(super) is_final: bool,
}

/// The progress, the stop flag and the first error of a job, shared by its threads.
#[derive(Debug, Default)]
pub(super) struct Meter {
    process: Process,
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

    /// Whether all threads must stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Stops all threads. The first error is kept for [`outcome`](Self::outcome).
    pub(super) fn fail(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.stop();
    }

    /// Waits for `read`, unless the job is stopped meanwhile: a disk that does not answer does not keep it.
    pub(super) fn wait<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        drive(read, &mut || {
            if self.is_stopped() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    /// The first error, if there was one.
    pub(super) fn outcome(&self) -> Result<()> {
        lock(&self.error).take().map_or(Ok(()), Err)
    }

    /// Calls the callback once. A Break fails the job with [`ErrorKind::Cancelled`]. If the callback forked,
    /// the result in the child process is ignored, because the child has no part in the job.
    pub(super) fn report(&self, callback: &mut Callback<'_>, total: Option<u64>) {
        let progress = Progress {
            done: self.done(),
            total: total.map(|total| total.max(self.done())),
        };
        if callback(progress).is_break() && self.process.is_current() {
            self.fail(Error::new(ErrorKind::Cancelled, "Cancelled"));
        }
    }

    /// Runs `work` on `workers` threads until all have ended, and calls the callback meanwhile. `count`
    /// counts a part of the work at each call; it is called until its result is final.
    ///
    /// In a child process that the callback forked it returns at once, because the workers do not exist
    /// there.
    ///
    /// # Panics
    ///
    /// If a worker panics.
    pub(super) fn run(
        &self,
        workers: usize,
        work: impl Fn() + Sync,
        callback: &mut Callback<'_>,
        count: &mut dyn FnMut() -> Total,
    ) {
        let (sender, receiver) = channel();
        let senders = Mutex::new(vec![sender; workers]);
        let work = || {
            // Dropped when the worker ends, also if it panics: this ends `watch`.
            let _sender = lock(&senders).pop();
            work();
        };
        beside(workers, &work, || self.watch(&receiver, callback, count));
    }

    /// Calls the callback every [`INTERVAL`] until the last sender of `workers` is dropped.
    fn watch(&self, workers: &Receiver<()>, callback: &mut Callback<'_>, count: &mut dyn FnMut() -> Total) {
        let mut next = Instant::now() + INTERVAL;
        let mut total = Total::default();
        loop {
            let now = Instant::now();
            if now >= next {
                if !self.is_stopped() {
                    self.report(callback, total.bytes);
                }
                if !self.process.is_current() {
                    return;
                }
                next = Instant::now() + INTERVAL;
            }
            let counting = !total.is_final && !self.is_stopped();
            if counting {
                total = count();
            }
            let wait = if counting && !total.is_final {
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
