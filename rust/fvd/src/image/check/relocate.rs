//! Moves and copies storage chunks: first the data, a sync, then the entries, a sync.

use super::Subject;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Entry, Region, StorageChunk};
use crate::image::metadata::patch;
use crate::image::metadata::scan::EntryRuns;
use crate::image::space::chunk_set::ChunkSet;
use crate::storage::{Allocation, IoBufMut, Space, Storage};

/// Number of moves in a batch, which has two syncs.
const MOVES_PER_SYNC: usize = 4096;

/// The most bytes copied at once. This bounds the memory of a copy for any chunk size.
const COPY_STEP: u64 = 1 << 20;

/// Bytes of copies that are allowed for any image, even if it holds less data.
const ALWAYS_COPIED: u64 = 16 << 20;

/// Copies storage chunk `from` to `to`, and then lets `chunk` name `to`.
struct Move {
    chunk: u32,
    from: StorageChunk,
    to: StorageChunk,
}

/// Makes moves in batches. Moves are added in ascending order of their chunks.
struct Mover<'s, 'a, S> {
    subject: &'s Subject<'a, S>,
    data: &'a S,
    table: Region,
    batch: Vec<Move>,
}

impl<'s, 'a, S: Storage> Mover<'s, 'a, S> {
    fn new(subject: &'s Subject<'a, S>, data: &'a S, table: Region) -> Self {
        Self {
            subject,
            data,
            table,
            batch: Vec::new(),
        }
    }

    async fn add(&mut self, chunk: u64, from: StorageChunk, to: StorageChunk) -> Result<()> {
        let chunk = chunk as u32;
        self.batch.push(Move { chunk, from, to });
        if self.batch.len() >= MOVES_PER_SYNC {
            self.finish().await?;
        }
        Ok(())
    }

    /// Makes all moves that have been added. After that the `from` storage chunks of moves are free.
    async fn finish(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let Some(highest) = batch.iter().map(|step| step.to).max() else {
            return Ok(());
        };
        let size = self.subject.head.geometry.chunk_size;
        let end = self.subject.chunk_offset(highest) + size;
        if self.data.len().await? < end {
            self.data.set_len(end).await?;
        }
        for step in &batch {
            let from = self.subject.chunk_offset(step.from);
            let to = self.subject.chunk_offset(step.to);
            copy(self.data, from, to, size).await?;
        }
        self.data.sync().await?;
        let entries: Vec<_> = batch
            .iter()
            .map(|step| (step.chunk, Entry::allocated(step.to)))
            .collect();
        patch::write_entries(self.subject.file, self.table, &entries).await?;
        self.subject.file.sync().await
    }
}

/// Copies `len` bytes within the file. The two ranges must not overlap. Holes stay holes.
async fn copy<S: Storage>(data: &S, from: u64, to: u64, len: u64) -> Result<()> {
    let mut at = 0;
    while at < len {
        let (allocation, run) = data.allocation(from + at, len - at).await?;
        let run = match allocation {
            Allocation::Hole => {
                data.write_zeroes(to + at, run, Space::Free).await?;
                run
            }
            Allocation::Data => {
                let run = run.min(COPY_STEP);
                let buf = data.read(IoBufMut::zeroed(run as usize), from + at).await?;
                data.write(buf.freeze(), to + at).await?;
                run
            }
        };
        at += run;
    }
    Ok(())
}

/// Fails if copies of `count` storage chunks must not be made after those `used`: they would exceed the
/// existing data, or have no room.
pub(super) async fn check_copies<S: Storage>(
    subject: &Subject<'_, S>,
    data: &S,
    used: &ChunkSet,
    count: u64,
) -> Result<()> {
    check_proportion(subject, data, used, count).await?;
    check_room(subject, data, used, count)
}

/// Fails if the copies would take more space than the existing data and than [`ALWAYS_COPIED`]. A corrupt
/// table could name one storage chunk a billion times.
async fn check_proportion<S: Storage>(subject: &Subject<'_, S>, data: &S, used: &ChunkSet, count: u64) -> Result<()> {
    let needed = count.saturating_mul(subject.head.geometry.chunk_size);
    if needed <= ALWAYS_COPIED {
        return Ok(());
    }
    let end = subject.chunk_offset(used.end());
    let mut at = subject.head.geometry.data_offset;
    let mut held = 0;
    while at < end && held < needed {
        let (allocation, run) = data.allocation(at, end - at).await?;
        if allocation == Allocation::Data {
            held += run;
        }
        at += run;
    }
    if held >= needed {
        return Ok(());
    }
    let message = format!(
        "{count} chunks share the storage of others: copies take {needed} bytes, more than the {held} that there are; \
         nothing was repaired (fvd convert makes a new image of what can be read)"
    );
    Err(Error::invalid_image(message).with_path(subject.file.path()))
}

fn check_room<S: Storage>(subject: &Subject<'_, S>, data: &S, used: &ChunkSet, count: u64) -> Result<()> {
    let needed = used.end().index() + count;
    let geometry = &subject.head.geometry;
    let limit = match subject.data_len {
        Some(len) if !data.can_resize() => len.saturating_sub(geometry.data_offset) / geometry.chunk_size,
        _ => subject.number_limit(),
    };
    if needed <= limit {
        return Ok(());
    }
    let message =
        format!("To give every chunk a storage chunk of its own takes {needed} of them, there is room for {limit}");
    Err(Error::new(ErrorKind::NoSpace, message)
        .with_path(data.path())
        .with_op("repair"))
}

/// If several chunks name the same storage chunk, all except the first get copies after those `used`. All
/// entries must name storage chunks in the file.
pub(super) async fn unshare<S: Storage>(
    subject: &Subject<'_, S>,
    data: &S,
    table: Region,
    used: &ChunkSet,
) -> Result<()> {
    let mut seen = ChunkSet::default();
    let mut next = used.end();
    let mut mover = Mover::new(subject, data, table);
    let chunks = subject.head.geometry.chunks;
    let mut runs = EntryRuns::new(subject.file, table, 0, chunks, &[]);
    while let Some((run, storage)) = runs.next_allocated().await? {
        let first = run.first + u64::from(seen.insert(storage));
        for chunk in first..run.end() {
            mover.add(chunk, storage, next).await?;
            next = next.next();
        }
    }
    mover.finish().await
}

/// Moves the highest storage chunks into the unused ones. No storage chunk may be shared.
pub(super) async fn fill_gaps<S: Storage>(
    subject: &Subject<'_, S>,
    data: &S,
    table: Region,
    used: &ChunkSet,
) -> Result<()> {
    let mut free = StorageChunk::FIRST;
    let mut mover = Mover::new(subject, data, table);
    let chunks = subject.head.geometry.chunks;
    let mut runs = EntryRuns::new(subject.file, table, 0, chunks, &[]);
    while let Some((run, storage)) = runs.next_allocated().await? {
        // Without gaps, the numbers in use will be exactly those below their count. Move the others.
        if storage.index() >= used.len() {
            let gap = used.next(free, false);
            let gap = gap.expect("as many gaps lie below the count as numbers above it");
            mover.add(run.first, storage, gap).await?;
            free = gap.next();
        }
    }
    mover.finish().await
}
