//! Journal sectors: records of table entries and of bitmap ranges (docs/design/format.md, section 6).
//!
//! A sector is written atomically and does not depend on other sectors. Changes that must become durable
//! together go into one sector.

use super::Entry;

#[cfg(test)]
mod tests;

/// Bytes of one journal sector.
pub const RECORD_SECTOR_LEN: usize = 512;

/// The most table entries in a sector without a bitmap record.
pub const MAX_ENTRIES: usize = 125;

/// The most table entries in a sector that also holds a bitmap record.
pub const MAX_ENTRIES_WITH_BITMAP: usize = 121;

const TABLE_MAGIC: u32 = 0xB4E6_F7AC;
const BITMAP_MAGIC: u32 = 0x3F2A_B8ED;

/// Bytes of magic, first index and count.
const TABLE_HEAD_LEN: usize = 12;
/// Bytes of magic, sector count and first sector.
const BITMAP_LEN: usize = 16;

const _: () = assert!(TABLE_HEAD_LEN + 4 * MAX_ENTRIES == RECORD_SECTOR_LEN);
const _: () = assert!(TABLE_HEAD_LEN + 4 * MAX_ENTRIES_WITH_BITMAP + BITMAP_LEN == RECORD_SECTOR_LEN);

/// New values of consecutive table entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRecord {
    /// Index of the first entry. In a record read from disk, `first` plus the number of entries may exceed
    /// the table and even `u32`.
    pub first: u32,
    /// The entries from `first` on.
    pub entries: Vec<Entry>,
}

/// A range of the disk whose blocks are no longer in the base image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapRecord {
    /// First 512-byte sector of the virtual disk, at most `i64::MAX`. In a record read from disk, the range
    /// may lie outside the disk, and its byte offset may exceed `u64`.
    pub first_sector: u64,
    /// Number of 512-byte sectors. The record covers every block that these sectors touch.
    pub sectors: u32,
}

/// One record of a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Table entries.
    Table(TableRecord),
    /// A bitmap range; always the last record of its sector.
    Bitmap(BitmapRecord),
}

/// Encodes one sector: the table record, then the bitmap record, then zeros.
///
/// # Panics
///
/// If the table record has more than [`MAX_ENTRIES`] entries, or more than [`MAX_ENTRIES_WITH_BITMAP`] with a
/// bitmap record, or if the first sector of the bitmap record is above `i64::MAX`. The caller must split
/// ranges into sectors.
#[must_use]
pub fn encode_sector(table: Option<&TableRecord>, bitmap: Option<&BitmapRecord>) -> [u8; RECORD_SECTOR_LEN] {
    let mut sector = Vec::with_capacity(RECORD_SECTOR_LEN);
    if let Some(record) = table {
        let room = if bitmap.is_some() {
            MAX_ENTRIES_WITH_BITMAP
        } else {
            MAX_ENTRIES
        };
        assert!(
            record.entries.len() <= room,
            "a journal sector has room for {room} entries"
        );
        sector.extend(TABLE_MAGIC.to_le_bytes());
        sector.extend(record.first.to_le_bytes());
        sector.extend((record.entries.len() as u32).to_le_bytes());
        sector.extend(record.entries.iter().flat_map(|entry| entry.raw().to_le_bytes()));
    }
    if let Some(record) = bitmap {
        assert!(
            i64::try_from(record.first_sector).is_ok(),
            "a disk has at most 2^63 bytes"
        );
        sector.extend(BITMAP_MAGIC.to_le_bytes());
        sector.extend(record.sectors.to_le_bytes());
        sector.extend(record.first_sector.to_le_bytes());
    }
    sector.resize(RECORD_SECTOR_LEN, 0);
    sector.try_into().expect("both records fit: checked above")
}

/// The records of a sector, in the order in which to apply them.
///
/// Never fails, because garbage after the last record is legal. Decoding stops at an unknown magic such as 0,
/// at a record that extends beyond the sector, at a negative first sector, and after a bitmap record. The
/// caller must check that the records lie inside the table and the bitmap, and must calculate indices and
/// sectors in `u64`.
#[must_use]
pub fn decode_sector(bytes: &[u8; RECORD_SECTOR_LEN]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((record, remaining)) = next_record(rest) {
        let last = matches!(record, Record::Bitmap(_));
        records.push(record);
        if last {
            break;
        }
        rest = remaining;
    }
    records
}

fn next_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (magic, rest) = take_u32(bytes)?;
    match magic {
        TABLE_MAGIC => {
            let (first, rest) = take_u32(rest)?;
            let (count, rest) = take_u32(rest)?;
            let (entries, rest) = rest.split_at_checked((count as usize).checked_mul(4)?)?;
            let (entries, _) = entries.as_chunks();
            let entries = entries
                .iter()
                .map(|raw| Entry::from_disk(u32::from_le_bytes(*raw)))
                .collect();
            Some((Record::Table(TableRecord { first, entries }), rest))
        }
        BITMAP_MAGIC => {
            let (sectors, rest) = take_u32(rest)?;
            let (first, rest) = rest.split_first_chunk()?;
            let first_sector = u64::try_from(i64::from_le_bytes(*first)).ok()?;
            Some((Record::Bitmap(BitmapRecord { first_sector, sectors }), rest))
        }
        _ => None,
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (value, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*value), rest))
}
