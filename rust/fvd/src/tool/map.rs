//! Map: which layer of a disk holds which range.

use crate::error::Result;
use crate::format::SECTOR;
use crate::source::{BaseSource, Content, Location};

/// A range of a disk with the same attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the map")]
pub struct MapEntry {
    /// Byte offset on the disk.
    pub start: u64,
    /// Length in bytes, at least 1.
    pub length: u64,
    /// The layer that the range comes from: 0 is the disk itself, 1 its base, and so on.
    pub depth: u32,
    /// Whether a layer holds the range.
    pub present: bool,
    /// Whether the range is known to read as zeros.
    pub zero: bool,
    /// Whether the range may hold data.
    pub data: bool,
    /// Whether the range is stored compressed.
    pub compressed: bool,
    /// The place of the bytes in a file. `None` if no file holds them in plain form.
    pub location: Option<Location>,
}

impl MapEntry {
    fn end(&self) -> u64 {
        self.start + self.length
    }

    /// Whether `next`, which starts at the end of this range, can be merged into it: it has the same
    /// attributes, and its location follows that of this range.
    fn continues_with(&self, next: &Self) -> bool {
        let same = |entry: &Self| (entry.depth, entry.present, entry.zero, entry.data, entry.compressed);
        let contiguous = match (&self.location, &next.location) {
            (None, None) => true,
            (Some(a), Some(b)) => a.path == b.path && a.offset + self.length == b.offset,
            _ => false,
        };
        same(self) == same(next) && contiguous
    }
}

/// Calls `each` for the ranges of the disk, in order: `len` bytes from byte `start`, or all up to the end.
/// See [`Mapper`].
pub async fn map(source: &dyn BaseSource, start: u64, len: Option<u64>, mut each: impl FnMut(MapEntry)) -> Result<()> {
    let mut mapper = Mapper::new(source, start, len);
    while let Some(entry) = mapper.next(source).await? {
        each(entry);
    }
    Ok(())
}

/// An iterator over the ranges of a disk. Adjacent ranges are merged if attributes and location allow it.
///
/// The size of the disk is rounded up to a whole sector, as in QEMU. The rest of a partial last sector is
/// zeros. There are no ranges if the start lies after the end.
#[derive(Debug)]
pub struct Mapper {
    at: u64,
    end: u64,
    /// The last range. The next one may be merged into it.
    pending: Option<MapEntry>,
}

impl Mapper {
    /// Starts at byte `start`, and ends after `len` bytes or at the end of `source`.
    #[must_use]
    pub fn new(source: &dyn BaseSource, start: u64, len: Option<u64>) -> Self {
        let disk_end = source.len().next_multiple_of(SECTOR);
        let end = len.map_or(disk_end, |len| start.saturating_add(len).min(disk_end));
        Self {
            at: start,
            end,
            pending: None,
        }
    }

    /// The next range, `None` at the end. `source` must be the disk that was passed to [`Mapper::new`].
    pub async fn next(&mut self, source: &dyn BaseSource) -> Result<Option<MapEntry>> {
        while self.at < self.end {
            let entry = self.look(source).await?;
            self.at = entry.end();
            match &mut self.pending {
                Some(last) if last.continues_with(&entry) => last.length += entry.length,
                last => {
                    if let Some(finished) = last.replace(entry) {
                        return Ok(Some(finished));
                    }
                }
            }
        }
        Ok(self.pending.take())
    }

    async fn look(&self, source: &dyn BaseSource) -> Result<MapEntry> {
        if self.at >= source.len() {
            return Ok(partial_sector(source, self.at, self.end));
        }
        let len = self.end.min(source.len()) - self.at;
        let run = source.status(self.at, len).await;
        let run = run.map_err(|error| error.during("look up"))?;
        Ok(MapEntry {
            start: self.at,
            length: run.len.min(len),
            depth: run.depth,
            present: run.present,
            zero: run.content == Content::Zero,
            data: run.content == Content::Data,
            compressed: run.compressed,
            location: run.location,
        })
    }
}

/// The rest of a partial last sector. For a raw disk it is present, at offsets after the end of the file.
fn partial_sector(source: &dyn BaseSource, start: u64, end: u64) -> MapEntry {
    let is_raw = source.format() == "raw";
    MapEntry {
        start,
        length: end - start,
        depth: 0,
        present: is_raw,
        zero: true,
        data: false,
        compressed: false,
        location: is_raw.then(|| Location {
            path: source.path().to_owned(),
            offset: start,
        }),
    }
}
