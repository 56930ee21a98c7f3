//! Sparse bytes that are cheap to copy: the content of a disk at one moment.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fvd::storage::Allocation;

/// Bytes in a sector. A power cut leaves a sector entirely old or entirely new.
pub const SECTOR: u64 = 512;

/// Bytes in a page, the unit that copies share.
const PAGE: u64 = 4096;

/// The bytes of one sector.
pub type Sector = [u8; SECTOR as usize];

/// Content of a file or device. A copy shares every page that neither side changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Medium {
    len: u64,
    /// Pages by number. A missing page reads as zeros. No byte at or beyond `len` is set.
    pages: BTreeMap<u64, Arc<[u8; PAGE as usize]>>,
}

/// The page number, the offset in the page, and how many of `len` bytes the page has from that offset.
fn locate(offset: u64, len: usize) -> (u64, usize, usize) {
    let at = offset % PAGE;
    let count = (PAGE - at).min(len as u64);
    (offset / PAGE, at as usize, count as usize)
}

impl Medium {
    /// A file that holds `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut medium = Self::default();
        medium.write(bytes, 0);
        medium
    }

    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Fills `buf` from `offset`. Bytes at and beyond the end read as zeros.
    pub fn read(&self, mut buf: &mut [u8], mut offset: u64) {
        while !buf.is_empty() {
            let (page, at, count) = locate(offset, buf.len());
            let (front, back) = buf.split_at_mut(count);
            match self.pages.get(&page) {
                Some(page) => front.copy_from_slice(&page[at..at + count]),
                None => front.fill(0),
            }
            buf = back;
            offset += count as u64;
        }
    }

    /// Writes `buf` at `offset`. A file that ends before the end of the write grows.
    pub fn write(&mut self, mut buf: &[u8], mut offset: u64) {
        if !buf.is_empty() {
            self.len = self.len.max(offset + buf.len() as u64);
        }
        while !buf.is_empty() {
            let (page, at, count) = locate(offset, buf.len());
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[at..at + count].copy_from_slice(&buf[..count]);
            buf = &buf[count..];
            offset += count as u64;
        }
    }

    /// Zeroes `start..end`. Pages that lie entirely in the range become holes.
    pub fn zero(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let numbers: Vec<u64> = self
            .pages
            .range(start / PAGE..=(end - 1) / PAGE)
            .map(|(n, _)| *n)
            .collect();
        for number in numbers {
            let first = number * PAGE;
            let from = start.max(first) - first;
            let to = (end - first).min(PAGE);
            if (from, to) == (0, PAGE) {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                Arc::make_mut(page)[from as usize..to as usize].fill(0);
            }
        }
    }

    /// Truncates or extends the file to `len` bytes.
    pub fn set_size(&mut self, len: u64) {
        self.zero(len, self.len.next_multiple_of(PAGE));
        self.len = len;
    }

    /// Number of pages in the range that have no storage yet.
    #[must_use]
    pub fn missing_pages(&self, start: u64, end: u64) -> u64 {
        if start >= end {
            return 0;
        }
        let pages = start / PAGE..end.div_ceil(PAGE);
        (pages.end - pages.start) - self.pages.range(pages).count() as u64
    }

    /// Whether the sector lies in a page with storage.
    #[must_use]
    pub fn has_storage(&self, sector: u64) -> bool {
        self.pages.contains_key(&(sector * SECTOR / PAGE))
    }

    /// The given sectors that lie in pages with storage.
    pub fn sectors_with_storage(&self, sectors: Range<u64>) -> impl Iterator<Item = u64> {
        const EACH: u64 = PAGE / SECTOR;
        let pages = if sectors.is_empty() {
            0..0
        } else {
            sectors.start / EACH..sectors.end.div_ceil(EACH)
        };
        let pages = self.pages.range(pages).map(|(page, _)| page * EACH);
        pages.flat_map(move |first| first.max(sectors.start)..(first + EACH).min(sectors.end))
    }

    /// The bytes of a sector. Bytes beyond the end are zeros.
    #[must_use]
    pub fn sector(&self, sector: u64) -> Sector {
        let mut bytes = [0; SECTOR as usize];
        self.read(&mut bytes, sector * SECTOR);
        bytes
    }

    /// Replaces a sector. The length does not change; after setting sectors beyond it, the caller must set
    /// it.
    pub fn set_sector(&mut self, sector: u64, bytes: &Sector) {
        let len = self.len;
        self.write(bytes, sector * SECTOR);
        self.len = len;
    }

    /// As [`fvd::storage::Storage::allocation`].
    #[must_use]
    pub fn allocation(&self, offset: u64, len: u64) -> (Allocation, u64) {
        if offset >= self.len {
            return (Allocation::Hole, len);
        }
        let first = offset / PAGE;
        let present = |page: &u64| self.pages.contains_key(page);
        let last = (self.len.min(offset.saturating_add(len)) - 1) / PAGE;
        if present(&first) {
            let end = (first..=last)
                .find(|page| !present(page))
                .map_or(self.len, |page| page * PAGE);
            return (Allocation::Data, (end - offset).min(len));
        }
        match self.pages.range(first..=last).next() {
            Some((page, _)) => (Allocation::Hole, (page * PAGE - offset).min(len)),
            None if last == (self.len - 1) / PAGE => (Allocation::Hole, len),
            None => (Allocation::Hole, ((last + 1) * PAGE - offset).min(len)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_what_is_written_to_the_original() {
        let mut original = Medium::from_bytes(&[1; 10_000]);
        let copy = original.clone();
        original.write(&[2; 100], 5000);
        assert_eq!(copy, Medium::from_bytes(&[1; 10_000]));
        assert_eq!(original.sector(9)[5000 % 512..][..100], [2; 100]);
    }

    #[test]
    fn what_was_cut_off_reads_as_zeros_when_the_file_grows_again() {
        let mut medium = Medium::from_bytes(&[1; 10_000]);
        medium.set_size(5000);
        medium.set_size(20_000);
        let mut bytes = [9; 10_000];
        medium.read(&mut bytes, 4000);
        assert_eq!(bytes[..1000], [1; 1000]);
        assert_eq!(bytes[1000..], [0; 9000]);
        assert_eq!(medium.allocation(0, 20_000), (Allocation::Data, 8192));
        assert_eq!(medium.allocation(8192, 20_000), (Allocation::Hole, 20_000));
    }
}
