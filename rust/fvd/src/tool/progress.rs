//! How far a long job is, and whether to go on: told and asked on the caller's thread while other
//! threads work.

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

/// Runs `work` on this thread, and asks between its steps, a few times a second at most, whether to go on. After a
/// [`ControlFlow::Break`] it is dropped.
///
/// # Errors
///
/// That of `work`; [`ErrorKind::Cancelled`] after a Break.
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

/// How much there is to do, as far as it has been counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total {
    /// As [`Progress::total`].
    pub(super) bytes: Option<u64>,
    /// Nothing is left to count.
    pub(super) is_final: bool,
}

/// Shared by the threads of one job.
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

    /// Reports once; a Break becomes the failure of the job. A process that the callback has forked has no
    /// part in the job: what it says there counts for nothing.
    pub(super) fn report(&self, callback: &mut Callback<'_>, total: Option<u64>) {
        let progress = Progress {
            done: self.done(),
            total: total.map(|total| total.max(self.done())),
        };
        if callback(progress).is_break() && self.process.is_current() {
            self.fail(Error::new(ErrorKind::Cancelled, "Cancelled"));
        }
    }

    /// Runs `work` on `workers` threads until all have ended, and reports meanwhile. `count` counts
    /// a part of what there is to do; it is called until it says that it has counted everything.
    ///
    /// In a process that the callback has forked it ends at once: no worker is there.
    ///
    /// # Panics
    ///
    /// If a worker does.
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
            // Dropped with the worker, however it ends.
            let _sender = lock(&senders).pop();
            work();
        };
        beside(workers, &work, || self.watch(&receiver, callback, count));
    }

    /// Reports until the last sender of `workers` is gone.
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
