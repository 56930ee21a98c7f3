//! A thread with an `io_uring` of its own, for one file.
//!
//! The thread that submits is the one that reaps: the kernel hands completions to the submitter,
//! which would have to be woken for that anyway. Whoever has an operation leaves it in a queue and
//! rings the event_fd if the thread sleeps; under load it does not, and takes what has come in one go.
//! The thread and its ring are made when there is work, and end when there has been none for long.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_lock::RwLockReadGuardArc;

use super::oneshot::{Recall, Receiver, Sender, oneshot};
use super::queue::Queue;
use crate::error::{Error, Result};
use crate::process::Process;
use crate::sys::uring::{EventFd, Operation, Uring, is_temporary, is_timeout};

/// How long to wait where the kernel is short of memory for operations.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(1);

/// How long a ring without work stays.
const IDLE: Duration = Duration::from_secs(5);

/// How long a refusal counts. The system may have been short of threads or memory.
const RETRY: Duration = Duration::from_secs(10);

/// How an operation has ended, if it did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// That many bytes were moved.
    Done(Operation, usize),
    /// The ring cannot do it: it is to be done on a thread. Nothing was moved.
    Refused(Operation),
}

/// Held until the kernel is done, whoever waits for it.
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

/// Opens what the ring is for once more: each ring has its own.
type Open = Box<dyn Fn() -> Box<dyn AsFd + Send> + Send + Sync>;

/// The way to the thread, which ends when this is dropped, after what it has to do.
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
    /// That of the thread, if there is one.
    event_fd: Option<Arc<EventFd>>,
    /// The thread has emptied the queue and will not look again before the event_fd rings.
    is_asleep: bool,
    is_closing: bool,
    /// When there was last no ring to be had.
    refused: Option<Instant>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting", self.shared.lock().queue.len())
    }
}

impl Ring {
    /// `open` gives the file.
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

    /// Whether to try another way first.
    pub(crate) fn is_refused(&self) -> bool {
        self.shared.lock().is_refused()
    }

    /// Begins an operation. `guard` is dropped when it has ended. A sync or a write whose receiver is
    /// dropped has to be made to go on ([`Receiver::unfinished`]), or may never be begun.
    ///
    /// # Errors
    ///
    /// In a forked child.
    pub(crate) fn submit(&self, operation: Operation, guard: Guard) -> Result<Receiver<Outcome>> {
        self.process.check()?;
        let (receiver, sender) = oneshot();
        let tag = Tag { sender, guard };
        let mut state = self.shared.lock();
        if state.event_fd.is_none() && !state.is_refused() {
            match self.start() {
                Ok(event_fd) => state.event_fd = Some(event_fd),
                Err(_) => state.refused = Some(Instant::now()),
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

    /// Starts the thread. Whether it gets a ring shows with the first operation.
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
        // A child shares the event_fd with its parent, and may find the lock held by nobody.
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
        // Also after a panic: nobody waits for a thread that is gone.
        let refusal = Refusal(self);
        let Ok(mut ring) = ring else { return };
        let mut is_idle = false;
        while self.take_over(&mut ring, is_idle) {
            is_idle = false;
            match ring.wait(self.idle_time) {
                Ok(()) => {}
                Err(error) if is_timeout(&error) => is_idle = true,
                Err(error) if is_temporary(&error) => std::thread::sleep(SHORT_OF_MEMORY),
                Err(_) => return,
            }
            ring.reap(end);
        }
        std::mem::forget(refusal);
    }

    /// Gives the ring what it has room for. False when there is no more to come, or has not been
    /// for long: whoever comes then starts another thread.
    fn take_over<F: AsFd>(&self, ring: &mut Uring<F, Tag>, is_idle: bool) -> bool {
        let mut state = self.lock();
        while ring.room() > 0
            && let Some((operation, tag)) = state.queue.pop()
        {
            ring.push(operation, tag);
        }
        // What had no room is looked at when something has ended: no event_fd is needed for that.
        state.is_asleep = state.queue.is_empty();
        if ring.is_idle() && (is_idle || state.is_closing) {
            state.event_fd = None;
            return false;
        }
        true
    }

    fn refuse(&self) {
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
        // Without the lock: what it owns may take others.
        drop(operation);
    }
}

/// Refuses what comes when there is no ring any more.
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
    // Not before: to drop buffers may take a lock that is held by somebody who waits for this end.
    drop(operation);
}

/// Whether a thread may do better: the operation was not begun. A sync that has done anything is
/// never tried again: its error would be gone the second time. ECANCELED is what the kernel says
/// when it has no thread for it; what is synced here has no such error of its own.
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

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Write as _, pipe};
    use std::ptr::NonNull;
    use std::sync::Weak;

    use async_lock::RwLock;
    use bytes::Bytes;
    use pollster::block_on;

    use super::*;
    use crate::sys::buffer::IoBufMut;
    use crate::sys::uring::DEPTH;

    /// A ring on a pipe, whose reads end when the test wants them to.
    fn on_pipe() -> (Ring, PipeWriter) {
        on_pipe_for(IDLE)
    }

    fn on_pipe_for(idle_time: Duration) -> (Ring, PipeWriter) {
        let (reader, writer): (PipeReader, _) = pipe().expect("a pipe");
        let open = move || reader.try_clone().expect("duplicated");
        (Ring::with_idle_time(open, idle_time), writer)
    }

    fn read(len: usize) -> Operation {
        let buf = IoBufMut::zeroed(len);
        Operation::Read {
            buf,
            filled: 0,
            offset: 0,
        }
    }

    /// A read into memory that can be watched.
    #[expect(unsafe_code, reason = "only memory from outside has an owner to watch")]
    fn watched_read() -> (Operation, Weak<Vec<u8>>) {
        let mut memory = vec![0; 512];
        let start = NonNull::new(memory.as_mut_ptr()).expect("512 bytes");
        let owner = Arc::new(memory);
        let watch = Arc::downgrade(&owner);
        // SAFETY: the owner keeps the memory, and nobody else looks at it.
        let buf = unsafe { IoBufMut::from_raw(start, 512, Some(owner)) };
        let read = Operation::Read {
            buf,
            filled: 0,
            offset: 0,
        };
        (read, watch)
    }

    fn wait_until(what: impl Fn() -> bool) {
        while !what() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_buffer_belongs_to_the_operation_until_its_end_whoever_waits() {
        let (ring, mut writer) = on_pipe();
        let (operation, memory) = watched_read();
        let lock = Arc::new(RwLock::new(()));
        let guard = lock.try_read_arc();
        let receiver = ring.submit(operation, guard).expect("not forked");
        wait_until(|| ring.shared.lock().queue.is_empty());
        drop(receiver);
        drop(ring);
        std::thread::sleep(Duration::from_millis(30));
        assert!(memory.strong_count() > 0 && lock.try_write().is_none());
        writer.write_all(&[1; 512]).expect("somebody reads");
        wait_until(|| memory.strong_count() == 0);
        wait_until(|| lock.try_write().is_some());
    }

    #[test]
    fn more_operations_than_the_ring_has_room_for_wait_their_turn() {
        let (ring, mut writer) = on_pipe();
        let reads: Vec<_> = (0..3 * DEPTH)
            .map(|_| ring.submit(read(8), None).expect("not forked"))
            .collect();
        for _ in 0..reads.len() {
            writer.write_all(&[7; 8]).expect("somebody reads");
        }
        for read in reads {
            let outcome = block_on(read).expect("no failure");
            assert!(
                matches!(outcome, Outcome::Done(Operation::Read { .. }, 8)),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn errors_are_told_and_the_ring_goes_on() {
        let (ring, mut writer) = on_pipe();
        let write = Operation::Write {
            bufs: vec![Bytes::from_static(&[1; 8])],
            offset: 0,
        };
        let error = block_on(ring.submit(write, None).expect("not forked")).expect_err("the end that reads");
        assert_eq!((error.op(), error.errno()), (Some("write"), Some(libc::EBADF)));
        writer.write_all(&[7; 8]).expect("somebody reads");
        block_on(ring.submit(read(8), None).expect("not forked")).expect("no failure");
    }

    #[test]
    fn what_a_refused_ring_was_given_comes_back() {
        let outcome = block_on(Ring::refused().submit(read(8), None).expect("not forked")).expect("no failure");
        assert!(
            matches!(outcome, Outcome::Refused(Operation::Read { .. })),
            "{outcome:?}"
        );
    }

    #[test]
    fn what_has_no_room_and_is_given_up_is_never_begun() {
        let (ring, mut writer) = on_pipe();
        let mut reads: Vec<_> = (0..DEPTH)
            .map(|_| ring.submit(read(8), None).expect("not forked"))
            .collect();
        wait_until(|| ring.shared.lock().queue.is_empty());
        let (operation, memory) = watched_read();
        drop(ring.submit(operation, None).expect("not forked"));
        assert_eq!(memory.strong_count(), 0);
        reads.push(ring.submit(read(8), None).expect("not forked"));
        std::thread::sleep(Duration::from_millis(20));
        assert!(
            !ring.shared.lock().is_asleep,
            "nobody needs to wake it for what has no room"
        );
        for _ in 0..reads.len() {
            writer.write_all(&[7; 8]).expect("somebody reads");
        }
        for read in reads {
            block_on(read).expect("no failure");
        }
    }

    #[test]
    fn a_ring_without_work_ends_and_another_one_starts() {
        let (ring, mut writer) = on_pipe_for(Duration::from_millis(1));
        for _ in 0..3 {
            writer.write_all(&[7; 8]).expect("room");
            block_on(ring.submit(read(8), None).expect("not forked")).expect("no failure");
            wait_until(|| ring.shared.lock().event_fd.is_none());
        }
    }

    #[test]
    fn a_refusal_is_not_for_ever() {
        let (ring, mut writer) = on_pipe();
        ring.shared.refuse();
        assert!(ring.is_refused());
        ring.shared.lock().refused = Instant::now().checked_sub(RETRY);
        writer.write_all(&[7; 8]).expect("room");
        let outcome = block_on(ring.submit(read(8), None).expect("not forked")).expect("no failure");
        assert!(matches!(outcome, Outcome::Done(_, 8)), "{outcome:?}");
    }

    #[test]
    fn another_process_is_refused() {
        let (mut ring, _writer) = on_pipe();
        ring.process = Process::other();
        ring.submit(read(8), None).expect_err("it belongs to another");
    }

    #[test]
    fn a_sync_is_never_tried_again_behind_an_error() {
        for errno in [libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::ENOMEM] {
            let error = io::Error::from_raw_os_error(errno);
            assert!(!is_refusal(&Operation::SyncData, &error), "{error}");
        }
        let no_thread = io::Error::from_raw_os_error(libc::ECANCELED);
        assert!(is_refusal(&Operation::SyncData, &no_thread), "it was not begun");
        assert!(is_refusal(&read(8), &io::Error::from_raw_os_error(libc::EAGAIN)));
        assert!(!is_refusal(&read(8), &io::Error::from_raw_os_error(libc::EIO)));
    }
}
