//! A thread with an `io_uring` of its own, for one file.
//!
//! The thread that submits is the one that reaps: the kernel hands completions to the submitter,
//! which would have to be woken for that anyway. Whoever has an operation leaves it in a queue and
//! rings the bell if the thread sleeps; under load it does not, and takes what has come in one go.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_lock::RwLockReadGuardArc;

use super::handoff::{Completer, Handoff, handoff};
use super::process::Process;
use crate::error::{Error, Result};
use crate::sys::uring::{Bell, Operation, Uring, is_temporary};

/// How long to wait where the kernel is short of memory for operations.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(1);

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
    completer: Completer<Outcome>,
    guard: Guard,
}

impl Tag {
    fn end(self, result: Result<Outcome>) {
        drop(self.guard);
        self.completer.complete(result);
    }
}

/// The way to the thread, which ends when this is dropped, after what it has to do.
#[derive(Debug)]
pub(crate) struct Ring {
    shared: Arc<Shared>,
    process: Process,
}

struct Shared {
    state: Mutex<State>,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Operation, Tag)>,
    /// The thread has looked at the queue and will not again before the bell rings.
    is_asleep: bool,
    is_closing: bool,
    /// There is no ring, or none any more.
    is_refused: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting", self.lock().queue.len())
    }
}

impl Ring {
    /// Starts the thread. Whether it gets a ring shows with the first operation.
    pub(crate) fn start<F: AsFd + Send + 'static>(file: F) -> io::Result<Self> {
        let bell = Arc::new(Bell::new()?);
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            bell: Arc::clone(&bell),
        });
        let thread = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name("fvd-uring".to_owned());
        builder.spawn(move || thread.serve(Uring::new(file, bell)))?;
        let process = Process::current();
        Ok(Self { shared, process })
    }

    /// A ring that the system has refused.
    #[cfg(test)]
    pub(crate) fn refused() -> Self {
        let bell = Arc::new(Bell::new().expect("an eventfd"));
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            bell,
        });
        shared.serve::<std::fs::File>(Err(io::Error::from_raw_os_error(libc::EPERM)));
        let process = Process::current();
        Self { shared, process }
    }

    /// Begins an operation. `guard` is dropped when it has ended.
    ///
    /// # Errors
    ///
    /// In a forked child.
    pub(crate) fn submit(&self, operation: Operation, guard: Guard) -> Result<Handoff<Outcome>> {
        self.process.check()?;
        let (handoff, completer) = handoff();
        let tag = Tag { completer, guard };
        let mut state = self.shared.lock();
        if state.is_refused {
            drop(state);
            tag.end(Ok(Outcome::Refused(operation)));
            return Ok(handoff);
        }
        state.queue.push_back((operation, tag));
        let is_asleep = std::mem::take(&mut state.is_asleep);
        drop(state);
        if is_asleep {
            self.shared.bell.ring();
        }
        Ok(handoff)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // A child shares the bell with its parent, and may find the lock held by nobody.
        if self.process.is_current() {
            self.shared.lock().is_closing = true;
            self.shared.bell.ring();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve<F: AsFd>(&self, ring: io::Result<Uring<F, Tag>>) {
        // Also after a panic: nobody waits for a thread that is gone.
        let _refusal = Refusal(self);
        let Ok(mut ring) = ring else { return };
        while self.take_over(&mut ring) {
            match ring.wait() {
                Ok(()) => {}
                Err(error) if is_temporary(&error) => std::thread::sleep(SHORT_OF_MEMORY),
                Err(_) => break,
            }
            ring.reap(end);
        }
    }

    /// Gives the ring what it has room for. False when there is no more to come.
    fn take_over<F: AsFd>(&self, ring: &mut Uring<F, Tag>) -> bool {
        let mut state = self.lock();
        let count = ring.room().min(state.queue.len());
        for (operation, tag) in state.queue.drain(..count) {
            ring.push(operation, tag);
        }
        state.is_asleep = true;
        !(state.is_closing && ring.is_idle() && state.queue.is_empty())
    }

    fn refuse(&self) {
        let mut state = self.lock();
        state.is_refused = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for (operation, tag) in queue {
            tag.end(Ok(Outcome::Refused(operation)));
        }
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
    tag.end(match result {
        Ok(count) => Ok(Outcome::Done(operation, count)),
        Err(error) if is_refusal(&operation, &error) => Ok(Outcome::Refused(operation)),
        Err(error) => Err(Error::io(verb(&operation), error)),
    });
}

/// Whether a thread may do better. A sync that has done anything is never tried again: its error
/// would be gone the second time.
fn is_refusal(operation: &Operation, error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(libc::EINTR | libc::ENOSYS) => true,
        Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ECANCELED | libc::ENOMEM) => {
            !matches!(operation, Operation::SyncData)
        }
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
        let (reader, writer): (PipeReader, _) = pipe().expect("a pipe");
        (Ring::start(reader).expect("a thread"), writer)
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
        drop(ring.submit(operation, guard).expect("not forked"));
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
    fn another_process_is_refused() {
        let (mut ring, _writer) = on_pipe();
        ring.process = Process::of_init();
        ring.submit(read(8), None).expect_err("it belongs to init");
    }

    #[test]
    fn a_sync_is_never_tried_again_behind_an_error() {
        for errno in [libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::ENOMEM, libc::ECANCELED] {
            let error = io::Error::from_raw_os_error(errno);
            assert!(!is_refusal(&Operation::SyncData, &error), "{error}");
        }
        assert!(is_refusal(&read(8), &io::Error::from_raw_os_error(libc::EAGAIN)));
        assert!(!is_refusal(&read(8), &io::Error::from_raw_os_error(libc::EIO)));
    }
}
