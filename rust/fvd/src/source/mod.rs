//! Where base data comes from: disks of any format, and which of them can be written to.

mod detect;
mod layer;
mod parts;
pub mod qcow2;
mod raw;
mod seen;
mod threaded;
mod timed;
mod watched;
mod writable;

use std::path::{Path, PathBuf};

pub(crate) use detect::{NamedBy, readable};
pub use detect::{PROBE_LEN, foreign, probe, probe_file};
pub use layer::Layer;
pub(crate) use layer::deep;
pub(crate) use parts::{Part, parts};
pub use qcow2::{Header as Qcow2Header, Qcow2Options, Qcow2Source};
pub use raw::RawSource;
pub(crate) use seen::Seen;
pub use threaded::ThreadedSource;
pub use timed::TimedSource;
pub use watched::{Watch, WatchedSource};
pub use writable::WritableBase;

pub use crate::host::BoxFuture;

use crate::error::Result;
use crate::storage::{Allocation, IoBufMut};

/// Most files of a chain, data files included.
pub(crate) const MAX_CHAIN_LEN: usize = 200;

/// What a range of a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// May hold anything.
    Data,
    /// Reads as zeros, known without reading it.
    Zero,
}

impl From<Allocation> for Content {
    fn from(allocation: Allocation) -> Self {
        match allocation {
            Allocation::Data => Self::Data,
            Allocation::Hole => Self::Zero,
        }
    }
}

/// Where the bytes of a run lie, as they are, in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub path: PathBuf,
    /// Bytes from its start.
    pub offset: u64,
}

/// What a range of a disk holds, and which layer of its backing chain has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it holds.
    pub content: Content,
    /// Length in bytes, at least 1.
    pub len: u64,
    /// The layer it comes from: 0 the disk itself, 1 its base, and so on.
    pub depth: u32,
    /// Whether a layer holds it; false where it was never written anywhere.
    pub present: bool,
    /// Where its bytes lie; None where that cannot be said (compressed, not allocated).
    pub location: Option<Location>,
    /// Whether it is stored compressed.
    pub compressed: bool,
}

impl Run {
    /// `len` bytes that no layer holds.
    #[must_use]
    pub fn zeros(len: u64) -> Self {
        Self {
            content: Content::Zero,
            len,
            depth: 0,
            present: false,
            location: None,
            compressed: false,
        }
    }
}

/// Whether all bytes are 0.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Every byte equals its neighbour: memcmp does that with the widest registers there are.
    bytes
        .first()
        .is_none_or(|&first| first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

/// A disk that is read: the base of an image, or what a conversion reads.
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

    /// What the bytes from `offset` hold, and for how many bytes (1..=`len`) that stays the same.
    /// At or beyond the end: zeros. `len` is not 0.
    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>>;

    /// The same disk, to be written to; None unless it was opened for that.
    fn writable(&self) -> Option<&dyn WritableBase> {
        None
    }
}
