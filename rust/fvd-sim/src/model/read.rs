//! Reads.

use std::ops::Range;

use super::check::{Mismatch, mismatch};
use super::{Content, Model, add_all, part_of, sectors_of};
use crate::medium::SECTOR;

/// A read in flight.
pub(super) struct Read {
    offset: u64,
    sectors: Range<u64>,
    allowed: Vec<Allowed>,
}

struct Allowed {
    contents: Vec<Content>,
    /// No write was in flight at any time since the read started.
    undisturbed: bool,
}

impl Read {
    /// A write of `sectors` starts while this read is in flight.
    pub(super) fn meets<'a>(&mut self, sectors: &Range<u64>, new: impl Fn(u64) -> &'a Vec<Content>) {
        for sector in sectors.start.max(self.sectors.start)..sectors.end.min(self.sectors.end) {
            let allowed = &mut self.allowed[(sector - self.sectors.start) as usize];
            add_all(&mut allowed.contents, new(sector));
            allowed.undisturbed = false;
        }
    }
}

impl Model {
    /// A read of `len` bytes starts. Returns its number.
    pub fn begin_read(&mut self, offset: u64, len: u64) -> u64 {
        self.clock += 1;
        let sectors = sectors_of(offset, offset + len);
        let allowed = |sector| match self.cells.get(&sector) {
            None => Allowed {
                contents: vec![self.original(sector)],
                undisturbed: true,
            },
            Some(cell) => {
                let mut contents = cell.now.clone();
                add_all(&mut contents, &self.flying(sector));
                let undisturbed = cell.writers.is_empty();
                Allowed { contents, undisturbed }
            }
        };
        let read = Read {
            offset,
            allowed: sectors.clone().map(allowed).collect(),
            sectors,
        };
        self.reads.insert(self.clock, read);
        self.clock
    }

    /// A read has returned `data`. For sectors that no write touched during the read, this is now the only
    /// content.
    ///
    /// # Panics
    ///
    /// If no such read is in flight.
    pub fn end_read(&mut self, id: u64, data: &[u8]) -> Result<(), Mismatch> {
        let read = self.reads.remove(&id).expect("the read is in flight");
        let end = read.offset + data.len() as u64;
        for (sector, allowed) in read.sectors.zip(&read.allowed) {
            let part = part_of(sector, read.offset, end);
            let source = (sector * SECTOR + part.start as u64 - read.offset) as usize;
            let bytes = &data[source..source + part.len()];
            let contents = &allowed.contents;
            if !contents.iter().any(|content| &content[part.clone()] == bytes) {
                let contents = contents.iter().map(|content| &content[part.clone()]);
                return Err(mismatch(sector, bytes, contents));
            }
            if let Some(cell) = self.cells.get_mut(&sector).filter(|_| allowed.undisturbed) {
                cell.now.retain(|content| &content[part.clone()] == bytes);
            }
        }
        Ok(())
    }

    /// A read has failed or was cancelled.
    pub fn fail_read(&mut self, id: u64) {
        self.reads.remove(&id);
    }
}
