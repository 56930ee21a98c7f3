//! Sources of base data: disks of any format. Some can be written to.

mod absent;
mod delegate;
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

pub use absent::AbsentSource;
pub(crate) use detect::{NamedBy, readable};
pub use detect::{PROBE_LEN, foreign, probe, probe_file};
pub use layer::Layer;
pub(crate) use layer::deep;
pub(crate) use parts::{Part, parts};
pub use qcow2::{Header as Qcow2Header, Qcow2Options, Qcow2Source, RemoteQcow2};
pub use raw::RawSource;
pub(crate) use seen::Seen;
pub use threaded::ThreadedSource;
pub use timed::TimedSource;
pub use watched::{Watch, WatchedSource};
pub use writable::WritableBase;

pub use crate::host::BoxFuture;

use crate::error::Result;
use crate::remote::OutageState;
use crate::storage::{Allocation, IoBufMut};

/// The most files of a chain, data files included.
pub(crate) const MAX_CHAIN_LEN: usize = 200;

/// What a range of a source contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Any data.
    Data,
    /// Known zeros, without reading them.
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

/// Where a file has the bytes of a run, uncompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub path: PathBuf,
    /// Offset in the file, in bytes.
    pub offset: u64,
}

/// What a range of a disk contains, and which layer of its backing chain has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it contains.
    pub content: Content,
    /// Length in bytes, at least 1.
    pub len: u64,
    /// The layer that has it: 0 is the disk itself, 1 its base, and so on.
    pub depth: u32,
    /// Whether any layer has it. False where nothing was ever written.
    pub present: bool,
    /// Where its bytes are. None if there is no such place (compressed, not allocated).
    pub location: Option<Location>,
    /// Whether it is stored compressed.
    pub compressed: bool,
}

impl Run {
    /// `len` zero bytes that no layer has.
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
    // Compares every byte with its neighbour: memcmp uses the widest registers.
    bytes
        .first()
        .is_none_or(|&first| first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

/// A disk to read from: the base of an image, or the source of a conversion.
pub trait BaseSource: Send + Sync {
    /// Name of the file, for messages.
    fn path(&self) -> &Path;

    /// Format name as users write it: `raw`, `qcow2`, `fvd`.
    fn format(&self) -> &'static str;

    /// Length of the disk in bytes. It need not be a multiple of 512.
    fn len(&self) -> u64;

    /// True for a disk of length 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset` (bytes, any alignment) and returns it. What lies at or beyond
    /// [`BaseSource::len`] reads as zeros.
    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>>;

    /// What the bytes from `offset` contain, and for how many bytes (1..=`len`) that stays the same. `len`
    /// must not be 0. At or beyond the end: zeros.
    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>>;

    /// The same disk for writing. None unless it was opened for writing.
    fn writable(&self) -> Option<&dyn WritableBase> {
        None
    }

    /// The outage of a store that it or a layer below it lies in, while there is one. Never blocks.
    fn outage(&self) -> Option<OutageState> {
        None
    }
}
