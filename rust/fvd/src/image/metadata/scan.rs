//! Sequential reading of metadata regions, a piece at a time. Holes are not read.

use std::ops::Range;

use crate::error::Result;
use crate::format::{Block, Entry, PAGE, Region, StorageChunk, table};
use crate::storage::{Allocation, IoBufMut, Storage};

/// Most bytes read at once.
const READ_STEP: u64 = 1 << 20;

/// A part of a region.
pub(crate) struct Piece {
    /// Bytes from the start of the region, a multiple of the page size.
    pub(crate) offset: u64,
    /// Length in bytes, a multiple of the page size.
    pub(crate) len: u64,
    /// None: all zeros.
    pub(crate) bytes: Option<IoBufMut>,
}

impl Piece {
    /// The blocks that a piece of the bitmap has the bits of.
    pub(crate) fn blocks(&self) -> Range<Block> {
        Block::new(self.offset * 8)..Block::new((self.offset + self.len) * 8)
    }

    /// The first of the (non-empty) blocks whose bit in this piece of the bitmap is 1 (with `false`: is 0), or
    /// `blocks.end`. The bits of all of them lie in the piece.
    pub(crate) fn find_block(&self, blocks: &Range<Block>, value: bool) -> Block {
        let Some(bytes) = &self.bytes else {
            return if value { blocks.end } else { blocks.start };
        };
        let bytes = bytes.as_slice();
        let mut bit = blocks.start.index();
        while bit < blocks.end.index() {
            let byte = bytes[(bit / 8 - self.offset) as usize];
            let byte = if value { byte } else { !byte };
            let rest = byte >> (bit % 8);
            if rest != 0 {
                return blocks.end.min(Block::new(bit + u64::from(rest.trailing_zeros())));
            }
            bit = (bit / 8 + 1) * 8;
        }
        blocks.end
    }

    /// Word `index` of the piece.
    pub(crate) fn word(&self, index: u64) -> u32 {
        let Some(bytes) = &self.bytes else {
            return 0;
        };
        let (words, _) = bytes.as_slice().as_chunks::<4>();
        u32::from_le_bytes(words[index as usize])
    }

    pub(crate) fn is_hole(&self) -> bool {
        self.bytes.is_none()
    }
}

impl Piece {
    /// Whether the sector that holds entry `index` is lost. The entry is one of the `chunks` entries of the
    /// table, and lies in the piece.
    pub(crate) fn is_lost(&self, index: u64, chunks: u64) -> bool {
        let first = index / table::ENTRIES_PER_SECTOR * table::ENTRIES_PER_SECTOR;
        let count = (chunks - first).min(table::ENTRIES_PER_SECTOR) as usize;
        match &self.bytes {
            None => table::is_lost(&[[0; 4]; table::ENTRIES_PER_SECTOR as usize][..count]),
            Some(bytes) => {
                let (words, _) = bytes.as_slice().as_chunks::<4>();
                let at = (first - self.offset / table::ENTRY_SIZE) as usize;
                table::is_lost(&words[at..at + count])
            }
        }
    }
}

/// Reads a region, whose size is a multiple of a page, in pieces.
pub(crate) struct RegionReader<'a, S> {
    file: &'a S,
    region: Region,
    at: u64,
}

impl<'a, S: Storage> RegionReader<'a, S> {
    /// Starts with the page that holds byte `start` of the region.
    pub(crate) fn new(file: &'a S, region: Region, start: u64) -> Self {
        let at = (start / PAGE * PAGE).min(region.size);
        Self { file, region, at }
    }

    /// The next piece; None at the end of the region. After an error the reader continues after the piece
    /// that could not be read.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>> {
        let rest = self.region.size - self.at;
        if rest == 0 {
            return Ok(None);
        }
        let offset = self.at;
        self.at += rest.min(READ_STEP);
        let position = self.region.offset + offset;
        let (allocation, run) = self.file.allocation(position, rest).await?;
        if allocation == Allocation::Hole && run >= PAGE {
            let len = run / PAGE * PAGE;
            self.at = offset + len;
            let bytes = None;
            return Ok(Some(Piece { offset, len, bytes }));
        }
        let len = run.next_multiple_of(PAGE).min(rest).min(READ_STEP);
        self.at = offset + len;
        let buf = IoBufMut::zeroed(len as usize);
        let bytes = Some(self.file.read(buf, position).await?);
        Ok(Some(Piece { offset, len, bytes }))
    }
}

/// Consecutive entries that are all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRun {
    /// Index of the first entry.
    pub(crate) first: u64,
    /// Number of entries.
    pub(crate) count: u64,
    /// The value of each.
    pub(crate) entry: Entry,
    /// The entries lie in a lost part of the table. Set only with [`EntryRuns::with_lost`].
    pub(crate) lost: bool,
}

impl EntryRun {
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// Reads the entries of a table as runs. A run may end where a piece of the file does.
pub(crate) struct EntryRuns<'a, S> {
    reader: RegionReader<'a, S>,
    piece: Option<Piece>,
    at: u64,
    end: u64,
    /// Lost sectors are looked for among the first `chunks` entries.
    chunks: u64,
    /// Entries that replace those in the file, by ascending index.
    overlay: &'a [(u32, Entry)],
}

impl<'a, S: Storage> EntryRuns<'a, S> {
    /// The entries `first..end` of the table in `region`, with those in `overlay` replaced.
    pub(crate) fn new(file: &'a S, region: Region, first: u64, end: u64, overlay: &'a [(u32, Entry)]) -> Self {
        let passed = overlay.partition_point(|(index, _)| u64::from(*index) < first);
        Self {
            reader: RegionReader::new(file, region, first * table::ENTRY_SIZE),
            piece: None,
            at: first,
            end,
            chunks: 0,
            overlay: &overlay[passed..],
        }
    }

    /// Also finds out which entries are lost. The table has `chunks` entries that belong to chunks. Entries
    /// of the overlay are never lost.
    pub(crate) fn with_lost(self, chunks: u64) -> Self {
        Self { chunks, ..self }
    }

    /// The next run; None after the last one. After an error it continues after what could not be read.
    pub(crate) async fn next(&mut self) -> Result<Option<EntryRun>> {
        while self.at < self.end {
            if let Some(piece) = &self.piece
                && (piece.offset + piece.len) / table::ENTRY_SIZE > self.at
            {
                return Ok(Some(self.run_at_position()));
            }
            match self.reader.next().await {
                Ok(Some(piece)) => {
                    self.at = self.at.max(piece.offset / table::ENTRY_SIZE);
                    self.piece = Some(piece);
                }
                Ok(None) => break,
                Err(error) => {
                    self.piece = None;
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// The next run of allocated entries, and the storage chunk that they name.
    pub(crate) async fn next_allocated(&mut self) -> Result<Option<(EntryRun, StorageChunk)>> {
        while let Some(run) = self.next().await? {
            if let Some(storage) = run.entry.storage() {
                return Ok(Some((run, storage)));
            }
        }
        Ok(None)
    }

    /// The run that starts at entry `at`, which lies in the piece.
    fn run_at_position(&mut self) -> EntryRun {
        let piece = self.piece.as_ref().expect("a piece that holds the entry");
        let first = self.at;
        while let [(index, _), rest @ ..] = self.overlay
            && u64::from(*index) < first
        {
            self.overlay = rest;
        }
        let mut stop = self.end.min((piece.offset + piece.len) / table::ENTRY_SIZE);
        let mut on_disk = true;
        if let [(index, _), ..] = self.overlay {
            on_disk = u64::from(*index) != first;
            stop = stop.min(u64::from(*index).max(first + 1));
        }
        let mut lost = false;
        let entry = if on_disk {
            let (word, end) = same_entries(piece, first, stop);
            stop = end;
            if word == 0 && first < self.chunks {
                (lost, stop) = lost_run(piece, first, end.min(self.chunks), self.chunks);
            }
            Entry::from_disk(word)
        } else {
            self.overlay[0].1
        };
        self.at = stop;
        EntryRun {
            first,
            count: stop - first,
            entry,
            lost,
        }
    }
}

/// Entry `first` as it is on disk, and the first entry after it, at most `stop`, that differs.
fn same_entries(piece: &Piece, first: u64, stop: u64) -> (u32, u64) {
    let Some(bytes) = &piece.bytes else {
        return (0, stop);
    };
    let (words, _) = bytes.as_slice().as_chunks::<4>();
    let start = piece.offset / table::ENTRY_SIZE;
    let words = &words[(first - start) as usize..(stop - start) as usize];
    let same = words.iter().take_while(|word| **word == words[0]).count();
    (u32::from_le_bytes(words[0]), first + same as u64)
}

/// Whether entry `first` is lost, and the first entry after it, at most `stop`, where that changes. All
/// entries up to `stop` are zeros.
fn lost_run(piece: &Piece, first: u64, stop: u64, chunks: u64) -> (bool, u64) {
    let lost = piece.is_lost(first, chunks);
    let mut end = first;
    if piece.bytes.is_none() {
        // All sectors of a hole are the same, except a last one that has fewer entries.
        let last = (chunks - 1) / table::ENTRIES_PER_SECTOR * table::ENTRIES_PER_SECTOR;
        end = end.max(last).min(stop);
    }
    while end < stop && piece.is_lost(end, chunks) == lost {
        end = (end / table::ENTRIES_PER_SECTOR + 1) * table::ENTRIES_PER_SECTOR;
    }
    (lost, end.min(stop))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pollster::block_on;

    use super::*;
    use crate::storage::MemoryStorage;

    const REGION: Region = Region {
        offset: 8192,
        size: 1 << 20,
    };

    fn runs(file: &MemoryStorage, overlay: &[(u32, Entry)], first: u64) -> Vec<(u64, u64, u32)> {
        let mut runs = EntryRuns::new(file, REGION, first, 200_000, overlay);
        let mut all: Vec<(u64, u64, u32)> = Vec::new();
        while let Some(run) = block_on(runs.next()).expect("readable") {
            match all.last_mut() {
                Some((_, count, raw)) if *raw == run.entry.raw() => *count += run.count,
                _ => all.push((run.first, run.count, run.entry.raw())),
            }
        }
        all
    }

    #[test]
    fn equal_entries_are_one_run_and_a_hole_is_zeros() {
        let file = MemoryStorage::new();
        block_on(file.set_len(8192 + (1 << 20))).expect("grows");
        let bytes = [[7, 0, 0, 0], [7, 0, 0, 0], [0xFF; 4]].concat();
        block_on(file.write(Bytes::from(bytes), 8192 + 400_000)).expect("written");
        let expected = [
            (0, 100_000, 0),
            (100_000, 2, 7),
            (100_002, 1, u32::MAX),
            (100_003, 99_997, 0),
        ];
        assert_eq!(runs(&file, &[], 0), expected);
        assert_eq!(runs(&file, &[], 100_001)[0], (100_001, 1, 7));
    }

    #[test]
    fn entries_of_an_overlay_replace_those_on_disk() {
        let file = MemoryStorage::new();
        block_on(file.set_len(8192 + (1 << 20))).expect("grows");
        block_on(file.write(Bytes::from(vec![0xFF; 4096]), 8192)).expect("written");
        let overlay = [(0, 5), (1, 6), (3, 9), (150_000, 4)];
        let overlay = overlay.map(|(index, number)| (index, Entry::allocated(StorageChunk::new(number))));
        let all = runs(&file, &overlay, 0);
        assert_eq!(all[..4], [(0, 1, 5), (1, 1, 6), (2, 1, u32::MAX), (3, 1, 9)]);
        assert!(all.contains(&(150_000, 1, 4)), "{all:?}");
        assert_eq!(all.iter().map(|run| run.1).sum::<u64>(), 200_000);
        assert_eq!(runs(&file, &overlay, 3)[0], (3, 1, 9));
    }
}
