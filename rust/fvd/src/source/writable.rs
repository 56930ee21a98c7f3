//! A base that is written to.

use bytes::Bytes;

use super::BoxFuture;
use crate::error::Result;
use crate::storage::Space;

/// What a [`BaseSource`](super::BaseSource) that was opened for writing can do besides. Nobody else uses the disk meanwhile.
///
/// The contract is that of [`Storage`](crate::storage::Storage): no short writes, any alignment, a
/// sector of 512 bytes is written whole or not at all, and what is written is durable after a
/// [`WritableBase::sync`] that began after it.
pub trait WritableBase: Send + Sync {
    /// Says that writes up to the byte `size` (a multiple of 512) will come. To be called before the
    /// first one: a disk that ends within its last sector gets all of it, so that no write moves its end. A
    /// [`WritableBase::sync`] has to succeed before the first write: until then a power cut may bring the old
    /// end back, which would tear that sector.
    ///
    /// Fails where whole sectors are missing: the disk was longer when the image was made.
    fn prepare(&self, size: u64) -> BoxFuture<'_, Result<()>>;

    /// Writes `buf` at `offset` (bytes).
    fn write(&self, buf: Bytes, offset: u64) -> BoxFuture<'_, Result<()>>;

    /// Makes `len` bytes from `offset` read as zeros; `space` says what becomes of their space.
    fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> BoxFuture<'_, Result<()>>;

    /// Makes everything durable that was written before.
    ///
    /// [`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace) means that nothing was lost and it can be
    /// tried again; after any other error nobody knows what the disk holds.
    fn sync(&self) -> BoxFuture<'_, Result<()>>;

    /// Makes durable what earlier sessions have written, and forgets what the disk did not get: a read gives what it
    /// has from then on. Before the first read of a session that follows one that was not closed.
    fn sync_leftovers(&self) -> BoxFuture<'_, Result<()>>;

    /// As [`WritableBase::sync`], and leaves the disk as one that was put away. It can be used again.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}
