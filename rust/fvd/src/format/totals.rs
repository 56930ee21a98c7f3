//! Totals: the counters of all sessions of an image, added up (docs/design/format.md, section 12).
//!
//! ```text
//! magic "STAT" | count u32 | checksum u32 | 0 u32 | values u64 x count | zeros
//! ```
//!
//! One sector of the header region, after the fields and the redo copy. The position of a value says which
//! counter it is, so new counters are only added at the end.

use super::{HEADER_SIZE, SECTOR};

/// Byte offset in the image: the last sector of the header region.
pub const OFFSET: u64 = HEADER_SIZE - SECTOR;

/// The most values that the sector holds.
pub const MAX_VALUES: usize = (SECTOR as usize - HEAD_LEN) / 8;

const MAGIC: [u8; 4] = *b"STAT";
const HEAD_LEN: usize = 16;

/// The sector, [`SECTOR`] bytes, for `values`.
///
/// # Panics
///
/// If there are more than [`MAX_VALUES`] values.
#[must_use]
pub fn encode(values: &[u64]) -> Vec<u8> {
    assert!(
        values.len() <= MAX_VALUES,
        "they are a list in the source of this crate"
    );
    let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut sector = Vec::with_capacity(SECTOR as usize);
    sector.extend(MAGIC);
    sector.extend((values.len() as u32 / 8).to_le_bytes());
    sector.extend(crc32c::crc32c(&values).to_le_bytes());
    sector.extend([0; 4]);
    sector.extend(values);
    sector.resize(SECTOR as usize, 0);
    sector
}

/// The values in a sector. Empty if the sector holds no valid totals.
#[must_use]
pub fn decode(sector: &[u8]) -> Vec<u64> {
    values(sector).unwrap_or_default()
}

fn values(sector: &[u8]) -> Option<Vec<u64>> {
    let (head, rest) = sector.split_first_chunk::<HEAD_LEN>()?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let count = word(4) as usize;
    if head[..4] != MAGIC || count > MAX_VALUES {
        return None;
    }
    let values = rest.get(..count * 8)?;
    if crc32c::crc32c(values) != word(8) {
        return None;
    }
    let (values, _) = values.as_chunks::<8>();
    Some(values.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_and_fill_a_sector() {
        for count in [0, 1, 15, MAX_VALUES] {
            let values: Vec<u64> = (0..count as u64).map(|n| n << 50 | 7).collect();
            let sector = encode(&values);
            assert_eq!(sector.len() as u64, SECTOR);
            assert_eq!(decode(&sector), values);
        }
    }

    #[test]
    fn an_invalid_sector_has_no_values() {
        let sector = encode(&[1, 2, 3]);
        for at in [0, 4, 8, 16, 39] {
            let mut broken = sector.clone();
            broken[at] ^= 1;
            assert_eq!(decode(&broken), [], "byte {at}");
        }
        assert_eq!(decode(&[]), []);
        assert_eq!(decode(&sector[..20]), []);
        assert_eq!(decode(&[0; 512]), []);
        let mut huge = sector;
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&huge), []);
    }
}
