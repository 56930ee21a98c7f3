//! Tries on the caller's thread what needs no waiting, or hardly ever does.
//!
//! Each function returns how many bytes were done, never an error. The rest goes to the I/O queue, which meets
//! the same error and reports it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use bytes::Bytes;

use super::stalls::Stalls;
use crate::storage::file::FileStorage;
use crate::sys::buffer::IoBufMut;
use crate::sys::file::{MAX_PIECES, write_full, write_vectored_full};
use crate::sys::nowait::{FsKind, read_nowait, write_nowait};

/// The longest transfer that is tried where the kernel cannot say whether it would wait. Copying this much
/// takes no longer than handing it to another thread a few times.
const TRIED_LEN: usize = 256 << 10;

/// Page size of the page cache. A write of whole pages reads nothing from disk.
const PAGE: u64 = 4096;

/// How writes to the page cache are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Writes {
    /// With `RWF_NOWAIT`: the kernel says whether it would wait.
    Ask,
    /// The kernel cannot say. Writes are tried as long as none is held up.
    Try,
    /// Not at all.
    Never,
}

/// What was learnt about one file.
#[derive(Debug)]
pub(super) struct Inline {
    fs_kind: FsKind,
    /// Whether the kernel supports `RWF_NOWAIT` for reads.
    asks_reads: AtomicBool,
    /// A [`Writes`].
    writes: AtomicU8,
    stalls: Stalls,
    /// How many operations are running, or wait for a thread, that lock the file against writers for long.
    busy: Arc<AtomicUsize>,
}

/// Counts one operation in `busy` until it is dropped.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Inline {
    pub(super) fn of(file: &FileStorage) -> Self {
        // For a device node, the file system of the node says nothing about the device.
        let fs_kind = if file.is_device() {
            FsKind::Local
        } else {
            FsKind::of(file.fd())
        };
        let writes = if fs_kind == FsKind::Memory {
            Writes::Try
        } else {
            Writes::Ask
        };
        Self {
            fs_kind,
            asks_reads: AtomicBool::new(fs_kind != FsKind::Memory),
            writes: AtomicU8::new(writes as u8),
            stalls: Stalls::default(),
            busy: Arc::default(),
        }
    }

    /// Whether no server is needed to answer a question about the file.
    pub(super) fn is_local(&self) -> bool {
        self.fs_kind != FsKind::Remote
    }

    /// Until this is dropped, no write is tried.
    pub(super) fn busy(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::Acquire);
        Busy(Arc::clone(&self.busy))
    }

    /// The same, if no other operation is counted. So at most one thread of the caller waits for the file.
    fn alone(&self) -> Option<Busy> {
        let alone = self.busy.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        alone.ok().map(|_| Busy(Arc::clone(&self.busy)))
    }

    /// Fills the front of `buf` and returns the number of bytes. After the end of the file it fills with
    /// zeros.
    #[inline]
    pub(super) fn read(&self, file: &FileStorage, buf: &mut IoBufMut, offset: u64) -> usize {
        if !self.asks_reads.load(Ordering::Relaxed) {
            return self.read_memory(file, buf, offset);
        }
        match read_nowait(file.fd(), buf, 0, offset) {
            Ok(count) if count == buf.len() => count,
            Ok(count) => read_on(file, buf, offset, count),
            Err(error) => {
                if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
                    self.asks_reads.store(false, Ordering::Relaxed);
                }
                0
            }
        }
    }

    #[cold]
    fn read_memory(&self, file: &FileStorage, buf: &mut IoBufMut, offset: u64) -> usize {
        let is_tried = self.fs_kind == FsKind::Memory && buf.len() <= TRIED_LEN;
        let is_done = is_tried && file.read_blocking(buf, offset).is_ok();
        if is_done { buf.len() } else { 0 }
    }

    /// Writes the front of `bufs`, which are `len` bytes together, and returns the number of bytes.
    #[inline]
    pub(super) fn write(&self, file: &FileStorage, bufs: &[Bytes], len: usize, offset: u64) -> usize {
        let writes = self.writes.load(Ordering::Relaxed);
        if bufs.len() > MAX_PIECES || writes == Writes::Never as u8 {
            return 0;
        }
        if writes == Writes::Ask as u8 {
            match write_nowait(file.fd(), bufs, offset) {
                Ok(count) => return count,
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.cannot_ask(),
                Err(_) => return 0,
            }
        }
        self.try_write(file, bufs, len, offset)
    }

    #[cold]
    fn cannot_ask(&self) {
        let writes = if self.is_local() { Writes::Try } else { Writes::Never };
        self.writes.store(writes as u8, Ordering::Relaxed);
    }

    fn try_write(&self, file: &FileStorage, bufs: &[Bytes], len: usize, offset: u64) -> usize {
        let whole_pages = offset.is_multiple_of(PAGE) && (len as u64).is_multiple_of(PAGE);
        let is_harmless = len <= TRIED_LEN && (whole_pages || self.fs_kind == FsKind::Memory);
        if !is_harmless || !self.is_local() {
            return 0;
        }
        let Some(_alone) = self.alone() else { return 0 };
        let result = self.stalls.watch(|| match bufs {
            [buf] => write_full(file.fd(), buf, offset),
            _ => write_vectored_full(file.fd(), bufs, offset),
        });
        match result {
            Some(Ok(())) => len,
            _ => 0,
        }
    }
}

/// Reads what follows the first `filled` bytes, as far as that needs no waiting.
#[cold]
fn read_on(file: &FileStorage, buf: &mut IoBufMut, offset: u64, mut filled: usize) -> usize {
    while filled < buf.len() {
        match read_nowait(file.fd(), buf, filled, offset + filled as u64) {
            Ok(0) => {
                buf.as_mut_slice()[filled..].fill(0);
                return buf.len();
            }
            Ok(count) => filled += count,
            Err(_) => break,
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_write_is_tried_while_another_may_hold_it_up() {
        let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        let file = FileStorage::create(&path, false).expect("a new file");
        let inline = Inline {
            fs_kind: FsKind::Local,
            writes: AtomicU8::new(Writes::Try as u8),
            ..Inline::of(&file)
        };
        let data = [Bytes::from_static(&[1; 4096])];
        let tried = || inline.write(&file, &data, 4096, 0);
        let on_a_thread = inline.busy();
        assert_eq!(tried(), 0);
        drop(on_a_thread);
        let slow = inline.alone().expect("no other write");
        assert!(std::thread::scope(|scope| scope
            .spawn(|| tried() == 0)
            .join()
            .expect("no panic")));
        drop(slow);
        // The disk may hold a write up.
        let is_done = |_: u8| {
            inline.stalls.forget();
            tried() == 4096
        };
        assert!((0..10).any(is_done));
    }
}
