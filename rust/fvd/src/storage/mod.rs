//! Where bytes are kept: a file, a block device, memory, a simulated disk.

mod async_file;
mod direct;
mod file;
mod lock;
mod medium;
mod memory;
mod open;

use std::future::Future;
use std::path::Path;

use bytes::Bytes;

pub use crate::aio::Backend;
pub use crate::sys::buffer::IoBufMut;
pub use async_file::AsyncFile;
pub use file::FileStorage;
pub use lock::LockMode;
pub use memory::MemoryStorage;
pub use open::FileOptions;

use crate::error::Result;

/// Whether a range of a storage has storage behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Something may have been written here.
    Data,
    /// Nothing was: it reads as zeros, and takes no space.
    Hole,
}

/// What becomes of the space of a range that is zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// It is freed, where the medium can do that.
    Free,
    /// What has space keeps it, so that a later write there does not fail for want of space. Holes may stay holes.
    Keep,
    /// All of the range has space afterwards, holes included.
    Allocate,
}

/// Positional I/O on one file or device, shared by any number of tasks.
///
/// Contract, for every implementation:
///
/// * Buffers are owned by the operation until it ends. A dropped future never frees memory that
///   the kernel may still write to. What it was to write reaches the medium before anything that
///   is begun later on the same range, or never.
/// * There are no short reads and no short writes. What lies at or beyond the end of a file reads
///   as zeros; a write there extends the file. A block device does not grow: a write beyond its
///   end fails with [`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace).
/// * Any offset and any length are allowed, whatever the alignment of the medium; an empty
///   buffer succeeds without I/O.
/// * An aligned 512-byte sector is written whole or not at all, also at a power cut. Nothing is
///   promised about the order in which unsynced sectors reach the medium.
/// * Operations on disjoint byte ranges do not disturb one another. The outcome of overlapping
///   writes in flight at once is, sector by sector, one of them.
/// * Errors carry [`Storage::path`] and the offset.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a disk is empty")]
pub trait Storage: Send + Sync + 'static {
    /// Name of the file, for messages.
    fn path(&self) -> &Path;

    /// Fills `buf` from `offset` (bytes) and gives it back.
    fn read(&self, buf: IoBufMut, offset: u64) -> impl Future<Output = Result<IoBufMut>> + Send;

    /// Writes `buf` at `offset` (bytes). Durable only after a [`Storage::sync`] that started
    /// after this completed.
    fn write(&self, buf: Bytes, offset: u64) -> impl Future<Output = Result<()>> + Send;

    /// Writes `bufs`, one behind the other, at `offset` (bytes), with as few operations as
    /// possible. Not atomic as a whole.
    fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> impl Future<Output = Result<()>> + Send;

    /// Makes `len` bytes from `offset` read as zeros; `space` says what becomes of their space.
    /// Does not extend a file: what lies beyond its end reads as zeros already.
    ///
    /// A block device does not tell holes from data: [`Space::Keep`] is [`Space::Allocate`] there.
    fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> impl Future<Output = Result<()>> + Send;

    /// Frees the space of `len` bytes from `offset` where the medium can do that without writing zeros.
    /// Each sector reads as zeros or as it was from then on. Until a [`Storage::sync`] that is not durable.
    fn discard(&self, offset: u64, len: u64) -> impl Future<Output = Result<()>> + Send {
        self.write_zeroes(offset, len, Space::Free)
    }

    /// Makes every completed write, zeroing and change of length durable.
    ///
    /// After a failure nobody knows what is durable, and the caller must hear of it. If its future
    /// is dropped before it could, the failure is that of the next sync.
    fn sync(&self) -> impl Future<Output = Result<()>> + Send;

    /// Drops what a cache holds of the first `len` bytes and is not waiting to be written: from then on a read gives
    /// what the medium has.
    ///
    /// After a failed sync the kernel keeps what it could not write, as if it had been written. Only this
    /// brings out what the medium has instead. The cache may keep what another program uses at that moment.
    /// A medium without a cache has nothing to drop.
    fn drop_cached(&self, _len: u64) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Length in bytes.
    fn len(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Cuts or extends a file to `len` bytes; the extension reads as zeros.
    /// Fails with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a device.
    fn set_len(&self, len: u64) -> impl Future<Output = Result<()>> + Send;

    /// Whether [`Storage::set_len`] works: true for files, false for block devices.
    fn can_resize(&self) -> bool;

    /// Holes begin and end at multiples of so many bytes, as far as that is known: a block of the
    /// file system, which is 128 KiB on some.
    fn hole_unit(&self) -> u64 {
        1
    }

    /// Allocation of the bytes from `offset`, and for how many bytes (1..=`len`) it stays the
    /// same. At or beyond the end: a hole of `len` bytes. A medium that cannot tell says
    /// [`Allocation::Data`]. `len` is not 0.
    fn allocation(&self, offset: u64, len: u64) -> impl Future<Output = Result<(Allocation, u64)>> + Send;
}
