//! Positional I/O on a file, a block device, memory or a simulated disk.

mod async_file;
mod byte_lock;
mod direct;
mod file;
mod lock;
mod medium;
mod memory;
mod open;
mod sparse;
mod zeroes;

use std::future::Future;
use std::path::Path;

use bytes::Bytes;

pub use crate::aio::Backend;
pub use crate::sys::buffer::IoBufMut;
pub use async_file::AsyncFile;
pub use byte_lock::ByteLock;
pub use file::FileStorage;
pub use lock::LockMode;
pub use memory::MemoryStorage;
pub use open::FileOptions;
pub use sparse::SparseBytes;

use crate::error::Result;
use crate::remote::OutageState;

/// Whether a range of a storage is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Data may have been written here.
    Data,
    /// Nothing was written: the range reads as zeros and takes no space.
    Hole,
}

/// What happens to the space of a range that is zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The space is freed, where the medium can free it.
    Free,
    /// Allocated parts keep their space, so a later write there does not fail with "no space". Holes may stay
    /// holes.
    Keep,
    /// All of the range is allocated afterwards, holes included.
    Allocate,
}

/// Positional I/O on one file or device, shared by any number of tasks.
///
/// Contract, for every implementation:
///
/// * An operation owns its buffers until it ends. A dropped future never frees memory that the kernel may
///   still write to. A write whose future is dropped reaches the medium before any later operation on the
///   same range, or never.
/// * There are no short reads and no short writes. A read at or beyond the end of a file gives zeros. A write
///   there extends the file. A block device does not grow: a write beyond its end fails with
///   [`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace).
/// * Any offset and any length are allowed, whatever the alignment of the medium. An empty buffer succeeds
///   without I/O.
/// * An aligned 512-byte sector is written as a whole or not at all, also at a power cut. Unsynced sectors
///   may reach the medium in any order.
/// * Operations on disjoint byte ranges do not affect one another. After overlapping writes in flight at
///   once, each sector holds the data of one of them.
/// * Errors carry [`Storage::path`] and the offset.
#[expect(clippy::len_without_is_empty, reason = "a disk is never empty")]
pub trait Storage: Send + Sync + 'static {
    /// Name of the file, for messages.
    fn path(&self) -> &Path;

    /// Fills `buf` from `offset` (bytes) and returns it.
    fn read(&self, buf: IoBufMut, offset: u64) -> impl Future<Output = Result<IoBufMut>> + Send;

    /// Writes `buf` at `offset` (bytes). It is durable only after a [`Storage::sync`] that started after this
    /// write completed.
    fn write(&self, buf: Bytes, offset: u64) -> impl Future<Output = Result<()>> + Send;

    /// Writes `bufs`, one after the other, from `offset` (bytes), with as few operations as possible. Not
    /// atomic as a whole.
    fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> impl Future<Output = Result<()>> + Send;

    /// Makes `len` bytes from `offset` read as zeros. `space` says what happens to their space. Does not
    /// extend a file: a read beyond its end gives zeros already.
    ///
    /// A block device does not tell holes from data: there, [`Space::Keep`] means [`Space::Allocate`].
    fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> impl Future<Output = Result<()>> + Send;

    /// Frees the space of `len` bytes from `offset`, where the medium can do so without writing zeros. Each
    /// sector then reads as zeros, or still as before. Not durable before the next [`Storage::sync`].
    fn discard(&self, offset: u64, len: u64) -> impl Future<Output = Result<()>> + Send {
        self.write_zeroes(offset, len, Space::Free)
    }

    /// Makes every completed write, zeroing and change of length durable.
    ///
    /// After a failure it is unknown what is durable, so the caller must learn of it. If the future is
    /// dropped before its end, the next sync reports the failure.
    fn sync(&self) -> impl Future<Output = Result<()>> + Send;

    /// Drops the cached pages of the first `len` bytes that are not waiting for writeback. From then on a
    /// read returns what the medium has.
    ///
    /// After a failed sync the kernel keeps the pages that it could not write, and marks them clean. Only
    /// this call brings out what the medium has instead. The cache may keep pages that another program uses
    /// at that moment. A medium without a cache has nothing to drop.
    fn drop_cached(&self, _len: u64) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Length in bytes.
    fn len(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Truncates or extends a file to `len` bytes. The extension reads as zeros. Fails with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a device.
    fn set_len(&self, len: u64) -> impl Future<Output = Result<()>> + Send;

    /// Whether [`Storage::set_len`] works: true for files, false for block devices.
    fn can_resize(&self) -> bool;

    /// Holes begin and end at multiples of this many bytes, as far as known: the block size of the file
    /// system, which is 128 KiB on some.
    fn hole_unit(&self) -> u64 {
        1
    }

    /// The outage of the store that it lies in, while there is one. Never blocks.
    fn outage(&self) -> Option<OutageState> {
        None
    }

    /// Allocation of the bytes from `offset`, and for how many bytes (1..=`len`) it stays the same. `len`
    /// must not be 0. At or beyond the end: a hole of `len` bytes. A medium that cannot tell answers
    /// [`Allocation::Data`].
    fn allocation(&self, offset: u64, len: u64) -> impl Future<Output = Result<(Allocation, u64)>> + Send;
}
