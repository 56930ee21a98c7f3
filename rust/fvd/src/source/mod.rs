//! Where base data comes from: read-only disks of any format.

mod detect;
mod qcow2;
mod qcow2_header;
mod raw;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

pub use detect::probe;
pub use qcow2::{Qcow2Options, Qcow2Source};
pub use raw::RawSource;

use crate::error::Result;
use crate::storage::IoBufMut;

/// A boxed future: sources are chosen at run time, so their methods must be object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a range of a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// May hold anything.
    Data,
    /// Reads as zeros, known without reading it.
    Zero,
}

/// A disk that is only read: the base of an image, or what a conversion reads.
pub trait BaseSource: Send + Sync {
    /// Name of the file, for messages.
    fn path(&self) -> &Path;

    /// Format name as users give it: `raw`, `qcow2`, `fvd`.
    fn format(&self) -> &'static str;

    /// Length of the disk in bytes; need not be a multiple of 512.
    fn len(&self) -> u64;

    /// True for a disk of length 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset` (bytes, any alignment) and gives it back. What lies at or beyond
    /// [`BaseSource::len`] reads as zeros.
    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>>;

    /// Content of the bytes from `offset`, and for how many bytes (1..=`len`) it stays the same.
    /// At or beyond the end: zeros. `len` is not 0.
    fn content(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<(Content, u64)>>;
}
