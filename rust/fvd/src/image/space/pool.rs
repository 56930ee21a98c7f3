//! The pool: which storage chunks are reserved, and which can be handed out.
//!
//! A reservation lasts until its virtual chunk is published. That also happens when the write fails.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::format::{StorageChunk, VirtualChunk};
use crate::image::space::chunk_set::ChunkSet;
use crate::image::space::epochs::Epochs;
use crate::image::space::reuse::Reuse;

pub(in crate::image) struct ChunkPool {
    /// Virtual chunk to storage chunk, for chunks whose entry is not in the table yet.
    reserved: BTreeMap<VirtualChunk, StorageChunk>,
    /// None until the table has been scanned.
    frontier: Option<Frontier>,
    /// Storage chunks below the frontier that were freed: some are free now, the others will be.
    freed: Reuse,
    /// Requests that may know where a virtual chunk lies.
    epochs: Arc<Epochs>,
}

/// Where the storage chunks in use end.
#[derive(Clone, Copy)]
pub(super) struct Frontier {
    /// The storage chunk to hand out next if no freed one can be used.
    pub(super) next: StorageChunk,
    /// Length of the data file, bytes.
    pub(super) file_len: u64,
}

impl ChunkPool {
    pub(in crate::image) fn new(epochs: Arc<Epochs>) -> Self {
        Self {
            reserved: BTreeMap::new(),
            frontier: None,
            freed: Reuse::default(),
            epochs,
        }
    }

    /// Drops the reservation of `chunk`, whose entry is in the table now.
    pub(in crate::image) fn published(&mut self, chunk: VirtualChunk) {
        self.reserved.remove(&chunk);
    }

    /// The storage chunk that is reserved for `chunk`.
    pub(super) fn reserved(&self, chunk: VirtualChunk) -> Option<StorageChunk> {
        self.reserved.get(&chunk).copied()
    }

    /// Whether `storage` is reserved for `chunk`.
    pub(in crate::image) fn has_reserved(&self, chunk: VirtualChunk, storage: StorageChunk) -> bool {
        self.reserved(chunk) == Some(storage)
    }

    /// The virtual chunks of the range that have a reservation.
    pub(super) fn reserved_in(&self, chunks: &Range<VirtualChunk>) -> Vec<VirtualChunk> {
        self.reserved.range(chunks.clone()).map(|(chunk, _)| *chunk).collect()
    }

    /// Takes storage chunks that nothing on disk refers to any more. They become free when the requests in
    /// flight have ended.
    pub(in crate::image) fn add_unreferenced(&mut self, chunks: ChunkSet) {
        self.freed.add_unreferenced(chunks);
        self.freed.collect(&self.epochs);
    }

    /// Whether a freed storage chunk can be handed out now. None: not yet, but one will be free when requests
    /// in flight have ended.
    pub(super) fn has_free(&mut self) -> Option<bool> {
        self.freed.collect(&self.epochs);
        match self.freed.first_free() {
            Some(_) => Some(true),
            None if self.freed.is_waiting() => None,
            None => Some(false),
        }
    }

    /// Whether the storage chunks in use are known.
    pub(super) fn is_ready(&self) -> bool {
        self.frontier.is_some()
    }

    /// From now on the storage chunks in use are known: all below the frontier but those of `gaps`.
    pub(super) fn start(&mut self, frontier: Frontier, gaps: ChunkSet) {
        self.freed.add_free(gaps);
        self.frontier = Some(frontier);
    }

    /// One more than the highest number that has been in use; 0 before the table has been scanned.
    pub(super) fn end(&self) -> u64 {
        self.frontier.map_or(0, |frontier| frontier.next.index())
    }

    /// The frontier, and the lowest storage chunk that is free.
    pub(super) fn candidates(&mut self) -> (Option<Frontier>, Option<StorageChunk>) {
        (self.frontier, self.freed.first_free())
    }

    /// Reserves the storage chunk at the frontier for `chunk`, unless a freed one is to be used first, or there
    /// is no room for it.
    pub(super) fn reserve_at_frontier(
        &mut self,
        chunk: VirtualChunk,
        has_room: impl FnOnce(&Frontier) -> bool,
    ) -> Option<StorageChunk> {
        self.freed.collect(&self.epochs);
        let has_freed = self.freed.first_free().is_some();
        let frontier = self.frontier.as_mut().filter(|_| !has_freed)?;
        if !has_room(frontier) {
            return None;
        }
        let storage = frontier.next;
        frontier.next = storage.next();
        self.reserved.insert(chunk, storage);
        Some(storage)
    }

    /// Reserves `storage`, which was free or lies at the frontier, for `chunk`.
    pub(super) fn reserve(&mut self, chunk: VirtualChunk, storage: StorageChunk) {
        self.freed.take(storage);
        self.reserved.insert(chunk, storage);
        if let Some(frontier) = &mut self.frontier {
            frontier.next = frontier.next.max(storage.next());
        }
    }

    /// `storage` is not handed out any more: it lies beyond the end of the device.
    pub(super) fn forget(&mut self, storage: StorageChunk) {
        self.freed.take(storage);
    }

    /// Records that the data file has been extended to this length, bytes.
    pub(super) fn set_file_len(&mut self, file_len: u64) {
        if let Some(frontier) = &mut self.frontier {
            frontier.file_len = file_len;
        }
    }
}
