//! Map: which layer of a disk holds what.

use crate::error::Result;
use crate::format::SECTOR;
use crate::source::{BaseSource, Content, Location};

/// A range of a disk with the same attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the map")]
pub struct MapEntry {
    /// Bytes from the start of the disk.
    pub start: u64,
    /// Bytes, at least 1.
    pub length: u64,
    /// The layer it comes from: 0 the disk itself, 1 its base, and so on.
    pub depth: u32,
    /// Whether a layer holds it.
    pub present: bool,
    /// Whether it is known to read as zeros.
    pub zero: bool,
    /// Whether it may hold data.
    pub data: bool,
    /// Whether it is stored compressed.
    pub compressed: bool,
    /// Where its bytes lie, as they are, in a file.
    pub location: Option<Location>,
}

impl MapEntry {
    fn end(&self) -> u64 {
        self.start + self.length
    }

    /// Whether `next`, which starts where this ends, has the same attributes and lies behind it.
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

/// Calls `each` for the ranges of the disk from `start`, `len` bytes or up to the end, in order.
/// See [`Mapper`].
pub async fn map(source: &dyn BaseSource, start: u64, len: Option<u64>, mut each: impl FnMut(MapEntry)) -> Result<()> {
    let mut mapper = Mapper::new(source, start, len);
    while let Some(entry) = mapper.next(source).await? {
        each(entry);
    }
    Ok(())
}

/// Walks over a disk, range by range; neighbours are merged where attributes and location allow.
///
/// The disk ends with a whole sector, as QEMU sees it: what a source that ends within one lacks is
/// zeros. A start behind the end gives nothing.
#[derive(Debug)]
pub struct Mapper {
    at: u64,
    end: u64,
    /// Begun, and perhaps to be continued.
    pending: Option<MapEntry>,
}

impl Mapper {
    /// From `start` (bytes) on, `len` bytes or up to the end of `source`.
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

    /// The next range of `source`, the disk that the walk began with; None at the end.
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
            return Ok(behind_the_end(source, self.at, self.end));
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

/// The rest of the last sector of a raw disk, which is the file, lies behind the end of the file.
fn behind_the_end(source: &dyn BaseSource, start: u64, end: u64) -> MapEntry {
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
