//! The record area: small facts about an image that have no field in the header (docs/design/format.md,
//! section 13).
//!
//! ```text
//! magic "RECS" | version u16 | length u16 | checksum u32 | records: (tag u16, length u16, bytes) x n | zeros
//! ```
//!
//! It lies between the last field and the redo copy, in a sector with fields, so that one write can change
//! both. The original driver ignores these bytes, and leaves zeros there.

use std::ops::Range;

use super::header::RAW_SIZE;
use super::redo;
use crate::error::{Error, Result};

/// The bytes of the image that the area takes.
pub const PLACE: Range<usize> = RAW_SIZE..redo::OFFSET as usize;

/// Bytes of the area.
pub const SIZE: usize = PLACE.end - PLACE.start;

/// The most bytes of all records, with their tags and lengths.
pub const MAX_LEN: usize = SIZE - HEAD_LEN;

/// The tag of the [pin](super::pin) of the backing file.
pub const BASE_PIN: u16 = 1;

const MAGIC: [u8; 4] = *b"RECS";
const VERSION: u16 = 1;

/// Bytes of magic, version, length and checksum.
const HEAD_LEN: usize = 12;

/// Bytes of tag and length of a record.
const RECORD_HEAD_LEN: usize = 4;

const _: () = assert!(SIZE == 272 && PLACE.start == 4336);

/// What the area holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Area {
    /// Records, perhaps none. An area of zeros has none.
    Records(Records),
    /// Bytes that are no valid area, for this reason. They count as no records, and are not written over
    /// without a request.
    Damaged(&'static str),
}

/// Records in the order of the area. Those with an unknown tag are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records(Vec<(u16, Vec<u8>)>);

impl Area {
    /// The area in `region`, the first bytes of an image. No records if they end before the area does.
    #[must_use]
    pub fn decode(region: &[u8]) -> Self {
        let Some(area) = region.get(PLACE).filter(|area| area.iter().any(|byte| *byte != 0)) else {
            return Self::Records(Records::default());
        };
        match decode(area) {
            Ok(records) => Self::Records(records),
            Err(why) => Self::Damaged(why),
        }
    }

    /// The bytes of the record with `tag`.
    #[must_use]
    pub fn get(&self, tag: u16) -> Option<&[u8]> {
        match self {
            Self::Records(records) => records.get(tag),
            Self::Damaged(_) => None,
        }
    }
}

fn decode(area: &[u8]) -> Result<Records, &'static str> {
    let u16_at = |at: usize| u16::from_le_bytes([area[at], area[at + 1]]);
    if !area.starts_with(&MAGIC) {
        return Err("another program has written there");
    }
    let length = usize::from(u16_at(6));
    let Some(mut rest) = area[HEAD_LEN..].get(..length) else {
        return Err("its length is wrong");
    };
    let expected = u32::from_le_bytes([area[8], area[9], area[10], area[11]]);
    if checksum(&area[4..8], rest) != expected {
        return Err("its checksum is wrong");
    }
    if u16_at(4) != VERSION {
        return Err("a later version of fvd has written it");
    }
    let mut records = Records::default();
    while let Some((head, after)) = rest.split_first_chunk::<RECORD_HEAD_LEN>() {
        let (tag, len) = (
            u16::from_le_bytes([head[0], head[1]]),
            u16::from_le_bytes([head[2], head[3]]),
        );
        let Some((bytes, after)) = after.split_at_checked(usize::from(len)) else {
            return Err("a record is longer than the area");
        };
        if tag == 0 || records.get(tag).is_some() {
            return Err("it has a tag twice, or the tag 0");
        }
        records.0.push((tag, bytes.to_vec()));
        rest = after;
    }
    if rest.is_empty() {
        Ok(records)
    } else {
        Err("a record is cut off")
    }
}

impl Records {
    /// The bytes of the record with `tag`.
    #[must_use]
    pub fn get(&self, tag: u16) -> Option<&[u8]> {
        let record = self.0.iter().find(|(of, _)| *of == tag);
        record.map(|(_, bytes)| bytes.as_slice())
    }

    /// Replaces the record with `tag`. None removes it. All others stay as they are.
    pub fn set(&mut self, tag: u16, bytes: Option<Vec<u8>>) {
        let at = self.0.iter().position(|(of, _)| *of == tag);
        match (at, bytes) {
            (Some(at), Some(bytes)) => self.0[at].1 = bytes,
            (Some(at), None) => drop(self.0.remove(at)),
            (None, Some(bytes)) => self.0.push((tag, bytes)),
            (None, None) => {}
        }
    }

    /// The area, [`SIZE`] bytes. Zeros if there is no record.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if they do not fit.
    pub fn encode(&self) -> Result<[u8; SIZE]> {
        let mut area = [0; SIZE];
        if self.0.is_empty() {
            return Ok(area);
        }
        let mut records = Vec::new();
        for (tag, bytes) in &self.0 {
            records.extend(tag.to_le_bytes());
            records.extend((bytes.len().min(usize::from(u16::MAX)) as u16).to_le_bytes());
            records.extend(bytes);
        }
        if records.len() > MAX_LEN {
            return Err(Error::invalid_argument(format!(
                "The records of the image have {} bytes, more than the {MAX_LEN} that the header has room for",
                records.len()
            )));
        }
        area[..4].copy_from_slice(&MAGIC);
        area[4..6].copy_from_slice(&VERSION.to_le_bytes());
        area[6..8].copy_from_slice(&(records.len() as u16).to_le_bytes());
        let sum = checksum(&area[4..8], &records);
        area[8..12].copy_from_slice(&sum.to_le_bytes());
        area[HEAD_LEN..HEAD_LEN + records.len()].copy_from_slice(&records);
        Ok(area)
    }
}

fn checksum(head: &[u8], records: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(area: &[u8; SIZE]) -> Vec<u8> {
        let mut region = vec![0; 8192];
        region[PLACE].copy_from_slice(area);
        region
    }

    fn records() -> Records {
        let mut records = Records::default();
        records.set(7, Some(b"a name".to_vec()));
        records.set(BASE_PIN, Some(vec![1; 40]));
        records.set(9, Some(Vec::new()));
        records
    }

    #[test]
    fn records_read_back_in_their_order() {
        let area = records().encode().expect("they fit");
        assert_eq!(Area::decode(&region(&area)), Area::Records(records()));
        let mut changed = records();
        changed.set(BASE_PIN, None);
        changed.set(7, Some(vec![2]));
        assert_eq!(changed.0, [(7, vec![2]), (9, vec![])]);
    }

    #[test]
    fn no_record_leaves_zeros() {
        assert_eq!(Records::default().encode().expect("nothing"), [0; SIZE]);
        let none = Area::Records(Records::default());
        assert_eq!(
            (Area::decode(&[0; 8192]), Area::decode(&[1; 4400])),
            (none.clone(), none)
        );
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        let mut records = Records::default();
        records.set(3, Some(vec![1; MAX_LEN - RECORD_HEAD_LEN]));
        let area = records.encode().expect("just");
        assert_eq!(Area::decode(&region(&area)), Area::Records(records.clone()));
        records.set(4, Some(Vec::new()));
        records.encode().expect_err("too many");
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let area = records().encode().expect("they fit");
        let used = HEAD_LEN + 3 * RECORD_HEAD_LEN + 46;
        for at in 0..used {
            for bit in [1, 128] {
                let mut broken = area;
                broken[at] ^= bit;
                assert!(matches!(Area::decode(&region(&broken)), Area::Damaged(_)), "byte {at}");
            }
        }
    }

    #[test]
    fn any_bytes_are_records_or_damaged() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..20_000 {
            let mut area = [0; SIZE];
            area[..4].copy_from_slice(&MAGIC);
            area[4..6].copy_from_slice(&VERSION.to_le_bytes());
            let length = random.u16(..30);
            area[6..8].copy_from_slice(&length.to_le_bytes());
            random.fill(&mut area[HEAD_LEN..]);
            area[HEAD_LEN + 2..].iter_mut().step_by(2).for_each(|byte| *byte &= 3);
            let sum = checksum(&area[4..8], &area[HEAD_LEN..HEAD_LEN + usize::from(length)]);
            area[8..12].copy_from_slice(&sum.to_le_bytes());
            if let Area::Records(records) = Area::decode(&region(&area)) {
                let again = records.encode().expect("they came from an area");
                assert_eq!(Area::decode(&region(&again)), Area::Records(records));
            }
        }
    }
}
