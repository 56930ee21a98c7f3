//! A base that can be written to.

use bytes::Bytes;

use super::BoxFuture;
use crate::error::Result;
use crate::storage::Space;

/// Writes to a [`BaseSource`](super::BaseSource) that was opened for writing. It must have no other user
/// meanwhile.
///
/// The contract is that of [`Storage`](crate::storage::Storage): no short writes, any alignment, each sector
/// of 512 bytes is written as a whole or not at all. A write is durable after a [`WritableBase::sync`] that
/// began after the write ended.
pub trait WritableBase: Send + Sync {
    /// Announces writes up to the byte `size` (a multiple of 512). Call this before the first write: a disk
    /// that ends within its last sector is extended to the whole sector, so that no write moves its end. A
    /// [`WritableBase::sync`] must succeed before the first write: until then, a power cut may bring the old
    /// end back and tear that sector.
    ///
    /// # Errors
    ///
    /// If whole sectors are missing: the disk was longer when the image was made.
    fn prepare(&self, size: u64) -> BoxFuture<'_, Result<()>>;

    /// Writes `buf` at `offset` (bytes).
    fn write(&self, buf: Bytes, offset: u64) -> BoxFuture<'_, Result<()>>;

    /// Makes `len` bytes from `offset` read as zeros. `space` says what happens to their space.
    fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> BoxFuture<'_, Result<()>>;

    /// Makes all earlier writes durable.
    ///
    /// # Errors
    ///
    /// After [`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace), nothing is lost and the caller may try again.
    /// After any other error, it is unknown what the disk holds.
    fn sync(&self) -> BoxFuture<'_, Result<()>>;

    /// Makes the writes of earlier sessions durable. Drops cached data that the disk did not get: from then
    /// on a read returns what the disk has. Call this before the first read of a session, if the session
    /// before was not closed.
    fn sync_leftovers(&self) -> BoxFuture<'_, Result<()>>;

    /// As [`WritableBase::sync`]. Also marks the disk as closed, if its format can do that. It can be used
    /// again.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}
