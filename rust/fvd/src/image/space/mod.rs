//! Space: which storage chunk a virtual chunk gets, when one can be used again, and the length of the data
//! file.

mod allocate;
pub(super) mod chunk_set;
pub(super) mod epochs;
mod extend;
mod free;
mod place;
pub(super) mod pool;
pub(super) mod reclaim;
mod reuse;
pub(super) mod store_error;
pub(super) mod surplus;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::image::durability::Committer;
use crate::image::files::Files;
use crate::image::inspect::stats::Counters;
use crate::image::metadata::Metadata;
use crate::image::range_lock::RangeLock;
use crate::storage::{Space, Storage};

use epochs::{Epochs, Pin};

/// Gives virtual chunks storage and takes it back. Without a table: only keeps the length of the data file.
pub(in crate::image) struct Allocator<S> {
    files: Arc<Files<S>>,
    metadata: Arc<Metadata>,
    committer: Arc<Committer<S>>,
    counters: Arc<Counters>,
    /// Requests that may know where a virtual chunk lies.
    epochs: Arc<Epochs>,
    /// Storage chunks can be freed, so lookups are pinned.
    frees: bool,
    /// Bytes by which the data file grows.
    grow_unit: u64,
    /// What becomes of the space of a storage chunk that is zeroed before it is handed out.
    zero_space: Space,
    /// Serialises what must not run twice at once: growing the file, and preparing the pool.
    growing: RangeLock<u64>,
    /// The data file has its full length. Always true for a compact image, which grows as it allocates.
    extended: AtomicBool,
    /// The data file ended within a sector: its new length must be synced before data is written.
    has_odd_end: AtomicBool,
}

/// What an [`Allocator`] relies on.
pub(in crate::image) struct Parts<S> {
    pub(in crate::image) files: Arc<Files<S>>,
    pub(in crate::image) metadata: Arc<Metadata>,
    pub(in crate::image) committer: Arc<Committer<S>>,
    pub(in crate::image) counters: Arc<Counters>,
    /// The epochs that the pool of `metadata` has.
    pub(in crate::image) epochs: Arc<Epochs>,
}

impl<S: Storage> Allocator<S> {
    /// `grow_unit`: bytes by which the data file grows. `zero_space`: what becomes of the space of zeros that the
    /// allocator writes.
    pub(in crate::image) fn new(parts: Parts<S>, writable: bool, grow_unit: u64, zero_space: Space) -> Self {
        let is_compact = parts.metadata.table().is_some();
        Self {
            files: parts.files,
            metadata: parts.metadata,
            committer: parts.committer,
            counters: parts.counters,
            epochs: parts.epochs,
            frees: writable && is_compact,
            grow_unit,
            zero_space,
            growing: RangeLock::default(),
            extended: AtomicBool::new(is_compact),
            has_odd_end: AtomicBool::new(false),
        }
    }

    fn data(&self) -> &S {
        self.files.data()
    }

    /// Keeps storage chunks from being used again while a request knows their numbers: pins the current epoch. A
    /// request holds the pin while it looks up storage chunks and then reads or writes there. None if chunks
    /// never move.
    pub(in crate::image) fn pin(&self) -> Option<Pin<'_>> {
        self.frees.then(|| self.epochs.pin())
    }
}
