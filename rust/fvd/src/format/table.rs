//! The table of a compact image: which storage chunk holds a virtual chunk (docs/design/format.md, section
//! 4).

use super::{PAGE, SECTOR, StorageChunk};

/// Bytes of one entry on disk.
pub const ENTRY_SIZE: u64 = 4;

/// Entries in one sector: they are written, or lost, together.
pub const ENTRIES_PER_SECTOR: u64 = SECTOR / ENTRY_SIZE;

/// Bit 31: the dirty flag that the original driver uses in memory and writes to journal records. fvd ignores
/// it.
const DIRTY: u32 = 0x8000_0000;

/// One table entry: a storage chunk number, or [`UNALLOCATED`](Entry::UNALLOCATED).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Entry(u32);

impl Entry {
    /// No storage chunk is allocated. This value also pads the table to a page.
    pub const UNALLOCATED: Self = Self(u32::MAX);

    /// The entry with the value `raw`, from a table, a journal record or [`Entry::raw`]. Clears the dirty
    /// flag.
    ///
    /// Accepts a number above [`StorageChunk::MAX`]. A lookup must check that the chunk lies inside the
    /// storage.
    #[must_use]
    pub const fn from_disk(raw: u32) -> Self {
        if raw == u32::MAX {
            Self::UNALLOCATED
        } else {
            Self(raw & !DIRTY)
        }
    }

    /// The entry of a virtual chunk that lies in `storage`.
    ///
    /// # Panics
    ///
    /// If `storage` is above [`StorageChunk::MAX`].
    #[must_use]
    pub const fn allocated(storage: StorageChunk) -> Self {
        let number = storage.number();
        assert!(
            number <= StorageChunk::MAX.number(),
            "storage chunk numbers have 31 bits"
        );
        Self(number)
    }

    /// The storage chunk, `None` if the entry is unallocated.
    #[must_use]
    pub const fn storage(self) -> Option<StorageChunk> {
        if self.0 == u32::MAX {
            None
        } else {
            Some(StorageChunk::new(self.0))
        }
    }

    /// The value to store, without the dirty flag.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

/// Bytes of a table with `chunks` entries, rounded up to a page. `None` if that exceeds `u64`.
#[must_use]
pub fn region_size(chunks: u64) -> Option<u64> {
    chunks.checked_mul(ENTRY_SIZE)?.checked_next_multiple_of(PAGE)
}

/// Whether a sector of a table is lost: it never reached the disk, or the disk lost it, and it read as zeros.
/// `entries` are those entries of the sector that belong to chunks.
///
/// A valid table has at most one entry of 0, because storage chunks are not shared. If more than half of a
/// sector is 0, this is not a single bad entry. At least two of the zeros are then a pair (`n` and `n ^ 1`),
/// which a lookup refuses. The other entries may have come from the journal after the loss.
#[must_use]
pub fn is_lost(entries: &[[u8; ENTRY_SIZE as usize]]) -> bool {
    let zeros = entries.iter().filter(|entry| **entry == [0; 4]).count();
    zeros > entries.len().div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ones_is_unallocated_and_not_a_dirty_chunk() {
        assert_eq!(Entry::from_disk(0xFFFF_FFFF), Entry::UNALLOCATED);
        assert_eq!(Entry::UNALLOCATED.storage(), None);
        assert_eq!(Entry::UNALLOCATED.raw(), 0xFFFF_FFFF);
    }

    #[test]
    fn the_dirty_flag_is_cleared_on_reading() {
        assert_eq!(Entry::from_disk(0x8000_0000).storage(), Some(StorageChunk::FIRST));
        assert_eq!(Entry::from_disk(0x8000_0103).raw(), 0x103);
        assert_eq!(Entry::from_disk(0xFFFF_FFFE).storage(), Some(StorageChunk::MAX));
    }

    #[test]
    fn no_allocatable_chunk_looks_unallocated_when_dirty() {
        assert_ne!(Entry::allocated(StorageChunk::MAX).raw() | DIRTY, u32::MAX);
        assert_eq!((StorageChunk::MAX.number() + 1) | DIRTY, u32::MAX);
    }

    #[test]
    fn an_allocated_entry_reads_back() {
        for storage in [StorageChunk::FIRST, StorageChunk::new(1), StorageChunk::MAX] {
            let entry = Entry::allocated(storage);
            assert_eq!(entry.storage(), Some(storage));
            assert_eq!(Entry::from_disk(entry.raw()), entry);
        }
    }

    #[test]
    fn a_table_fills_whole_pages() {
        assert_eq!(region_size(0), Some(0));
        assert_eq!(region_size(1), Some(4096));
        assert_eq!(region_size(1024), Some(4096));
        assert_eq!(region_size(1025), Some(8192));
        assert_eq!(region_size(u64::MAX / 4 + 1), None);
        assert_eq!(region_size(u64::MAX / 4), None);
    }

    #[test]
    fn a_sector_is_lost_if_more_than_half_of_it_is_zeros() {
        let sector = |zeros, others| [vec![[0; 4]; zeros], vec![[0, 0, 0, 0x80]; others]].concat();
        for (zeros, others, lost) in [
            (128, 0, true),
            (65, 63, true),
            (64, 64, false),
            (1, 127, false),
            (2, 1, false),
            (3, 2, false),
            (4, 1, true),
            (2, 0, true),
            (1, 0, false),
            (0, 0, false),
        ] {
            assert_eq!(is_lost(&sector(zeros, others)), lost, "{zeros} of {}", zeros + others);
        }
    }
}
