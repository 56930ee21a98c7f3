//! Sparse bytes that are cheap to copy: the content of a disk at one moment.

use std::ops::Range;

use fvd::storage::{Allocation, Space, SparseBytes};

/// Bytes in a sector. A power cut leaves a sector entirely old or entirely new.
pub const SECTOR: u64 = 512;

/// The bytes of one sector.
pub type Sector = [u8; SECTOR as usize];

/// Content of a file or device. A copy shares every page that neither side changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Medium(SparseBytes);

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
        self.0.len()
    }

    /// Fills `buf` from `offset`. Bytes at and beyond the end read as zeros.
    pub fn read(&self, buf: &mut [u8], offset: u64) {
        self.0.read(buf, offset);
    }

    /// Writes `buf` at `offset`. A file that ends before the end of the write grows.
    pub fn write(&mut self, buf: &[u8], offset: u64) {
        self.0.write(buf, offset);
    }

    /// Zeroes `start..end`. Pages that lie entirely in the range become holes.
    pub fn zero(&mut self, start: u64, end: u64) {
        self.0.zero(start, end, Space::Free);
    }

    /// Truncates or extends the file to `len` bytes.
    pub fn set_size(&mut self, len: u64) {
        self.0.set_len(len);
    }

    /// Number of pages in the range that have no storage yet.
    #[must_use]
    pub fn missing_pages(&self, start: u64, end: u64) -> u64 {
        self.0.missing_pages(start, end)
    }

    /// Whether the sector lies in a page with storage.
    #[must_use]
    pub fn has_storage(&self, sector: u64) -> bool {
        self.0.has_storage(sector * SECTOR)
    }

    /// The given sectors that lie in pages with storage.
    pub fn sectors_with_storage(&self, sectors: Range<u64>) -> impl Iterator<Item = u64> {
        const EACH: u64 = SparseBytes::PAGE / SECTOR;
        let pages = self.0.pages_with_storage(sectors.start * SECTOR, sectors.end * SECTOR);
        let firsts = pages.into_iter().map(|page| page * EACH);
        firsts.flat_map(move |first| first.max(sectors.start)..(first + EACH).min(sectors.end))
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
        let len = self.0.len();
        self.0.write(bytes, sector * SECTOR);
        self.0.force_len(len);
    }

    /// As [`fvd::storage::Storage::allocation`].
    #[must_use]
    pub fn allocation(&self, offset: u64, len: u64) -> (Allocation, u64) {
        self.0.allocation(offset, len)
    }
}
