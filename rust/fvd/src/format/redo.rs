//! The redo copy: it makes a change of several header fields atomic (docs/design/format.md, section 8).
//!
//! ```text
//! magic "RED2" | length u32 | checksum u32 | patches: (offset u16, length u16, bytes) x n | zeros
//! ```
//!
//! The copy lies in sectors that hold no field. It can also change the [record area](super::records), which
//! follows the fields. Its checksum covers the patches and the fields that result from them, so a torn copy, or one that does not belong to the present header, is invalid. A valid copy is
//! applied only while the header contains the [`fence`].

use std::ops::Range;

use super::header::{Header, RAW_SIZE};
use super::{SECTOR, fence, totals};
use crate::error::{Error, Result};

mod unfenced;

#[cfg(test)]
mod tests;

/// Byte offset of the redo copy in the image: the first sector that holds no field.
pub const OFFSET: u64 = (RAW_SIZE as u64).next_multiple_of(SECTOR);

/// Bytes of the redo copy: it ends where the totals begin.
pub const SIZE: usize = (totals::OFFSET - OFFSET) as usize;

const MAGIC: [u8; 4] = *b"RED2";

/// Bytes of magic, length and checksum.
const HEAD_LEN: usize = 12;

/// Bytes of offset and length, in front of each patch.
const PATCH_HEAD_LEN: usize = 4;

/// Bytes that a copy can change: the fields and the record area.
pub const END: usize = OFFSET as usize;

/// Byte offset of the first field that a patch may change: it follows magic and version.
const FIRST_FIELD: usize = 8;

/// The bytes of `virtual_disk_size` in the header.
const SIZE_FIELD: Range<usize> = 12..20;

const _: () = assert!(OFFSET == 4608 && SIZE == 3072 && RAW_SIZE <= u16::MAX as usize);

/// The header that results from a redo copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redone {
    /// The fields and the record area, [`END`] bytes.
    pub fields: Vec<u8>,
    /// Whether the copy changes the size of the disk.
    pub resizes: bool,
}

/// The redo copy, [`SIZE`] bytes, of a change from `old` to `new`. Both have [`END`] bytes of fields and
/// records, with the same magic and version. The copy also restores the fields that the fence overwrites.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the differences do not fit into the copy. All
/// fields that can be amended fit at once.
pub fn encode(old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    let mut fenced = old[..END].to_vec();
    fence::put_into(&mut fenced);
    let mut patches = Vec::new();
    for Range { start, end } in differences(old, &fenced, new) {
        patches.extend((start as u16).to_le_bytes());
        patches.extend(((end - start) as u16).to_le_bytes());
        patches.extend(&new[start..end]);
    }
    if HEAD_LEN + patches.len() > SIZE {
        return Err(Error::invalid_argument(
            "These are too many changes to be made at once: change some first, then the others",
        ));
    }
    let mut copy = Vec::with_capacity(SIZE);
    copy.extend(MAGIC);
    copy.extend((patches.len() as u32).to_le_bytes());
    copy.extend(checksum(&patches, &new[..RAW_SIZE]).to_le_bytes());
    copy.extend(patches);
    copy.resize(SIZE, 0);
    Ok(copy)
}

/// The fields that result from the redo copy in `region`, the first [`HEADER_SIZE`](super::HEADER_SIZE) bytes
/// of an image. `None` if there is no copy, if it is invalid, or if it must not be applied because there is
/// no fence.
#[must_use]
pub fn replay(region: &[u8]) -> Option<Redone> {
    if !Header::is_fvd(region) || !is_in(region) {
        return None;
    }
    let copy = region.get(OFFSET as usize..totals::OFFSET as usize)?;
    let length = u32::from_le_bytes(*copy.get(4..)?.first_chunk()?) as usize;
    let expected = u32::from_le_bytes(*copy.get(8..)?.first_chunk()?);
    let patches = copy.get(HEAD_LEN..)?.get(..length)?;
    let in_place = &region[..END];
    let mut fields = in_place.to_vec();
    let patched = patch(&mut fields, patches)?;
    if checksum(patches, &fields[..RAW_SIZE]) != expected {
        return None;
    }
    let counts = if copy.starts_with(&MAGIC) {
        fence::is_in(in_place)
    } else {
        unfenced::has_begun(&in_place[..RAW_SIZE], &fields[..RAW_SIZE], &patched)
    };
    counts.then(|| Redone {
        fields,
        resizes: patched.iter().any(|range| overlap(range, &SIZE_FIELD)),
    })
}

/// Whether `region`, the start of an image, contains the magic of a redo copy. The copy may be invalid.
#[must_use]
pub fn is_in(region: &[u8]) -> bool {
    let copy = region.get(OFFSET as usize..).unwrap_or_default();
    copy.starts_with(&MAGIC) || copy.starts_with(&unfenced::MAGIC)
}

/// Applies the patches, and returns the patched ranges. `None` if a patch is cut off, or does not lie after magic
/// and version and before the copy.
fn patch(fields: &mut [u8], mut patches: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut ranges = Vec::new();
    while let Some((head, rest)) = patches.split_first_chunk::<PATCH_HEAD_LEN>() {
        let start = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (bytes, rest) = rest.split_at_checked(len)?;
        if start < FIRST_FIELD {
            return None;
        }
        fields.get_mut(start..start + len)?.copy_from_slice(bytes);
        ranges.push(start..start + len);
        patches = rest;
    }
    patches.is_empty().then_some(ranges)
}

/// The ranges in which `new` differs from `old` or from `fenced`. Two ranges become one where the gap between
/// them is no larger than the head of a patch.
fn differences(old: &[u8], fenced: &[u8], new: &[u8]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let differing = (0..END).filter(|&at| old[at] != new[at] || fenced[at] != new[at]);
    for at in differing {
        match ranges.last_mut() {
            Some(range) if at <= range.end + PATCH_HEAD_LEN => range.end = at + 1,
            _ => ranges.push(at..at + 1),
        }
    }
    ranges
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn checksum(patches: &[u8], fields: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&(patches.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, patches), fields)
}
