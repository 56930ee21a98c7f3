//! Moving and copying storage chunks: first the data, a sync, then the entries, a sync.

use super::Subject;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Entry, Region};
use crate::image::chunk_set::ChunkSet;
use crate::image::patch;
use crate::image::scan::EntryRuns;
use crate::storage::{Allocation, IoBufMut, Space, Storage};

/// Chunks that share the two syncs.
const MOVES_PER_SYNC: usize = 4096;

/// Bytes copied at once at most: the memory that a copy needs, whatever the chunk size.
const COPY_STEP: u64 = 1 << 20;

/// Bytes of copies that every image may get, however little it holds.
const ALWAYS_COPIED: u64 = 16 << 20;

/// The content of storage chunk `from` goes to `to`, and then `chunk` lies there.
struct Move {
    chunk: u32,
    from: u32,
    to: u32,
}

/// Moves in the order of their chunks, carried out in batches.
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

    async fn add(&mut self, chunk: u64, from: u32, to: u32) -> Result<()> {
        let chunk = chunk as u32;
        self.batch.push(Move { chunk, from, to });
        if self.batch.len() >= MOVES_PER_SYNC {
            self.finish().await?;
        }
        Ok(())
    }

    /// Carries out what has been added. The storage chunks moved from are free then.
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

/// Copies `len` bytes within the file; the two ranges do not overlap. Holes stay holes.
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

/// Whether copies of `count` storage chunks may be made behind those `used`: they are in proportion
/// to the data that there is, and have room.
pub(super) async fn check_copies<S: Storage>(
    subject: &Subject<'_, S>,
    data: &S,
    used: &ChunkSet,
    count: u64,
) -> Result<()> {
    check_proportion(subject, data, used, count).await?;
    check_room(subject, data, used, count)
}

/// An entry costs nothing: a table of nonsense could name one storage chunk a billion times.
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
    let needed = u64::from(used.end()) + count;
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

/// Gives every chunk, but for the first, that names a storage chunk of another one a copy behind
/// those `used`. All entries lie in the file.
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
    while let Some((run, number)) = runs.next_allocated().await? {
        let first = run.first + u64::from(seen.insert(number));
        for chunk in first..run.end() {
            mover.add(chunk, number, next).await?;
            next += 1;
        }
    }
    mover.finish().await
}

/// Moves the highest storage chunks into those that nobody uses. No storage chunk is shared.
pub(super) async fn fill_gaps<S: Storage>(
    subject: &Subject<'_, S>,
    data: &S,
    table: Region,
    used: &ChunkSet,
) -> Result<()> {
    let mut free = 0;
    let mut mover = Mover::new(subject, data, table);
    let chunks = subject.head.geometry.chunks;
    let mut runs = EntryRuns::new(subject.file, table, 0, chunks, &[]);
    while let Some((run, number)) = runs.next_allocated().await? {
        // With no gaps the numbers in use would be exactly those below their count.
        if u64::from(number) >= used.len() {
            let gap = used.next(free, false);
            let gap = gap.expect("as many gaps lie below the count as numbers above it");
            mover.add(run.first, number, gap).await?;
            free = gap + 1;
        }
    }
    mover.finish().await
}
