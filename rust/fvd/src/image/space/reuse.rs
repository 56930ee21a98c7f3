//! Storage chunks that were freed, until they are used again (`docs/design/engine.md`, "Discard and space").
//!
//! A freed storage chunk is first *pending* (`pending`): on disk its old entry still counts. A checkpoint
//! clears the entry in place and erases the journal, which might bring the entry back. Then the storage chunk
//! is *unreferenced*, and this module has it. It is *retired* while requests that were in flight at that time
//! may have looked it up, and *free* when they have ended.
//!
//! `durability/taken.rs` brings storage chunks here after a checkpoint.

use crate::format::StorageChunk;
use crate::image::space::chunk_set::ChunkSet;
use crate::image::space::epochs::{Epoch, Epochs};

#[derive(Default)]
pub(in crate::image) struct Reuse {
    /// Nothing on disk refers to them; a request may be about to read or write there.
    unreferenced: ChunkSet,
    /// As `unreferenced`, but free as soon as the requests of this epoch have ended.
    retired: Option<(Epoch, ChunkSet)>,
    /// Can be handed out.
    free: ChunkSet,
}

impl Reuse {
    /// Takes storage chunks that nothing on disk refers to any more.
    pub(in crate::image) fn add_unreferenced(&mut self, chunks: ChunkSet) {
        self.unreferenced.append(chunks);
    }

    /// Takes storage chunks that no request and nothing on disk refers to.
    pub(in crate::image) fn add_free(&mut self, chunks: ChunkSet) {
        self.free.append(chunks);
    }

    /// Frees the storage chunks whose requests have ended. Never waits: the task that frees a chunk is itself
    /// a request.
    pub(in crate::image) fn collect(&mut self, epochs: &Epochs) {
        // Twice: when the retired ones become free, the next ones can be retired.
        for _ in 0..2 {
            if let Some((_, chunks)) = self.retired.take_if(|(epoch, _)| epochs.has_drained(*epoch)) {
                self.free.append(chunks);
            }
            if self.retired.is_none() && !self.unreferenced.is_empty() {
                self.retired = Some((epochs.advance(), self.unreferenced.take()));
            }
        }
    }

    /// Whether some storage chunks become free when requests end.
    pub(in crate::image) fn is_waiting(&self) -> bool {
        self.retired.is_some() || !self.unreferenced.is_empty()
    }

    /// The lowest free storage chunk.
    pub(in crate::image) fn first_free(&mut self) -> Option<StorageChunk> {
        self.free.first()
    }

    /// Removes a storage chunk that is in use now.
    pub(in crate::image) fn take(&mut self, storage: StorageChunk) {
        self.free.remove(storage);
    }
}
