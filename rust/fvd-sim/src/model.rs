//! The reference: which contents each sector of the virtual disk may have.
//!
//! `now` is what a read may give while the machine runs, `may` what may be found after a crash. A
//! write adds to `may` when it starts; a flush removes what it has made obsolete. Writes that
//! overlap in time leave any of them. Whatever has been observed is the only content from then on.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::medium::{SECTOR, Sector};

#[cfg(test)]
mod tests;

type Content = Rc<Sector>;

/// A virtual disk.
pub struct Model {
    cells: Vec<Cell>,
    /// Number of the last write or flush that started.
    clock: u64,
    writes: BTreeMap<u64, Write>,
    flushes: BTreeMap<u64, BTreeMap<u64, Vec<Content>>>,
    reads: BTreeMap<u64, Read>,
}

struct Cell {
    now: Vec<Content>,
    /// With the number of the write that brought it.
    may: Vec<(Content, u64)>,
    /// Writes in flight.
    writers: Vec<u64>,
}

struct Write {
    sectors: BTreeMap<u64, Writing>,
    /// Sectors written in part.
    edges: Vec<u64>,
}

struct Writing {
    /// More than one where the sector is written in part and its content was not known.
    new: Vec<Content>,
    /// Writes that ended in the meantime.
    overtaken: Vec<Content>,
}

struct Read {
    offset: u64,
    allowed: BTreeMap<u64, Vec<Content>>,
    /// Sectors without a write in flight at any time since the start.
    quiet: Vec<u64>,
}

/// A sector with a content that it must not have.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Number of the sector.
    pub sector: u64,
    /// What was seen and what is allowed, for people.
    pub detail: String,
}

fn add(set: &mut Vec<Content>, content: &Content) {
    if !set.iter().any(|other| other == content) {
        set.push(content.clone());
    }
}

fn add_all(set: &mut Vec<Content>, contents: &[Content]) {
    for content in contents {
        add(set, content);
    }
}

fn describe(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| *byte == 0) {
        return "zeros".to_owned();
    }
    let middle = bytes.len() / 2;
    format!(
        "{:02x?}..{:02x?}",
        &bytes[..bytes.len().min(8)],
        &bytes[middle..bytes.len().min(middle + 4)]
    )
}

fn mismatch<'a>(sector: u64, bytes: &[u8], allowed: impl Iterator<Item = &'a [u8]>) -> Mismatch {
    let allowed: Vec<String> = allowed.map(describe).collect();
    let detail = format!(
        "sector {sector} (byte {}) holds {}, allowed: {}",
        sector * SECTOR,
        describe(bytes),
        allowed.join(" | ")
    );
    Mismatch { sector, detail }
}

/// The part of a sector that `start..end` (bytes of the disk) covers.
fn part_of(sector: u64, start: u64, end: u64) -> std::ops::Range<usize> {
    let first = sector * SECTOR;
    (start.max(first) - first) as usize..(end.min(first + SECTOR) - first) as usize
}

fn sectors_of(start: u64, end: u64) -> std::ops::Range<u64> {
    if start == end {
        0..0
    } else {
        start / SECTOR..end.div_ceil(SECTOR)
    }
}

impl Model {
    /// A disk with this (durable) content, a multiple of 512 bytes.
    #[must_use]
    pub fn new(content: &[u8]) -> Self {
        let (sectors, _) = content.as_chunks::<{ SECTOR as usize }>();
        let cell = |bytes: &Sector| {
            let content = Rc::new(*bytes);
            Cell {
                now: vec![content.clone()],
                may: vec![(content, 0)],
                writers: Vec::new(),
            }
        };
        Self {
            cells: sectors.iter().map(cell).collect(),
            clock: 0,
            writes: BTreeMap::new(),
            flushes: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// Whether a write of these bytes would meet one in flight in a sector that one of the two
    /// writes in part. The model has no answer to that.
    #[must_use]
    pub fn meets_part(&self, start: u64, end: u64) -> bool {
        let partial = |sector: &u64| part_of(*sector, start, end).len() < SECTOR as usize;
        sectors_of(start, end).any(|sector| {
            let writers = &self.cells[sector as usize].writers;
            let edge = |id: &u64| self.writes[id].edges.contains(&sector);
            !writers.is_empty() && (partial(&sector) || writers.iter().any(edge))
        })
    }

    /// A write of `data` starts.
    ///
    /// # Panics
    ///
    /// If it reaches beyond the disk.
    pub fn begin_write(&mut self, offset: u64, data: &[u8]) -> u64 {
        self.clock += 1;
        let id = self.clock;
        let end = offset + data.len() as u64;
        let mut write = Write {
            sectors: BTreeMap::new(),
            edges: Vec::new(),
        };
        for sector in sectors_of(offset, end) {
            let part = part_of(sector, offset, end);
            let source = (sector * SECTOR + part.start as u64 - offset) as usize;
            let bytes = &data[source..source + part.len()];
            let cell = &mut self.cells[sector as usize];
            let mut new = Vec::new();
            if part.len() == SECTOR as usize {
                new.push(Rc::new(bytes.try_into().expect("a whole sector")));
            } else {
                write.edges.push(sector);
                for old in &cell.now {
                    let mut content = **old;
                    content[part.clone()].copy_from_slice(bytes);
                    add(&mut new, &Rc::new(content));
                }
            }
            cell.may.extend(new.iter().map(|content| (content.clone(), id)));
            cell.writers.push(id);
            for read in self.reads.values_mut() {
                if let Some(allowed) = read.allowed.get_mut(&sector) {
                    add_all(allowed, &new);
                    read.quiet.retain(|quiet| *quiet != sector);
                }
            }
            let overtaken = Vec::new();
            write.sectors.insert(sector, Writing { new, overtaken });
        }
        self.writes.insert(id, write);
        id
    }

    /// A write has been acknowledged; `durable`: as if flushed with it.
    pub fn ack_write(&mut self, id: u64, durable: bool) {
        let write = self.end_write(id);
        for (sector, mut writing) in write.sectors {
            let mut flying: Vec<Content> = Vec::new();
            for other in &self.cells[sector as usize].writers {
                flying.extend(self.writes[other].sectors[&sector].new.iter().cloned());
            }
            let cell = &mut self.cells[sector as usize];
            writing
                .overtaken
                .iter()
                .for_each(|content| add(&mut writing.new, content));
            cell.now = writing.new;
            if durable {
                let now = &cell.now;
                cell.may
                    .retain(|(content, _)| now.contains(content) || flying.contains(content));
            }
        }
    }

    /// A write has failed or was cancelled: each sector is old or new, and nothing lands later.
    pub fn fail_write(&mut self, id: u64) {
        let write = self.end_write(id);
        for (sector, writing) in write.sectors {
            let now = &mut self.cells[sector as usize].now;
            add_all(now, &writing.new);
        }
    }

    fn end_write(&mut self, id: u64) -> Write {
        let write = self.writes.remove(&id).expect("the write is in flight");
        for (sector, writing) in &write.sectors {
            let writers = &mut self.cells[*sector as usize].writers;
            writers.retain(|writer| *writer != id);
            for other in writers {
                let other = self.writes.get_mut(other).expect("the write is in flight");
                let other = other
                    .sectors
                    .get_mut(sector)
                    .expect("it is among the writers of the sector");
                writing
                    .new
                    .iter()
                    .for_each(|content| add(&mut other.overtaken, content));
            }
        }
        write
    }

    /// A flush starts.
    pub fn begin_flush(&mut self) -> u64 {
        self.clock += 1;
        let mut kept = BTreeMap::new();
        for (sector, cell) in self.cells.iter().enumerate() {
            if cell.may.len() > 1 {
                let sector = sector as u64;
                let mut set = cell.now.clone();
                for writer in &cell.writers {
                    self.writes[writer].sectors[&sector]
                        .new
                        .iter()
                        .for_each(|content| add(&mut set, content));
                }
                kept.insert(sector, set);
            }
        }
        self.flushes.insert(self.clock, kept);
        self.clock
    }

    /// A flush has succeeded.
    ///
    /// # Panics
    ///
    /// If no such flush is in flight.
    pub fn ack_flush(&mut self, id: u64) {
        let kept = self.flushes.remove(&id).expect("the flush is in flight");
        for (sector, set) in kept {
            let cell = &mut self.cells[sector as usize];
            cell.may
                .retain(|(content, number)| *number > id || set.contains(content));
            assert!(!cell.may.is_empty(), "a sector has a content");
        }
    }

    /// A flush has failed or was cancelled: it promises nothing.
    pub fn fail_flush(&mut self, id: u64) {
        self.flushes.remove(&id);
    }

    /// A read of `len` bytes starts.
    pub fn begin_read(&mut self, offset: u64, len: u64) -> u64 {
        self.clock += 1;
        let mut read = Read {
            offset,
            allowed: BTreeMap::new(),
            quiet: Vec::new(),
        };
        for sector in sectors_of(offset, offset + len) {
            let cell = &self.cells[sector as usize];
            let mut allowed = cell.now.clone();
            for writer in &cell.writers {
                self.writes[writer].sectors[&sector]
                    .new
                    .iter()
                    .for_each(|content| add(&mut allowed, content));
            }
            if cell.writers.is_empty() {
                read.quiet.push(sector);
            }
            read.allowed.insert(sector, allowed);
        }
        self.reads.insert(self.clock, read);
        self.clock
    }

    /// A read has given `data`. What it saw of sectors that nobody wrote to is their content.
    ///
    /// # Panics
    ///
    /// If no such read is in flight.
    pub fn end_read(&mut self, id: u64, data: &[u8]) -> Result<(), Mismatch> {
        let read = self.reads.remove(&id).expect("the read is in flight");
        let end = read.offset + data.len() as u64;
        for (sector, allowed) in &read.allowed {
            let part = part_of(*sector, read.offset, end);
            let source = (*sector * SECTOR + part.start as u64 - read.offset) as usize;
            let bytes = &data[source..source + part.len()];
            if !allowed.iter().any(|content| &content[part.clone()] == bytes) {
                let allowed = allowed.iter().map(|content| &content[part.clone()]);
                return Err(mismatch(*sector, bytes, allowed));
            }
            if read.quiet.contains(sector) {
                let now = &mut self.cells[*sector as usize].now;
                now.retain(|content| &content[part.clone()] == bytes);
            }
        }
        Ok(())
    }

    /// A read has failed or was cancelled.
    pub fn fail_read(&mut self, id: u64) {
        self.reads.remove(&id);
    }

    /// The first sector whose content is not allowed after a crash at this moment.
    pub fn check_crashed(&self, content: &[u8]) -> Result<(), Mismatch> {
        let (sectors, _) = content.as_chunks::<{ SECTOR as usize }>();
        for (sector, (bytes, cell)) in sectors.iter().zip(&self.cells).enumerate() {
            if !cell.may.iter().any(|(content, _)| **content == *bytes) {
                let allowed = cell.may.iter().map(|(content, _)| content.as_slice());
                return Err(mismatch(sector as u64, bytes, allowed));
            }
        }
        Ok(())
    }

    /// The first sector whose content is not allowed after a close that succeeded.
    pub fn check_closed(&self, content: &[u8]) -> Result<(), Mismatch> {
        let (sectors, _) = content.as_chunks::<{ SECTOR as usize }>();
        for (sector, (bytes, cell)) in sectors.iter().zip(&self.cells).enumerate() {
            if !cell.now.iter().any(|content| **content == *bytes) {
                let allowed = cell.now.iter().map(|content| content.as_slice());
                return Err(mismatch(sector as u64, bytes, allowed));
            }
        }
        Ok(())
    }

    /// From here on the disk holds this, durably, and nothing is in flight.
    pub fn collapse(&mut self, content: &[u8]) {
        *self = Self {
            clock: self.clock,
            ..Self::new(content)
        };
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.cells.len() as u64 * SECTOR
    }
}
