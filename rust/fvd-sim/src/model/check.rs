//! Compares the content found on the disk with the content that the model allows.

use std::ops::Range;
use std::rc::Rc;
use std::slice::from_ref;

use super::{Cell, Model, add};
use crate::medium::{SECTOR, Sector};

/// A sector whose content the model does not allow.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Number of the sector.
    pub sector: u64,
    /// The content found and the contents allowed, for the error message.
    pub detail: String,
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

pub(super) fn mismatch<'a>(sector: u64, bytes: &[u8], allowed: impl Iterator<Item = &'a [u8]>) -> Mismatch {
    let allowed: Vec<String> = allowed.map(describe).collect();
    let detail = format!(
        "sector {sector} (byte {}) holds {}, allowed: {}",
        sector * SECTOR,
        describe(bytes),
        allowed.join(" | ")
    );
    Mismatch { sector, detail }
}

/// Splits `content`, the bytes of all `ranges` one after the other, by range. `ranges` are bytes, whole
/// sectors, ascending; the ranges returned are sector numbers.
fn pieces<'a>(ranges: &'a [Range<u64>], content: &'a [u8]) -> impl Iterator<Item = (Range<u64>, &'a [u8])> {
    let mut rest = content;
    ranges.iter().map(move |range| {
        let (piece, after) = rest.split_at((range.end - range.start) as usize);
        rest = after;
        (range.start / SECTOR..range.end / SECTOR, piece)
    })
}

/// The bytes of `sector` in `bytes`, whose first sector is `first`.
fn sector_in(bytes: &[u8], first: u64, sector: u64) -> &Sector {
    &bytes.as_chunks::<{ SECTOR as usize }>().0[(sector - first) as usize]
}

impl Model {
    /// Fails with the first sector whose content is not allowed after a crash at this moment.
    pub fn check_crashed(&self, content: &[u8]) -> Result<(), Mismatch> {
        self.check_crashed_in(from_ref(&(0..content.len() as u64)), content)
    }

    /// As [`Model::check_crashed`], for some ranges (bytes, whole sectors, ascending). `content` has the
    /// bytes of the ranges, one range after the other.
    pub fn check_crashed_in(&self, ranges: &[Range<u64>], content: &[u8]) -> Result<(), Mismatch> {
        self.check(ranges, content, |cell| {
            cell.may.iter().map(|(content, _)| &**content).collect()
        })
    }

    /// Fails with the first sector whose content is not allowed after a close that succeeded.
    pub fn check_closed(&self, content: &[u8]) -> Result<(), Mismatch> {
        self.check_closed_in(from_ref(&(0..content.len() as u64)), content)
    }

    /// As [`Model::check_closed`], for some ranges.
    pub fn check_closed_in(&self, ranges: &[Range<u64>], content: &[u8]) -> Result<(), Mismatch> {
        self.check(ranges, content, |cell| cell.now.iter().map(Rc::as_ref).collect())
    }

    fn check(
        &self,
        ranges: &[Range<u64>],
        content: &[u8],
        allowed: impl Fn(&Cell) -> Vec<&Sector>,
    ) -> Result<(), Mismatch> {
        for (sectors, found) in pieces(ranges, content) {
            let first = sectors.start;
            let mut expected = vec![0; found.len()];
            self.origin.read(&mut expected, first * SECTOR);
            let expected = expected.as_chunks_mut::<{ SECTOR as usize }>().0;
            for (&sector, cell) in self.cells.range(sectors) {
                let (bytes, allowed) = (sector_in(found, first, sector), allowed(cell));
                if !allowed.contains(&bytes) {
                    let allowed = allowed.iter().map(|content| content.as_slice());
                    return Err(mismatch(sector, bytes, allowed));
                }
                expected[(sector - first) as usize] = *bytes;
            }
            if *expected.as_flattened() == *found {
                continue;
            }
            for (sector, original) in (first..).zip(&*expected) {
                let bytes = sector_in(found, first, sector);
                if bytes != original {
                    return Err(mismatch(sector, bytes, std::iter::once(original.as_slice())));
                }
            }
        }
        Ok(())
    }

    /// The sectors of the ranges that have cells, each with the content found there.
    fn found_in_cells<'a>(&self, ranges: &'a [Range<u64>], content: &'a [u8]) -> Vec<(u64, &'a Sector)> {
        let in_piece = |(sectors, bytes): (Range<u64>, &'a [u8])| {
            let first = sectors.start;
            let cells = self.cells.range(sectors);
            cells.map(move |(&sector, _)| (sector, sector_in(bytes, first, sector)))
        };
        pieces(ranges, content).flat_map(in_piece).collect()
    }

    /// The process has died or has closed the image, and a new process finds `content`. No operation is in
    /// flight. A power cut may leave the same contents as before, until a flush succeeds. The ranges are
    /// those of [`Model::collapse_in`].
    ///
    /// `given_up`: a failed sync has marked pages of the cache clean that the disk may not have, and the
    /// kernel may drop them at any time. So a read may find anything that a power cut could leave, and no
    /// flush changes that.
    pub fn outlive_process(&mut self, ranges: &[Range<u64>], content: &[u8], given_up: bool) {
        for (sector, bytes) in self.found_in_cells(ranges, content) {
            let cell = self.cells.get_mut(&sector).expect("it has been found");
            if cell.may.iter().all(|(content, _)| **content == *bytes) {
                self.cells.remove(&sector);
                self.unsettled.remove(&sector);
                self.origin.set_sector(sector, bytes);
                continue;
            }
            let found = Rc::new(*bytes);
            cell.now = vec![found.clone()];
            cell.given_up = given_up;
            if given_up {
                for (content, _) in &cell.may {
                    add(&mut cell.now, content);
                }
            }
        }
        self.reads.clear();
        self.flushes.clear();
    }

    /// The kernel drops the cache. Where a failed sync had given up pages, the next read may find anything
    /// that a power cut could leave, regardless of what earlier reads found.
    pub fn lose_cache(&mut self) {
        for cell in self.cells.values_mut().filter(|cell| cell.given_up) {
            for (content, _) in &cell.may {
                add(&mut cell.now, content);
            }
        }
    }

    /// From here on the disk holds `content`, durably, and no operation is in flight.
    pub fn collapse(&mut self, content: &[u8]) {
        self.collapse_in(from_ref(&(0..content.len() as u64)), content);
    }

    /// As [`Model::collapse`]. The ranges must cover every sector that was written to, and `content` must
    /// have been checked.
    ///
    /// # Panics
    ///
    /// If a sector that was written to lies outside the ranges.
    pub fn collapse_in(&mut self, ranges: &[Range<u64>], content: &[u8]) {
        for (sector, bytes) in self.found_in_cells(ranges, content) {
            self.cells.remove(&sector);
            self.origin.set_sector(sector, bytes);
        }
        assert!(self.cells.is_empty(), "every sector that was written to has been read");
        let clock = self.clock;
        *self = Self::on(std::mem::take(&mut self.origin));
        self.clock = clock;
    }
}
