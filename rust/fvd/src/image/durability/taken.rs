//! What a commit or a checkpoint makes durable, until it has succeeded.

use crate::image::durability::pending::Pending;
use crate::image::metadata::Metadata;
use crate::mutation::{self, Mutation};

/// The pending changes that a commit or a checkpoint took. They become pending again unless it succeeds.
pub(super) struct Taken<'a> {
    metadata: &'a Metadata,
    pending: Option<Pending>,
}

impl<'a> Taken<'a> {
    pub(super) fn new(metadata: &'a Metadata, pending: Pending) -> Self {
        Self {
            metadata,
            pending: Some(pending),
        }
    }

    /// Whether storage chunks were freed.
    pub(super) fn has_freed(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| !pending.freed().is_empty())
    }

    /// Everything that was taken is durable, and nothing on disk refers to the freed storage chunks any more.
    pub(super) fn done(mut self) {
        let freed = self.pending.take().map(|mut pending| pending.take_freed());
        if let Some(freed) = freed.filter(|freed| !freed.is_empty()) {
            self.metadata.volatile().pool.add_unreferenced(freed);
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.pending.take().filter(|_| !mutation::is(Mutation::ForgetRestore)) {
            self.metadata.volatile().pending.restore(pending);
        }
    }
}
