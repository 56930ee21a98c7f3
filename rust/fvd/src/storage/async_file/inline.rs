//! What is tried on the caller's thread: what needs no waiting, or hardly ever does.
//!
//! Nothing here fails. What could not be done is left to the backend, which meets the same error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use bytes::Bytes;

use super::stalls::Stalls;
use crate::storage::file::FileStorage;
use crate::sys::buffer::IoBufMut;
use crate::sys::file::{MAX_PIECES, write_full, write_vectored_full};
use crate::sys::nowait::{FsKind, read_nowait, write_nowait};

/// Longest transfer that is tried where the kernel cannot be asked whether it would wait: to copy it
/// takes no longer than a few handoffs to another thread.
const TRIED_LEN: usize = 256 << 10;

/// Page of the cache: a write of whole ones has nothing to read.
const PAGE: u64 = 4096;

/// How writes to the page cache are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Writes {
    /// The kernel is asked.
    Ask,
    /// It cannot be asked; they are tried while that goes well.
    Try,
    /// Not at all.
    Never,
}

/// What one file has taught.
#[derive(Debug)]
pub(super) struct Inline {
    fs_kind: FsKind,
    /// Whether the kernel can be asked about reads.
    asks_reads: AtomicBool,
    /// [`Writes`].
    writes: AtomicU8,
    stalls: Stalls,
    /// How many operations are at work, or wait for a thread, that lock the file for others that
    /// write to it.
    busy: Arc<AtomicUsize>,
}

/// Held by one that does.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Inline {
    pub(super) fn of(file: &FileStorage) -> Self {
        // The node of a device lies on a file system, the device does not.
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

    /// Whether a question about the file is answered without waiting for anybody.
    pub(super) fn is_local(&self) -> bool {
        self.fs_kind != FsKind::Remote
    }

    /// Until it is dropped no write is merely tried.
    pub(super) fn busy(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::Acquire);
        Busy(Arc::clone(&self.busy))
    }

    /// The same, if there is no other: who waits for the file does so on one thread of the host.
    fn alone(&self) -> Option<Busy> {
        let alone = self.busy.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        alone.ok().map(|_| Busy(Arc::clone(&self.busy)))
    }

    /// Fills the front of `buf`, with zeros where the file has ended, and says how much of it.
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

    /// Writes the front of `bufs`, together `len` bytes, and says how much of it.
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

/// Goes on behind the first `filled` bytes, as far as that needs no waiting.
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
    fn no_write_is_tried_beside_one_that_may_hold_it_up() {
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
        let slow = inline.alone().expect("nobody else");
        assert!(std::thread::scope(|scope| scope
            .spawn(|| tried() == 0)
            .join()
            .expect("no panic")));
        drop(slow);
        // Another process may take the processor away, which looks like a stall.
        let is_done = |_: u8| {
            inline.stalls.forget();
            tried() == 4096
        };
        assert!((0..10).any(is_done));
    }
}
