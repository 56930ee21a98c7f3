//! One `io_uring`, used by the thread that made it, for one file.
//!
//! **Ownership.** What the kernel may access (buffers, their descriptions, the file) belongs to the ring from
//! [`Uring::push`] until the completion has been seen. A ring that is dropped waits for what is in flight;
//! if that is impossible it leaks it.

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

/// Operations that can be in flight at once: with the event_fd, as many as the submission queue has
/// room for, and half of what the completion queue has: neither can overflow.
pub(crate) const DEPTH: usize = 127;

/// The completion of the event_fd.
const BELL: u64 = u64::MAX;

/// Most bytes of one operation; a longer one ends short.
const MAX_LEN: usize = 1 << 30;

/// What the kernel is asked to do, with the memory that it needs for that. Offsets are bytes.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Fills `buf` behind its first `filled` bytes, from `offset`, where the buffer as a whole begins.
    Read { buf: IoBufMut, filled: usize, offset: u64 },
    /// Writes `bufs`, one behind the other.
    Write { bufs: Vec<Bytes>, offset: u64 },
    /// `fdatasync`.
    SyncData,
}

/// Wakes a thread that waits in [`Uring::wait`].
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // Blocking: io_uring waits for an eventfd only then.
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    pub(crate) fn wake(&self) {
        // Fails only if nobody has listened 2^64 times.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// An operation that the kernel has.
struct InFlight<T> {
    operation: Operation,
    tag: T,
    /// The pieces of a write as the kernel reads them.
    pieces: Vec<libc::iovec>,
}

/// See the module.
pub(crate) struct Uring<F: AsFd, T> {
    /// Before the ring, which keeps the file open as long as any process has the ring.
    _descriptor: Registration,
    ring: IoUring,
    event_fd: Arc<EventFd>,
    /// What the kernel reads from the event_fd.
    rings: Box<u64>,
    is_listening: bool,
    slots: Vec<Option<InFlight<T>>>,
    free: Vec<usize>,
    /// Registered: the ring knows it as number 0.
    _file: F,
}

/// Whether `io_uring` can be used here, with all that is needed of it.
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

/// Completions are handled when the thread asks for them, not by interrupting it (since 6.1). Forked
/// children do not have the memory of the ring, which would keep the ring and its file alive.
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
            rings: Box::new(0),
            is_listening: false,
            slots: (0..DEPTH).map(|_| None).collect(),
            free: (0..DEPTH).rev().collect(),
            _file: file,
        })
    }

    /// Operations that can be pushed now.
    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    /// True if the kernel has nothing.
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
        // SAFETY: the entry refers to memory that `slots` or `rings` own until the completion has been
        // seen (see the module), and to the file or the event_fd, which live as long as the ring.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("the queue has an entry for each slot and one for the event_fd");
    }

    /// Submits what was pushed, and waits until an operation has ended or the event_fd has rung. If the
    /// kernel has nothing to do, no longer than `idle_time` (since 5.11).
    ///
    /// # Errors
    ///
    /// EAGAIN or EBUSY if the kernel is short of memory, to be tried again later; ETIME when the time
    /// is over.
    pub(crate) fn wait(&mut self, idle_time: Duration) -> io::Result<()> {
        if !self.is_listening {
            let fd: RawFd = self.event_fd.0.as_raw_fd();
            let target = (&raw mut *self.rings).cast();
            self.enqueue(&opcode::Read::new(Fd(fd), target, 8).build().user_data(BELL));
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

    /// Gives back the operations that have ended, with the bytes they moved.
    pub(crate) fn reap(&mut self, mut done: impl FnMut(Operation, T, io::Result<usize>)) {
        let Self { ring, slots, free, .. } = self;
        for entry in ring.completion() {
            if entry.user_data() == BELL {
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

    /// Waits for everything in flight, the event_fd included; what it was for is not told.
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
            // The kernel may still use the memory. Who waits is told: the tags are dropped.
            for lost in self.slots.drain(..).flatten() {
                mem::forget((lost.operation, lost.pieces));
            }
            mem::forget(mem::take(&mut self.rings));
            return;
        }
        // The kernel would keep the file open for some time after the ring is closed.
        let _ = self.ring.submitter().unregister_files();
    }
}

/// Whether there was nothing to wait for.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ETIME)
}

/// Whether to try it again.
pub(crate) fn is_temporary(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// The description of `operation`, which is valid as long as the operation and `pieces` are.
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
