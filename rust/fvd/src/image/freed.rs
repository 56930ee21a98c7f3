//! Storage chunks that were freed, on their way to be used again.
//!
//! Freed, a chunk is first *pending* (`pending`): on disk its old entry still counts. A checkpoint
//! clears the entry in place and erases the journal, which might bring it back; then it is
//! *unreferenced* here. Then the requests have to end that were under way, because they may have
//! looked up where it lay.

use super::chunk_set::ChunkSet;
use super::epochs::{Epoch, Epochs};

#[derive(Default)]
pub(super) struct Freed {
    /// Nothing on disk leads to them; a request may be about to read or write there.
    unreferenced: ChunkSet,
    /// As `unreferenced`; free when the requests of this epoch have ended.
    retired: Option<(Epoch, ChunkSet)>,
    /// To be used again.
    free: ChunkSet,
}

impl Freed {
    /// Nothing on disk leads to these any more.
    pub(super) fn add_unreferenced(&mut self, numbers: ChunkSet) {
        self.unreferenced.append(numbers);
    }

    /// No request and nothing on disk leads to these.
    pub(super) fn add_free(&mut self, numbers: ChunkSet) {
        self.free.append(numbers);
    }

    /// Looks whether requests have ended. Never waits: who frees a chunk is a request as well.
    pub(super) fn collect(&mut self, epochs: &Epochs) {
        // Twice: what has left makes way for those that come next.
        for _ in 0..2 {
            if let Some((_, numbers)) = self.retired.take_if(|(epoch, _)| epochs.has_drained(*epoch)) {
                self.free.append(numbers);
            }
            if self.retired.is_none() && !self.unreferenced.is_empty() {
                self.retired = Some((epochs.advance(), self.unreferenced.take()));
            }
        }
    }

    /// Whether some will be free when requests have ended.
    pub(super) fn is_waiting(&self) -> bool {
        self.retired.is_some() || !self.unreferenced.is_empty()
    }

    /// The lowest number to be used again.
    pub(super) fn first_free(&mut self) -> Option<u32> {
        self.free.first()
    }

    /// It is in use.
    pub(super) fn take(&mut self, number: u32) {
        self.free.remove(number);
    }
}
