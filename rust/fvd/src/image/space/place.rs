//! Place: where in the data file the bytes of a request go.

use crate::format::VirtualChunk;
use crate::image::metadata::publish::PendingChunks;
use crate::image::space::Allocator;
use crate::image::space::store_error::Stored;
use crate::storage::Storage;

/// Where a part of a request goes in the data file.
pub(in crate::image) struct Placement {
    /// Bytes from the start of the data file.
    pub(in crate::image) offset: u64,
    /// Bytes.
    pub(in crate::image) len: u64,
}

impl<S: Storage> Allocator<S> {
    /// The place of `offset..end` (bytes) in the data file, in as few pieces as possible.
    pub(in crate::image) async fn place(
        &self,
        offset: u64,
        end: u64,
        pending_chunks: &mut PendingChunks<'_>,
    ) -> Stored<Vec<Placement>> {
        let Some(table) = self.metadata.table() else {
            return Ok(vec![Placement {
                offset: self.metadata.geometry().data_offset + offset,
                len: end - offset,
            }]);
        };
        let mut places: Vec<Placement> = Vec::new();
        for chunk in VirtualChunk::each(&table.chunks_of(offset, end)) {
            let storage = match table.get(chunk)? {
                Some(storage) => storage,
                None => self.reserve(table, chunk).await?,
            };
            if !table.is_recorded(chunk) {
                pending_chunks.push(chunk, storage);
            }
            let chunk_start = chunk.start(table.chunk_size());
            let start = offset.max(chunk_start);
            let len = end.min(chunk_start.saturating_add(table.chunk_size())) - start;
            let at = self.metadata.chunk_offset(table, storage) + (start - chunk_start);
            match places.last_mut() {
                Some(last) if last.offset + last.len == at => last.len += len,
                _ => places.push(Placement { offset: at, len }),
            }
        }
        Ok(places)
    }
}
