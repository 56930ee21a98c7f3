//! Leaks: storage chunks below the highest one in use that no entry names and that take space.
//!
//! A discarded storage chunk is not a leak: it is a hole, except for file system blocks that it shares with
//! its neighbours, and waits to be allocated again. On a device the two cannot be distinguished, and without
//! the data file they cannot be examined. In these cases no leaks are reported. The next session that
//! allocates uses all of these chunks.

use std::ops::Range;

use super::Subject;
use super::findings::{FindingKind, Findings};
use crate::error::{ErrorKind, Result};
use crate::format::StorageChunk;
use crate::image::space::chunk_set::ChunkSet;
use crate::storage::{Allocation, Storage};

/// An iterator over the leaks: runs of storage chunks, in ascending order.
struct Leaks<'s, 'a, S> {
    subject: &'s Subject<'a, S>,
    data: Option<&'a S>,
    used: &'s ChunkSet,
    /// A range of storage chunks that take space and have not been examined. All chunks before it have been.
    taken: Range<StorageChunk>,
    /// The first storage chunk of the gap (the unused numbers in a row) that contains the last run.
    gap: StorageChunk,
}

impl<'s, 'a, S: Storage> Leaks<'s, 'a, S> {
    fn new(subject: &'s Subject<'a, S>, used: &'s ChunkSet) -> Self {
        let has_gaps = used.len() < used.end().index();
        Self {
            subject,
            data: subject.data.filter(|data| has_gaps && data.can_resize()),
            used,
            taken: StorageChunk::FIRST..StorageChunk::FIRST,
            gap: StorageChunk::FIRST,
        }
    }

    async fn next(&mut self) -> Result<Option<Range<StorageChunk>>> {
        let Some(data) = self.data else {
            return Ok(None);
        };
        loop {
            let start = self.used.next(self.taken.start, false);
            if let Some(start) = start.filter(|start| *start < self.taken.end) {
                let end = self.used.next(start, true).unwrap_or(self.used.end());
                if self.begins_gap(start) {
                    self.gap = start;
                }
                self.taken.start = end.min(self.taken.end);
                let run = start..self.taken.start;
                if self.is_more_than_edge(data, &run, self.gap..end).await? {
                    return Ok(Some(run));
                }
                continue;
            }
            if self.taken.end >= self.used.end() {
                return Ok(None);
            }
            self.taken = self.find_taken(data, self.taken.end).await?;
        }
    }

    /// Whether the storage chunk before this unused one is in use, or there is none.
    fn begins_gap(&self, storage: StorageChunk) -> bool {
        let before = storage.number().checked_sub(1).map(StorageChunk::new);
        before.is_none_or(|before| self.used.next(before, true) == Some(before))
    }

    /// Whether a run takes more space than the file system blocks that its gap shares with the storage chunks
    /// before and after it. These blocks cannot be freed.
    async fn is_more_than_edge(&self, data: &S, run: &Range<StorageChunk>, gap: Range<StorageChunk>) -> Result<bool> {
        let unit = data.hole_unit();
        let bytes =
            |run: &Range<StorageChunk>| (self.subject.chunk_offset(run.start), self.subject.chunk_offset(run.end));
        let ((start, end), (first, last)) = (bytes(run), bytes(&gap));
        let (mut at, end) = (start.max(first.next_multiple_of(unit)), end.min(last - last % unit));
        if (at, end) == bytes(run) {
            return Ok(true);
        }
        while at < end {
            match data.allocation(at, end - at).await? {
                (Allocation::Data, _) => return Ok(true),
                (Allocation::Hole, len) => at += len,
            }
        }
        Ok(false)
    }

    /// The next storage chunks from `first` that take space. At a hole: an empty range at the end of the
    /// hole.
    async fn find_taken(&self, data: &S, first: StorageChunk) -> Result<Range<StorageChunk>> {
        let chunk_size = self.subject.head.geometry.chunk_size;
        let at = self.subject.chunk_offset(first);
        let stop = self.subject.chunk_offset(self.used.end());
        let (allocation, len) = data.allocation(at, stop - at).await?;
        let chunks = match allocation {
            Allocation::Hole if len >= chunk_size => {
                let end = first.plus(len / chunk_size);
                return Ok(end..end);
            }
            // The storage chunk starts with a hole that ends inside it, and data follows.
            Allocation::Hole => 1,
            Allocation::Data => len.div_ceil(chunk_size),
        };
        Ok(first..self.used.end().min(first.plus(chunks)))
    }
}

pub(super) async fn report<S: Storage>(
    subject: &Subject<'_, S>,
    used: &ChunkSet,
    findings: &mut Findings,
) -> Result<()> {
    let mut leaks = Leaks::new(subject, used);
    while let Some(Range { start, end }) = leaks.next().await? {
        let count = end.index() - start.index();
        findings.add(FindingKind::Leak, count, || match count {
            1 => format!("storage chunk {start} is not in use"),
            _ => format!("storage chunks {start}..{end} are not in use"),
        });
    }
    Ok(())
}

/// Makes the leaks holes, if the medium supports discard. Zeros are never written, because they would take
/// the same space. No entry may name a leak, neither in place nor in the journal.
pub(super) async fn free<S: Storage>(subject: &Subject<'_, S>, data: &S, used: &ChunkSet) -> Result<()> {
    let mut leaks = Leaks::new(subject, used);
    while let Some(run) = leaks.next().await? {
        let start = subject.chunk_offset(run.start);
        match data.discard(start, subject.chunk_offset(run.end) - start).await {
            // Some file systems need space to punch a hole. Then the run stays a leak and is counted as one.
            Err(error) if error.kind() == ErrorKind::NoSpace => {}
            done => done?,
        }
    }
    data.sync().await
}
