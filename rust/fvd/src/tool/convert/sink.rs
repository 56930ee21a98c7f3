//! The target of a conversion, as the copy loop sees it.

use bytes::Bytes;

use crate::error::Result;

/// The target of a copy. Several threads use it at the same time.
pub(super) trait Sink: Sync {
    /// Writes `buf` at byte `offset`. May return `Ok` without having written everything once `stopped`.
    fn write(&self, buf: Bytes, offset: u64, stopped: &dyn Fn() -> bool) -> Result<()>;

    /// Makes `len` bytes from byte `offset` read as zeros.
    fn zero(&self, offset: u64, len: u64) -> Result<()>;

    /// Starts writeback of dirty pages, if the cache mode needs it. Called regularly while other threads
    /// write, so that the sync at the end is short.
    fn start_writeback(&self) {}
}
