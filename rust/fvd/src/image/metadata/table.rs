//! The table: where virtual chunks lie. An entry, once allocated, changes only when its chunk is freed.
//!
//! In memory, bit 31 of an entry says that the chunk is *unlogged*: a background copy has allocated it, and
//! nothing on disk says so. The bit is cleared when a guest write promotes the chunk, or when a checkpoint
//! records it.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::{Entry, Geometry, Region, StorageChunk, VirtualChunk};
use crate::image::metadata::region_cache::{PAGE_WORDS, RegionCache};
use crate::storage::Storage;

/// The flag of an unlogged entry. It never makes an entry look unallocated: no number that is handed out has
/// all other bits set.
const UNLOGGED: u32 = 0x8000_0000;

pub(in crate::image) struct Table {
    words: RegionCache,
    chunk_size: u64,
    chunks: u64,
    /// Storage chunks from this number on would lie beyond any possible file, or are beyond the format's
    /// limit.
    number_limit: u64,
}

impl Table {
    pub(in crate::image) fn new(region: Region, geometry: &Geometry) -> Self {
        let room = i64::MAX as u64 - geometry.data_offset;
        Self {
            words: RegionCache::new(region),
            chunk_size: geometry.chunk_size,
            chunks: geometry.chunks,
            number_limit: (room / geometry.chunk_size).min(StorageChunk::MAX.index() + 1),
        }
    }

    pub(in crate::image) fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// Number of entries in use.
    pub(in crate::image) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The chunk that holds byte `offset` of the disk.
    pub(in crate::image) fn chunk_at(&self, offset: u64) -> VirtualChunk {
        VirtualChunk::new(offset / self.chunk_size)
    }

    /// Chunks touched by the (non-empty) bytes `offset..end`.
    pub(in crate::image) fn chunks_of(&self, offset: u64, end: u64) -> Range<VirtualChunk> {
        self.chunk_at(offset)..VirtualChunk::new(end.div_ceil(self.chunk_size))
    }

    pub(super) fn is_loaded(&self, chunks: &Range<VirtualChunk>) -> bool {
        chunks.is_empty() || self.words.is_loaded(&words_of(chunks))
    }

    pub(in crate::image) async fn load<S: Storage>(&self, storage: &S, chunks: &Range<VirtualChunk>) -> Result<()> {
        self.words.load(storage, words_of(chunks)).await
    }

    /// The storage chunk of `chunk`. Fails if the number cannot be one. Also fails if both `chunk` and its
    /// neighbour in the same sector name storage chunk 0: that is how a table reads that never reached the
    /// disk.
    pub(in crate::image) fn get(&self, chunk: VirtualChunk) -> Result<Option<StorageChunk>> {
        let word = self.words.get(chunk.index());
        let neighbour = chunk.index() ^ 1;
        if word == 0 && neighbour < self.chunks && self.words.get(neighbour) == 0 {
            return Err(Self::lost(chunk.index() & !1, chunk.index() | 1));
        }
        self.checked(chunk, Entry::from_disk(word))
    }

    /// The error for entries that all name storage chunk 0.
    pub(in crate::image) fn lost(first: u64, last: u64) -> Error {
        Error::invalid_image(format!(
            "table: entries {first} to {last} all name storage chunk 0, as if the table had been lost; see fvd check"
        ))
    }

    /// The storage chunk that `entry` of `chunk` names. Fails if the number cannot be one.
    pub(in crate::image) fn checked(&self, chunk: VirtualChunk, entry: Entry) -> Result<Option<StorageChunk>> {
        match entry.storage() {
            Some(storage) if storage.index() >= self.number_limit => Err(Error::invalid_image(format!(
                "table: entry {chunk} names storage chunk {storage}, which no file can hold; see fvd check"
            ))),
            storage => Ok(storage),
        }
    }

    /// Sets the entry of `chunk`.
    pub(in crate::image) fn set(&self, chunk: VirtualChunk, entry: Entry) {
        self.words.word(chunk.index()).store(entry.raw(), Ordering::Release);
    }

    /// Sets the entry of `chunk`, as an unlogged one.
    pub(super) fn set_unlogged(&self, chunk: VirtualChunk, entry: Entry) {
        self.words
            .word(chunk.index())
            .store(entry.raw() | UNLOGGED, Ordering::Release);
    }

    /// Whether the chunk is allocated, and its entry is on disk or pending for the next commit.
    pub(in crate::image) fn is_recorded(&self, chunk: VirtualChunk) -> bool {
        self.words.get(chunk.index()) & UNLOGGED == 0
    }

    pub(super) fn is_unlogged(&self, chunk: VirtualChunk) -> bool {
        self.unlogged(chunk).is_some()
    }

    /// The storage chunk of `chunk`, if it is unlogged.
    pub(super) fn unlogged(&self, chunk: VirtualChunk) -> Option<StorageChunk> {
        let word = self.words.get(chunk.index());
        (word != Entry::UNALLOCATED.raw() && word & UNLOGGED != 0).then_some(StorageChunk::new(word & !UNLOGGED))
    }

    /// Makes the entry an ordinary one. Returns false if it was one before.
    pub(super) fn promote(&self, chunk: VirtualChunk) -> bool {
        let unlogged = self.is_unlogged(chunk);
        if unlogged {
            self.words.word(chunk.index()).fetch_and(!UNLOGGED, Ordering::AcqRel);
        }
        unlogged
    }

    /// The first allocated chunk of the range, or its end.
    pub(in crate::image) fn skip_unallocated(&self, chunks: &Range<VirtualChunk>) -> VirtualChunk {
        let unallocated = Entry::UNALLOCATED.raw();
        VirtualChunk::each(chunks)
            .find(|chunk| self.words.get(chunk.index()) != unallocated)
            .unwrap_or(chunks.end)
    }

    /// Pages of the region that hold the entries of the chunks.
    pub(in crate::image) fn pages(chunks: &Range<VirtualChunk>) -> Range<u64> {
        chunks.start.index() / PAGE_WORDS..chunks.end.index().div_ceil(PAGE_WORDS)
    }

    /// Chunks whose entries lie on the page.
    pub(super) fn chunks_on(&self, page: u64) -> Range<VirtualChunk> {
        let end = self.chunks.min((page + 1) * PAGE_WORDS);
        VirtualChunk::new(page * PAGE_WORDS)..VirtualChunk::new(end)
    }

    pub(in crate::image) fn words(&self) -> &RegionCache {
        &self.words
    }
}

/// The words of the region that hold the entries of the chunks.
pub(in crate::image) fn words_of(chunks: &Range<VirtualChunk>) -> Range<u64> {
    chunks.start.index()..chunks.end.index()
}
