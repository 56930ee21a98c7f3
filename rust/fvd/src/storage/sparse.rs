//! Sparse bytes in memory: what a file or a device holds. A copy shares every page that neither side changes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Allocation, Space};

type Page = [u8; SparseBytes::PAGE as usize];

/// The content of a file in memory. Holes take no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseBytes {
    len: u64,
    /// Pages by number. A missing page reads as zeros. No byte at or beyond `len` is set.
    pages: BTreeMap<u64, Arc<Page>>,
}

/// The page number, the offset in the page, and how many of `len` bytes the page has from that offset.
fn locate(offset: u64, len: usize) -> (u64, usize, usize) {
    let at = offset % SparseBytes::PAGE;
    let count = (SparseBytes::PAGE - at).min(len as u64);
    (offset / SparseBytes::PAGE, at as usize, count as usize)
}

/// The pages that the bytes touch.
fn pages_of(start: u64, end: u64) -> Range<u64> {
    if start >= end {
        return 0..0;
    }
    start / SparseBytes::PAGE..end.div_ceil(SparseBytes::PAGE)
}

impl SparseBytes {
    /// Unit of allocation, in bytes.
    pub const PAGE: u64 = 4096;

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Truncates or extends to `len` bytes. What is new is a hole.
    pub fn set_len(&mut self, len: u64) {
        self.zero(len, self.len.next_multiple_of(Self::PAGE), Space::Free);
        self.len = len;
    }

    /// Sets the length, and leaves the pages as they are. The caller makes sure that no byte at or beyond `len`
    /// is set in the end.
    pub fn force_len(&mut self, len: u64) {
        self.len = len;
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
            let Some(next) = offset.checked_add(count as u64) else {
                return buf.fill(0);
            };
            offset = next;
        }
    }

    /// Writes `buf` at `offset`. Grows if the write ends beyond the end.
    pub fn write(&mut self, mut buf: &[u8], mut offset: u64) {
        if !buf.is_empty() {
            self.len = self.len.max(offset + buf.len() as u64);
        }
        while !buf.is_empty() {
            let (page, at, count) = locate(offset, buf.len());
            Arc::make_mut(self.page(page))[at..at + count].copy_from_slice(&buf[..count]);
            buf = &buf[count..];
            offset += count as u64;
        }
    }

    fn page(&mut self, number: u64) -> &mut Arc<Page> {
        let zeros = || Arc::new([0; Self::PAGE as usize]);
        self.pages.entry(number).or_insert_with(zeros)
    }

    /// Zeroes `start..end` (bytes). With [`Space::Free`], pages that lie entirely in the range become holes; with
    /// [`Space::Allocate`], no page of the range is a hole afterwards.
    pub fn zero(&mut self, start: u64, end: u64, space: Space) {
        if space == Space::Allocate {
            for number in pages_of(start, end) {
                self.page(number);
            }
        }
        for number in self.pages_with_storage(start, end) {
            let first = number * Self::PAGE;
            let from = start.max(first) - first;
            let to = (end - first).min(Self::PAGE);
            if space == Space::Free && (from, to) == (0, Self::PAGE) {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                Arc::make_mut(page)[from as usize..to as usize].fill(0);
            }
        }
    }

    /// Numbers of the pages that `start..end` (bytes) touches and that are not holes, in ascending order.
    #[must_use]
    pub fn pages_with_storage(&self, start: u64, end: u64) -> Vec<u64> {
        self.pages
            .range(pages_of(start, end))
            .map(|(number, _)| *number)
            .collect()
    }

    /// Number of pages that `start..end` (bytes) touches and that are holes.
    #[must_use]
    pub fn missing_pages(&self, start: u64, end: u64) -> u64 {
        let pages = pages_of(start, end);
        (pages.end - pages.start) - self.pages.range(pages).count() as u64
    }

    /// Whether the page of the byte is not a hole.
    #[must_use]
    pub fn has_storage(&self, offset: u64) -> bool {
        self.pages.contains_key(&(offset / Self::PAGE))
    }

    /// As [`Storage::allocation`](super::Storage::allocation).
    #[must_use]
    pub fn allocation(&self, offset: u64, len: u64) -> (Allocation, u64) {
        if offset >= self.len {
            return (Allocation::Hole, len);
        }
        let first = offset / Self::PAGE;
        let pages = self.pages.range(first..).map(|(number, _)| *number);
        let run = (first..)
            .zip(pages.clone())
            .take((len / Self::PAGE + 2) as usize)
            .take_while(|(expected, number)| expected == number)
            .count() as u64;
        if run > 0 {
            let until = ((first + run) * Self::PAGE).min(self.len);
            return (Allocation::Data, (until - offset).min(len));
        }
        // After the last page there is only a hole, also beyond the end.
        let until = pages.clone().next().map(|number| number * Self::PAGE);
        (Allocation::Hole, until.map_or(len, |until| (until - offset).min(len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> SparseBytes {
        let mut bytes = SparseBytes::default();
        bytes.write(&[1; 10_000], 0);
        bytes
    }

    #[test]
    fn a_copy_does_not_see_what_is_written_to_the_original() {
        let mut original = filled();
        let copy = original.clone();
        original.write(&[2; 100], 5000);
        assert_eq!(copy, filled());
        let mut found = [0; 100];
        original.read(&mut found, 5000);
        assert_eq!(found, [2; 100]);
    }

    #[test]
    fn what_was_cut_off_reads_as_zeros_when_the_file_grows_again() {
        let mut bytes = filled();
        bytes.set_len(5000);
        bytes.set_len(20_000);
        let mut found = [9; 10_000];
        bytes.read(&mut found, 4000);
        assert_eq!(found[..1000], [1; 1000]);
        assert_eq!(found[1000..], [0; 9000]);
        assert_eq!(bytes.allocation(0, 20_000), (Allocation::Data, 8192));
        assert_eq!(bytes.allocation(8192, 20_000), (Allocation::Hole, 20_000));
    }

    #[test]
    fn zeros_free_whole_pages_or_keep_them() {
        let mut bytes = filled();
        bytes.zero(100, 9000, Space::Keep);
        assert_eq!(bytes.missing_pages(0, 12_288), 0);
        bytes.zero(100, 9000, Space::Free);
        assert_eq!(bytes.pages_with_storage(0, 12_288), [0, 2]);
        bytes.zero(100, 9000, Space::Allocate);
        assert_eq!(bytes.missing_pages(0, 12_288), 0);
        assert!(!bytes.has_storage(12_288));
    }
}
