//! One `io_uring`, used by the thread that made it, for one file.
//!
//! **Ownership (A1).** From [`Uring::push`] until the completion has been reaped, the ring owns what the
//! kernel may access: buffers, their iovecs, the file. A ring that is dropped waits for what is in flight. If
//! that fails, it leaks the memory.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use io_uring::types::{Fd, Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};

use super::buffer::IoBufMut;
use super::file::MAX_PIECES;
use super::fork::Registration;

/// The most operations in flight at once (A5). With the read of the eventfd they fill the submission queue,
/// and half of the completion queue, so neither can overflow.
pub(crate) const DEPTH: usize = 127;

/// User data of the completion of the read of the eventfd.
const EVENT_FD: u64 = u64::MAX;

/// The most bytes of one operation. A longer one ends short.
const MAX_LEN: usize = 1 << 30;

/// An operation for the kernel, with the memory that it needs. Offsets are in bytes.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Fills `buf` after its first `filled` bytes. `offset` is where byte 0 of the buffer lies in the file.
    Read { buf: IoBufMut, filled: usize, offset: u64 },
    /// Writes `bufs`, one after the other.
    Write { bufs: Vec<Bytes>, offset: u64 },
    /// `fdatasync`.
    SyncData,
}

/// Wakes a thread that waits in [`Uring::wait`].
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // Blocking: otherwise io_uring does not wait for an eventfd.
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    pub(crate) fn wake(&self) {
        // Fails only after 2^64 wake-ups without a read.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// An operation in flight.
struct InFlight<T> {
    operation: Operation,
    tag: T,
    /// The iovecs of a write, which the kernel reads.
    pieces: Vec<libc::iovec>,
}

/// See the module.
pub(crate) struct Uring<F: AsFd, T> {
    /// Before the ring, so that it is dropped first. The ring keeps the file open as long as any process has
    /// the ring.
    _descriptor: Registration,
    ring: IoUring,
    event_fd: Arc<EventFd>,
    /// Where the kernel stores what it reads from the eventfd.
    eventfd_value: Box<u64>,
    is_listening: bool,
    slots: Vec<Option<InFlight<T>>>,
    free: Vec<usize>,
    /// Registered with the ring under index 0.
    _file: F,
}

/// Whether `io_uring` can be used here, with every opcode that this module needs.
pub(crate) fn is_usable() -> io::Result<()> {
    let ring = make(4)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::Read::CODE,
        opcode::Writev::CODE,
        opcode::Write::CODE,
        opcode::Fsync::CODE,
    ];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }
}

/// Completions are processed when the thread asks for them, without interrupts (since 6.1). Forked children
/// do not get the memory of the ring, which would keep the ring and its file open.
fn make(entries: u32) -> io::Result<IoUring> {
    let modern = IoUring::builder()
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries);
    modern.or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => IoUring::builder().dontfork().build(entries),
        _ => Err(error),
    })
}

impl<F: AsFd, T> Uring<F, T> {
    pub(crate) fn new(file: F, event_fd: Arc<EventFd>) -> io::Result<Self> {
        let ring = make(DEPTH as u32 + 1)?;
        ring.submitter().register_files(&[file.as_fd().as_raw_fd()])?;
        Ok(Self {
            _descriptor: Registration::of(ring.as_raw_fd()),
            ring,
            event_fd,
            eventfd_value: Box::new(0),
            is_listening: false,
            slots: (0..DEPTH).map(|_| None).collect(),
            free: (0..DEPTH).rev().collect(),
            _file: file,
        })
    }

    /// How many operations can be pushed now.
    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    /// True if nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.room() == DEPTH
    }

    /// Puts an operation in the queue that [`Uring::wait`] submits. There must be room.
    pub(crate) fn push(&mut self, mut operation: Operation, tag: T) {
        let slot = self.free.pop().expect("the caller has asked for room");
        let mut pieces = Vec::new();
        let entry = entry(&mut operation, &mut pieces);
        // Moving the operation moves neither the memory of its buffers nor that of `pieces`.
        self.slots[slot] = Some(InFlight { operation, tag, pieces });
        self.enqueue(&entry.user_data(slot as u64));
    }

    fn enqueue(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry refers to memory that `slots` or `eventfd_value` own until the completion has
        // been reaped (see the module), and to the file or the eventfd, which live as long as the ring.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the queue has an entry for each slot and one for the event_fd");
    }

    /// Submits what was pushed. Then waits until an operation has ended or the eventfd is signalled. If
    /// nothing is in flight, waits for `idle_time` at most (since 5.11).
    ///
    /// # Errors
    ///
    /// EAGAIN or EBUSY if the kernel is short of memory: try again later. ETIME after `idle_time`.
    pub(crate) fn submit_and_wait(&mut self, idle_time: Duration) -> io::Result<()> {
        if !self.is_listening {
            let fd: RawFd = self.event_fd.0.as_raw_fd();
            let target = (&raw mut *self.eventfd_value).cast();
            self.enqueue(&opcode::Read::new(Fd(fd), target, 8).build().user_data(EVENT_FD));
            self.is_listening = true;
        }
        let waited = if self.is_idle() && self.ring.params().is_feature_ext_arg() {
            let limit = Timespec::from(idle_time);
            self.ring
                .submitter()
                .submit_with_args(1, &SubmitArgs::new().timespec(&limit))
        } else {
            self.ring.submit_and_wait(1)
        };
        match waited {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Passes each operation that has ended to `done`, with the number of bytes transferred.
    pub(crate) fn reap(&mut self, mut done: impl FnMut(Operation, T, io::Result<usize>)) {
        let Self { ring, slots, free, .. } = self;
        for entry in ring.completion() {
            if entry.user_data() == EVENT_FD {
                self.is_listening = false;
                continue;
            }
            let slot = entry.user_data() as usize;
            let ended = slots[slot].take().expect("an operation ends once");
            free.push(slot);
            let count = entry.result();
            let result = usize::try_from(count).map_err(|_| io::Error::from_raw_os_error(-count));
            done(ended.operation, ended.tag, result);
        }
    }

    /// Waits for everything in flight, and for the read of the eventfd. Drops the results.
    fn drain(&mut self) -> io::Result<()> {
        while !self.is_idle() || self.is_listening {
            self.event_fd.wake();
            match self.ring.submit_and_wait(1) {
                Err(error) if !is_temporary(&error) => return Err(error),
                _ => self.reap(|_, _, _| ()),
            }
        }
        Ok(())
    }
}

impl<F: AsFd, T> Drop for Uring<F, T> {
    fn drop(&mut self) {
        if self.drain().is_err() {
            // The kernel may still use the memory, so leak it. The tags are dropped, which tells the waiting
            // tasks.
            for lost in self.slots.drain(..).flatten() {
                mem::forget((lost.operation, lost.pieces));
            }
            mem::forget(mem::take(&mut self.eventfd_value));
            return;
        }
        // Otherwise the kernel keeps the file open for some time after the ring is closed.
        let _ = self.ring.submitter().unregister_files();
    }
}

/// Whether the time ran out with nothing in flight.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ETIME)
}

/// Whether to try again.
pub(crate) fn is_temporary(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// The submission queue entry for `operation`. Valid as long as the operation and `pieces` live.
fn entry(operation: &mut Operation, pieces: &mut Vec<libc::iovec>) -> squeue::Entry {
    const FILE: Fixed = Fixed(0);
    match operation {
        Operation::Read { buf, filled, offset } => {
            let target = &mut buf.as_mut_slice()[*filled..];
            let len = target.len().min(MAX_LEN) as u32;
            let offset = *offset + *filled as u64;
            opcode::Read::new(FILE, target.as_mut_ptr(), len).offset(offset).build()
        }
        Operation::Write { bufs, offset } => {
            if let [buf] = bufs.as_slice() {
                let len = buf.len().min(MAX_LEN) as u32;
                return opcode::Write::new(FILE, buf.as_ptr(), len).offset(*offset).build();
            }
            pieces.extend(bufs.iter().take(MAX_PIECES).map(|buf| libc::iovec {
                // The kernel only reads it.
                iov_base: buf.as_ptr().cast_mut().cast(),
                iov_len: buf.len(),
            }));
            let count = pieces.len() as u32;
            opcode::Writev::new(FILE, pieces.as_ptr(), count)
                .offset(*offset)
                .build()
        }
        Operation::SyncData => opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build(),
    }
}
