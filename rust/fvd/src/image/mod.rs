//! The engine: one file per operation.
//!
//! A request flows one way: look up (`metadata/lookup.rs` finds the extents that hold the range), I/O on the
//! storage or the base, then publish the metadata (`metadata/publish.rs`) and acknowledge. Metadata reaches the
//! disk only in a commit (a flush) and in a checkpoint (`durability/`). `docs/design/README.md` has the
//! invariants and the crash cases.

pub mod amend;
mod base_writeback;
pub mod check;
mod close;
mod create;
mod discard;
mod durability;
mod empty;
mod files;
mod flush;
mod inspect;
mod metadata;
mod open;
mod pin;
mod populate;
mod range_lock;
mod read;
mod source;
mod space;
#[cfg(test)]
pub(crate) mod testing;
mod unfinished;
mod write;
mod zero;

use std::sync::Arc;

pub use crate::format::CreateOptions;
pub use crate::image::durability::recover::{finish_change, read_head_to_write};
pub use crate::image::inspect::local::local_bytes;
pub use crate::image::inspect::stats::Stats;
pub use crate::image::inspect::totals::read_totals;
pub(crate) use crate::image::populate::fill::{BaseCopy, CopyData, Part};
pub(crate) use crate::image::range_lock::Watch;
pub(crate) use crate::image::space::store_error::StoreError;
pub use create::{create, create_unfinished};
pub use empty::empty;
pub use inspect::{dump, info};
pub use metadata::lookup::{Extent, Mapping};
pub use open::{CacheMode, DetectZeroes, Discard, Head, OpenOptions, read_head};
pub use populate::profile;
pub use unfinished::{begin, finish, read_unfinished_head, suspend};

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Block, Geometry, Header};
use crate::process::Process;
use crate::source::{BaseSource, Layer};
use crate::storage::Storage;

use base_writeback::BaseWriteback;
use durability::Committer;
use files::Files;
use inspect::stats::Counters;
use metadata::Metadata;
use populate::copy_on_read::CopyQueue;
use populate::inflight::InflightRequests;
use populate::profile::Recorder;
use range_lock::RangeLock;
use space::Allocator;

/// An open FVD image: a disk of [`Image::size`] bytes.
///
/// All methods take `&self` and may run at once, from any number of tasks. The contract is that of a disk
/// with a volatile write cache: what was acknowledged before a [`Image::flush`] that succeeded survives any
/// crash. A sector written since then holds its old or its new content (`docs/design/README.md`, C1 to C5).
///
/// An image belongs to the process that opened it. In a child that was forked since, every operation fails,
/// and [`Image::close`] does nothing (see [`process`](crate::process)).
pub struct Image<S> {
    /// The process that opened the image.
    process: Process,
    files: Arc<Files<S>>,
    header: Header,
    /// Where each byte is.
    metadata: Arc<Metadata>,
    /// Makes changes durable.
    committer: Arc<Committer<S>>,
    /// Gives chunks storage, and takes it back.
    allocator: Allocator<S>,
    /// None: no base, or every block is local.
    base: Option<Layer>,
    /// None: the base is only read, never written to.
    writeback: Option<BaseWriteback>,
    /// Blocks that a copy-on-write, or another copy, is filling.
    filling: RangeLock<Block>,
    /// Copies that readers have left to be stored.
    copies: CopyQueue,
    /// Records what the guest needs of the base, for a prefetch profile.
    recorder: Recorder,
    /// Requests in flight.
    inflight: InflightRequests,
    counters: Arc<Counters>,
    options: OpenOptions,
}

impl<S: Storage> Image<S> {
    /// Size of the virtual disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.geometry().virtual_size
    }

    /// Whether the image was opened for writing.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.options.writable
    }

    /// The header as read when the image was opened.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Offsets and sizes of the regions.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        self.metadata.geometry()
    }

    /// Whether writes also go to the base, at once or in the background.
    #[must_use]
    pub fn updates_base(&self) -> bool {
        self.writeback.is_some()
    }

    /// The base image; None if none is needed.
    #[must_use]
    pub fn base(&self) -> Option<&dyn BaseSource> {
        self.base.as_ref().map(|base| base as _)
    }

    /// The file with the metadata.
    pub fn file(&self) -> &S {
        self.files.file()
    }

    /// The file with the guest's data: the separate one, or the image itself.
    pub fn data(&self) -> &S {
        self.files.data()
    }

    /// Bytes of the disk that have a bit in the bitmap; 0 if nothing can come from a base.
    pub(crate) fn base_size(&self) -> u64 {
        self.metadata.base_size()
    }

    /// The end of `len` bytes at `offset`. Fails unless they lie within the disk.
    fn check_range(&self, offset: u64, len: u64) -> Result<u64> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size() => Ok(end),
            _ => Err(Error::invalid_argument(format!(
                "{len} bytes at offset {offset} lie beyond the end of the disk ({} bytes)",
                self.size()
            ))
            .with_path(self.file().path())),
        }
    }

    /// Fails in a process that was forked since the image was opened. Must be called before any lock is
    /// taken: a thread of the parent may have held it at the fork (F3).
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        self.process.check_for(self.file().path())
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_process()?;
        if !self.options.writable {
            let error = Error::new(ErrorKind::NotPermitted, "The image is open read-only");
            return Err(error.with_path(self.file().path()));
        }
        self.committer.check_poison()
    }
}
