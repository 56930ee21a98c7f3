//! Where a conversion writes.

use bytes::Bytes;

use crate::error::Result;

/// Where data goes. Used by several threads at once.
pub(super) trait Sink: Sync {
    /// Writes `buf` at `offset` (bytes). May give up without an error once `stopped`.
    fn write(&self, buf: Bytes, offset: u64, stopped: &dyn Fn() -> bool) -> Result<()>;

    /// Makes a range read as zeros.
    fn zero(&self, offset: u64, len: u64) -> Result<()>;

    /// Called now and then, beside writes: a sync at the end shall not have everything to do.
    fn start_writeback(&self) {}
}
