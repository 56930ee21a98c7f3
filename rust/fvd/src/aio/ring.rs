//! A thread with an `io_uring` of its own, for one file.
//!
//! The thread that submits also reaps: the kernel hands completions to the submitter, which would have to be
//! woken for them anyway. A caller pushes its operation to a queue, and signals the eventfd only if the
//! thread sleeps. Under load the thread does not sleep, and takes all queued operations at once. The thread
//! and its ring start when there is work, and end when there has been none for a long time.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_lock::RwLockReadGuardArc;
use tracing::debug;

use super::how;
use super::oneshot::{Recall, Receiver, Sender, oneshot};
use super::queue::Queue;
use crate::error::{Error, Result};
use crate::process::Process;
use crate::sys::uring::{EventFd, Operation, Uring, is_temporary, is_timeout};

#[cfg(test)]
mod tests;

/// How long to wait when the kernel has no memory for operations.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(1);

/// How long a ring without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// How long to remember that the system refused a ring. It may only have been short of threads or memory.
const RETRY: Duration = Duration::from_secs(10);

/// How an operation has ended, unless it failed.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The number of bytes that were transferred.
    Done(Operation, usize),
    /// The ring cannot do it, and transferred nothing: do it on a thread.
    Refused(Operation),
}

/// Held until the kernel has ended the operation, even if the receiver is dropped.
pub(crate) type Guard = Option<RwLockReadGuardArc<()>>;

struct Tag {
    sender: Sender<Outcome>,
    guard: Guard,
}

impl Tag {
    fn end(self, result: Result<Outcome>) {
        drop(self.guard);
        self.sender.complete(result);
    }
}

/// Duplicates the handle of the file: each ring owns one.
type Open = Box<dyn Fn() -> Box<dyn AsFd + Send> + Send + Sync>;

/// The handle of the ring's thread. After this is dropped, the thread runs the queued operations to their
/// end, and then ends.
pub(crate) struct Ring {
    shared: Arc<Shared>,
    open: Open,
    process: Process,
}

struct Shared {
    state: Mutex<State>,
    idle_time: Duration,
}

#[derive(Default)]
struct State {
    queue: Queue<(Operation, Tag)>,
    /// The eventfd of the thread, if there is one.
    event_fd: Option<Arc<EventFd>>,
    /// The thread has emptied the queue, and will not look at it again before the eventfd is signalled.
    is_asleep: bool,
    is_closing: bool,
    /// When the system last refused a ring.
    refused: Option<Instant>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting", self.shared.lock().queue.len())
    }
}

impl Ring {
    /// `open` returns a handle of the file, once for each ring.
    pub(crate) fn new<F: AsFd + Send + 'static>(open: impl Fn() -> F + Send + Sync + 'static) -> Self {
        Self::with_idle_time(open, IDLE)
    }

    fn with_idle_time<F: AsFd + Send + 'static>(
        open: impl Fn() -> F + Send + Sync + 'static,
        idle_time: Duration,
    ) -> Self {
        let state = Mutex::default();
        Self {
            shared: Arc::new(Shared { state, idle_time }),
            open: Box::new(move || Box::new(open())),
            process: Process::current(),
        }
    }

    /// A ring that the system has refused.
    #[cfg(test)]
    pub(crate) fn refused() -> Self {
        let ring = Self::new(io::stdin);
        ring.shared.refuse();
        ring
    }

    /// Whether the system refused a ring lately: try another way first.
    pub(crate) fn is_refused(&self) -> bool {
        self.shared.lock().is_refused()
    }

    /// Queues an operation. `guard` is dropped when the operation has ended. If the receiver of a sync or a
    /// write is dropped, detach the operation first ([`Receiver::unfinished`]): otherwise it may never begin.
    ///
    /// # Errors
    ///
    /// In a forked child.
    pub(crate) fn submit(&self, operation: Operation, guard: Guard) -> Result<Receiver<Outcome>> {
        self.process.check()?;
        how::to_ring();
        let (receiver, sender) = oneshot();
        let tag = Tag { sender, guard };
        let mut state = self.shared.lock();
        if state.event_fd.is_none() && !state.is_refused() {
            match self.start() {
                Ok(event_fd) => state.event_fd = Some(event_fd),
                Err(error) => {
                    debug!(%error, "a ring cannot be started: threads do its work for {RETRY:?}");
                    state.refused = Some(Instant::now());
                }
            }
        }
        let Some(event_fd) = state.event_fd.clone() else {
            drop(state);
            tag.end(Ok(Outcome::Refused(operation)));
            return Ok(receiver);
        };
        let ticket = state.queue.push((operation, tag));
        let is_asleep = std::mem::take(&mut state.is_asleep);
        drop(state);
        if is_asleep {
            event_fd.wake();
        }
        let shared = Arc::clone(&self.shared);
        Ok(receiver.waiting_in(shared, ticket))
    }

    /// Starts the thread. Whether the thread gets a ring shows with the first operation.
    fn start(&self) -> io::Result<Arc<EventFd>> {
        let event_fd = Arc::new(EventFd::new()?);
        let (shared, for_ring, file) = (Arc::clone(&self.shared), Arc::clone(&event_fd), (self.open)());
        let builder = std::thread::Builder::new().name("fvd-uring".to_owned());
        builder.spawn(move || shared.serve(Uring::new(file, for_ring)))?;
        Ok(event_fd)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // A child shares the eventfd with its parent, and the lock may have been held by a thread that the
        // child lacks.
        if self.process.is_current() {
            let mut state = self.shared.lock();
            state.is_closing = true;
            if let Some(event_fd) = &state.event_fd {
                event_fd.wake();
            }
        }
    }
}

impl State {
    fn is_refused(&self) -> bool {
        self.refused.is_some_and(|since| since.elapsed() < RETRY)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve<F: AsFd>(&self, ring: io::Result<Uring<F, Tag>>) {
        // Also after a panic: no caller may wait for a thread that has ended.
        let refusal = Refusal(self);
        let Ok(mut ring) = ring else { return };
        let mut is_idle = false;
        while self.take_over(&mut ring, is_idle) {
            is_idle = false;
            match ring.submit_and_wait(self.idle_time) {
                Ok(()) => {}
                Err(error) if is_timeout(&error) => is_idle = true,
                Err(error) if is_temporary(&error) => std::thread::sleep(SHORT_OF_MEMORY),
                Err(_) => return,
            }
            ring.reap(end);
        }
        std::mem::forget(refusal);
    }

    /// Pushes queued operations to the ring, as many as it has room for. False when the thread must end: the
    /// ring is closing, or was idle for a long time. The next caller then starts another thread.
    fn take_over<F: AsFd>(&self, ring: &mut Uring<F, Tag>, is_idle: bool) -> bool {
        let mut state = self.lock();
        while ring.room() > 0
            && let Some((operation, tag)) = state.queue.pop()
        {
            ring.push(operation, tag);
        }
        // If operations are left in the queue, the thread looks at them when another one has ended. That
        // needs no eventfd.
        state.is_asleep = state.queue.is_empty();
        if ring.is_idle() && (is_idle || state.is_closing) {
            state.event_fd = None;
            return false;
        }
        true
    }

    fn refuse(&self) {
        debug!("the system refuses a ring: threads do its work for {RETRY:?}");
        let mut state = self.lock();
        state.refused = Some(Instant::now());
        state.event_fd = None;
        let queue = state.queue.empty();
        drop(state);
        for (operation, tag) in queue {
            tag.end(Ok(Outcome::Refused(operation)));
        }
    }
}

impl Recall for Shared {
    fn recall(&self, ticket: u64) {
        let operation = self.lock().queue.take_back(ticket);
        // Dropped without the lock: dropping what it owns may take other locks.
        drop(operation);
    }
}

/// Refuses queued operations once there is no ring.
struct Refusal<'a>(&'a Shared);

impl Drop for Refusal<'_> {
    fn drop(&mut self) {
        self.0.refuse();
    }
}

fn end(operation: Operation, tag: Tag, result: io::Result<usize>) {
    let error = match result {
        Ok(count) => return tag.end(Ok(Outcome::Done(operation, count))),
        Err(error) if is_refusal(&operation, &error) => return tag.end(Ok(Outcome::Refused(operation))),
        Err(error) => error,
    };
    tag.end(Err(Error::io(verb(&operation), error)));
    // Not before: dropping a buffer may take a lock that another thread holds while it waits for this end.
    drop(operation);
}

/// Whether the operation did not begin, so a thread may try it. A sync that may have begun is never tried
/// again: its error would be gone the second time. ECANCELED means that the kernel has no thread for the
/// operation. On a local file system, the only kind that is synced in a ring, a sync itself does not end with
/// ECANCELED.
fn is_refusal(operation: &Operation, error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(libc::EINTR | libc::ENOSYS | libc::ECANCELED) => true,
        Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOMEM) => !matches!(operation, Operation::SyncData),
        _ => false,
    }
}

fn verb(operation: &Operation) -> &'static str {
    match operation {
        Operation::Read { .. } => "read",
        Operation::Write { .. } => "write",
        Operation::SyncData => "sync",
    }
}
