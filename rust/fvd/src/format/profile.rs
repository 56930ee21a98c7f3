//! The prefetch profile: the parts of the base image that a disk needs first, in the order of their first use
//! (docs/design/format.md, section 5).

use std::ops::Range;

use rangemap::RangeSet;
use zerocopy::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned, transmute};

#[cfg(test)]
mod tests;

/// Bytes of an entry on disk.
pub const ENTRY_SIZE: u64 = 12;

/// The most bytes of a profile. The rest of a larger region is unused. This bounds the memory of a profile,
/// whatever the header of an image says.
pub const MAX_SIZE: u64 = 16 << 20;

/// The default size, in bytes, of the profile region of a new image that gets a profile.
pub const DEFAULT_SIZE: u64 = 64 << 10;

/// Number of entries that a region of `size` bytes holds.
#[must_use]
pub const fn capacity(size: u64) -> u64 {
    let size = if size < MAX_SIZE { size } else { MAX_SIZE };
    size / ENTRY_SIZE
}

/// The fields as they lie on disk.
#[derive(FromBytes, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    offset: I64,
    len: U32,
}

const _: () = assert!(size_of::<Raw>() == ENTRY_SIZE as usize);

/// An entry as stored on disk: 12 packed bytes. An entry read from disk may contain any values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileEntry {
    /// Byte offset on the virtual disk.
    pub offset: i64,
    /// Length, in units of `unit_of_PrefetchProfileEntry_len` bytes.
    pub len: u32,
}

impl ProfileEntry {
    /// Decodes the bytes on disk.
    #[must_use]
    pub fn decode(bytes: &[u8; ENTRY_SIZE as usize]) -> Self {
        let raw: Raw = transmute!(*bytes);
        Self {
            offset: raw.offset.get(),
            len: raw.len.get(),
        }
    }

    /// The bytes on disk.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_SIZE as usize] {
        transmute!(Raw {
            offset: I64::new(self.offset),
            len: U32::new(self.len),
        })
    }

    /// The byte range on the virtual disk, if the length is in units of `unit` bytes. `None` if the offset is
    /// negative. The range may lie beyond the end of the disk.
    #[must_use]
    pub fn bytes(&self, unit: u64) -> Option<Range<u64>> {
        let start = u64::try_from(self.offset).ok()?;
        let len = u64::from(self.len).saturating_mul(unit);
        Some(start..start.saturating_add(len))
    }
}

/// Ranges of a disk in the order of their first use. Each unit occurs only once. Consecutive ranges that are
/// adjacent on the disk are merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Bytes of a unit.
    unit: u64,
    /// Bytes of the disk.
    disk_size: u64,
    /// The most entries.
    capacity: usize,
    /// The ranges, in units.
    runs: Vec<Range<u64>>,
    /// The units of all runs.
    seen: RangeSet<u64>,
}

impl Profile {
    /// An empty profile of at most `capacity` entries, for a disk of `disk_size` bytes (at most `i64::MAX`),
    /// in units of `unit` bytes.
    ///
    /// # Panics
    ///
    /// If `unit` is 0.
    #[must_use]
    pub fn new(unit: u64, disk_size: u64, capacity: u64) -> Self {
        assert!(unit > 0, "a geometry has no profile without a unit");
        Self {
            unit,
            disk_size,
            capacity: capacity as usize,
            runs: Vec::new(),
            seen: RangeSet::new(),
        }
    }

    /// Appends the parts of the byte range that the profile does not contain yet, rounded out to whole units
    /// and cut at the end of the disk. Returns false if the profile had no room for all of them.
    pub fn add(&mut self, bytes: Range<u64>) -> bool {
        let end = bytes.end.min(self.disk_size).div_ceil(self.unit);
        let units = bytes.start / self.unit..end;
        if bytes.is_empty() || units.is_empty() {
            return true;
        }
        let fresh: Vec<Range<u64>> = self.seen.gaps(&units).collect();
        fresh.into_iter().all(|run| self.append(run))
    }

    /// Appends units that the profile does not contain yet. Returns false if there was no room for all of
    /// them.
    fn append(&mut self, mut units: Range<u64>) -> bool {
        const MOST: u64 = u32::MAX as u64;
        while !units.is_empty() {
            let full = self.runs.len() == self.capacity;
            let stop = match self.runs.last_mut() {
                Some(last) if last.end == units.start && last.end - last.start < MOST => {
                    last.end = units.end.min(last.start + MOST);
                    last.end
                }
                _ if full => return false,
                _ => {
                    let stop = units.end.min(units.start + MOST);
                    self.runs.push(units.start..stop);
                    stop
                }
            };
            self.seen.insert(units.start..stop);
            units.start = stop;
        }
        true
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The entries as byte ranges of the disk, in order. No range is empty or exceeds the disk.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let bytes = |run: &Range<u64>| run.start * self.unit..(run.end * self.unit).min(self.disk_size);
        self.runs.iter().map(bytes).collect()
    }

    /// The entries as stored on disk, [`ENTRY_SIZE`] bytes each.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let entry = |run: &Range<u64>| ProfileEntry {
            offset: (run.start * self.unit).cast_signed(),
            len: (run.end - run.start) as u32,
        };
        self.runs.iter().flat_map(|run| entry(run).encode()).collect()
    }

    /// Appends entries as stored on disk. Entries are hints, so none is an error: parts that lie outside the
    /// disk, are empty or occur twice are ignored, and so are bytes after the last whole entry.
    pub fn decode(&mut self, bytes: &[u8]) {
        let (entries, _) = bytes.as_chunks();
        for entry in entries.iter().map(ProfileEntry::decode) {
            let Some(bytes) = entry.bytes(self.unit) else {
                continue;
            };
            if !self.add(bytes) {
                // The profile is full, so the remaining entries need not be searched for new units.
                return;
            }
        }
    }
}
