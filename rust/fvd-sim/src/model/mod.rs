//! The reference model: the contents that each sector of the virtual disk may have.
//!
//! `now` is the set of contents that a read may return while the machine runs. `may` is the set that may be
//! found after a crash. A write adds to `may` when it starts. A flush removes the contents it has made
//! obsolete. Of writes that overlap in time, any may win. Once a read has returned a content, it is the only
//! one from then on.
//!
//! Only sectors that were written to have sets of their own, because a disk may be large.

mod check;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use crate::medium::{Medium, SECTOR, Sector};

pub use check::Mismatch;
use read::Read;
use write::Write;

type Content = Rc<Sector>;

/// A virtual disk.
pub struct Model {
    /// The durable content of every sector that has no cell.
    origin: Medium,
    cells: BTreeMap<u64, Cell>,
    /// Sectors of which a crash may leave more than one content. A flush examines only these.
    unsettled: BTreeSet<u64>,
    /// Number of the last write or flush that started.
    clock: u64,
    writes: BTreeMap<u64, Write>,
    flushes: BTreeMap<u64, BTreeMap<u64, Vec<Content>>>,
    reads: BTreeMap<u64, Read>,
}

/// A sector that was written to.
struct Cell {
    now: Vec<Content>,
    /// Each content with the number of the write that brought it.
    may: Vec<(Content, u64)>,
    /// Writes in flight.
    writers: Vec<u64>,
    /// A failed sync may have given up the cached content of this sector. Until the sector is written again,
    /// no flush makes it durable.
    given_up: bool,
}

impl Cell {
    fn of(content: &Content) -> Self {
        Self {
            now: vec![content.clone()],
            may: vec![(content.clone(), 0)],
            writers: Vec::new(),
            given_up: false,
        }
    }
}

fn add(set: &mut Vec<Content>, content: &Content) {
    if !set.iter().any(|other| Rc::ptr_eq(other, content) || other == content) {
        set.push(content.clone());
    }
}

fn add_all(set: &mut Vec<Content>, contents: &[Content]) {
    for content in contents {
        add(set, content);
    }
}

/// The part of a sector that `start..end` (bytes of the disk) covers.
fn part_of(sector: u64, start: u64, end: u64) -> Range<usize> {
    let first = sector * SECTOR;
    (start.max(first) - first) as usize..(end.min(first + SECTOR) - first) as usize
}

fn sectors_of(start: u64, end: u64) -> Range<u64> {
    if start == end {
        0..0
    } else {
        start / SECTOR..end.div_ceil(SECTOR)
    }
}

impl Model {
    /// A disk with this durable content, a multiple of 512 bytes.
    #[must_use]
    pub fn new(content: &[u8]) -> Self {
        Self::on(Medium::from_bytes(content))
    }

    /// As [`Model::new`], for content that may be large and sparse.
    #[must_use]
    pub fn on(origin: Medium) -> Self {
        Self {
            origin,
            cells: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            clock: 0,
            writes: BTreeMap::new(),
            flushes: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.origin.size()
    }

    /// The sectors that were written to, as ascending ranges.
    #[must_use]
    pub fn written(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for &sector in self.cells.keys() {
            match runs.last_mut() {
                Some(last) if last.end == sector => last.end += 1,
                _ => runs.push(sector..sector + 1),
            }
        }
        runs
    }

    /// Whether a write of these bytes would overlap a write in flight in a sector that one of the two writes
    /// only in part. The model cannot predict the result of that.
    #[must_use]
    pub fn meets_part(&self, start: u64, end: u64) -> bool {
        let partial = |sector: u64| part_of(sector, start, end).len() < SECTOR as usize;
        self.cells.range(sectors_of(start, end)).any(|(&sector, cell)| {
            let edge = |id: &u64| self.writes[id].edges.contains(&sector);
            !cell.writers.is_empty() && (partial(sector) || cell.writers.iter().any(edge))
        })
    }

    /// The largest number of writes in flight on any sector of these bytes.
    #[must_use]
    pub fn crowd(&self, start: u64, end: u64) -> usize {
        let cells = self.cells.range(sectors_of(start, end));
        cells.map(|(_, cell)| cell.writers.len()).max().unwrap_or(0)
    }

    fn original(&self, sector: u64) -> Content {
        Rc::new(self.origin.sector(sector))
    }

    fn cell(&mut self, sector: u64) -> &mut Cell {
        let origin = &self.origin;
        self.cells
            .entry(sector)
            .or_insert_with(|| Cell::of(&Rc::new(origin.sector(sector))))
    }

    /// The contents that writes in flight bring to the sector.
    fn flying(&self, sector: u64) -> Vec<Content> {
        let mut set = Vec::new();
        if let Some(cell) = self.cells.get(&sector) {
            for writer in &cell.writers {
                add_all(&mut set, &self.writes[writer].at(sector).new);
            }
        }
        set
    }
}
