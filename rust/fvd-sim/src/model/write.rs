//! Writes and flushes.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Content, Model, add, add_all, part_of, sectors_of};
use crate::medium::{SECTOR, Sector};

/// A write in flight.
pub(super) struct Write {
    first: u64,
    sectors: Vec<Writing>,
    /// Sectors written in part.
    pub(super) edges: Vec<u64>,
}

#[derive(Default)]
pub(super) struct Writing {
    /// More than one content where the write covers the sector in part and the old content was not known.
    pub(super) new: Vec<Content>,
    /// Contents of writes that ended while this write was in flight.
    overtaken: Vec<Content>,
}

impl Write {
    pub(super) fn at(&self, sector: u64) -> &Writing {
        &self.sectors[(sector - self.first) as usize]
    }
}

impl Model {
    /// A write of `data` starts. Returns its number.
    ///
    /// # Panics
    ///
    /// If it reaches beyond the disk.
    pub fn begin_write(&mut self, offset: u64, data: &[u8]) -> u64 {
        self.clock += 1;
        let id = self.clock;
        let end = offset + data.len() as u64;
        assert!(end <= self.size(), "writes lie within the disk");
        let sectors = sectors_of(offset, end);
        let mut write = Write {
            first: sectors.start,
            sectors: Vec::with_capacity((sectors.end - sectors.start) as usize),
            edges: Vec::new(),
        };
        let zeros = Rc::new([0; SECTOR as usize]);
        for sector in sectors.clone() {
            let part = part_of(sector, offset, end);
            let source = (sector * SECTOR + part.start as u64 - offset) as usize;
            let bytes = &data[source..source + part.len()];
            let cell = self.cell(sector);
            let mut new = Vec::new();
            if let Ok(whole) = <Sector>::try_from(bytes) {
                // All zero sectors share one allocation: zeroing can be long.
                let is_zero = whole == [0; SECTOR as usize];
                new.push(if is_zero { zeros.clone() } else { Rc::new(whole) });
            } else {
                write.edges.push(sector);
                for old in &cell.now {
                    let mut content = **old;
                    content[part.clone()].copy_from_slice(bytes);
                    add(&mut new, &Rc::new(content));
                }
            }
            self.unsettled.insert(sector);
            let cell = self.cell(sector);
            cell.may.extend(new.iter().map(|content| (content.clone(), id)));
            cell.writers.push(id);
            let overtaken = Vec::new();
            write.sectors.push(Writing { new, overtaken });
        }
        for read in self.reads.values_mut() {
            read.meets(&sectors, |sector| &write.at(sector).new);
        }
        self.writes.insert(id, write);
        id
    }

    /// A write has been acknowledged. `durable`: as if it had been flushed too (FUA).
    pub fn ack_write(&mut self, id: u64, durable: bool) {
        let write = self.end_write(id);
        for (sector, mut writing) in (write.first..).zip(write.sectors) {
            let flying = if durable { self.flying(sector) } else { Vec::new() };
            let cell = self.cell(sector);
            add_all(&mut writing.new, &writing.overtaken);
            cell.now = writing.new;
            cell.given_up = false;
            if durable {
                let now = &cell.now;
                cell.may
                    .retain(|(content, _)| now.contains(content) || flying.contains(content));
            }
        }
    }

    /// A write has failed or was cancelled. Each sector is old or new, and none of the write arrives later.
    pub fn fail_write(&mut self, id: u64) {
        let write = self.end_write(id);
        for (sector, writing) in (write.first..).zip(&write.sectors) {
            add_all(&mut self.cell(sector).now, &writing.new);
        }
    }

    fn end_write(&mut self, id: u64) -> Write {
        let write = self.writes.remove(&id).expect("the write is in flight");
        for (sector, writing) in (write.first..).zip(&write.sectors) {
            let cell = self.cells.get_mut(&sector).expect("a write makes cells");
            cell.writers.retain(|writer| *writer != id);
            for other in &cell.writers {
                let other = self.writes.get_mut(other).expect("the write is in flight");
                let other = &mut other.sectors[(sector - other.first) as usize];
                add_all(&mut other.overtaken, &writing.new);
            }
        }
        write
    }

    /// A flush starts. Returns its number.
    pub fn begin_flush(&mut self) -> u64 {
        self.clock += 1;
        let mut kept = BTreeMap::new();
        let cells = &self.cells;
        self.unsettled.retain(|sector| cells[sector].may.len() > 1);
        for sector in &self.unsettled {
            let cell = &self.cells[sector];
            if cell.given_up {
                continue;
            }
            let mut set = cell.now.clone();
            for writer in &cell.writers {
                add_all(&mut set, &self.writes[writer].at(*sector).new);
            }
            kept.insert(*sector, set);
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
            let cell = self.cell(sector);
            cell.may
                .retain(|(content, number)| *number > id || set.contains(content));
            assert!(!cell.may.is_empty(), "a sector has a content");
        }
    }

    /// A flush has failed or was cancelled. It guarantees nothing.
    pub fn fail_flush(&mut self, id: u64) {
        self.flushes.remove(&id);
    }
}
