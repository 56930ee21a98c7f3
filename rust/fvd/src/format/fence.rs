//! The fence: a mark in the header that a redo copy is valid and not yet completely applied
//! (docs/design/format.md, section 8).
//!
//! The fence is three adjacent fields in one sector, so that one atomic write changes all of them: no
//! journal, not closed cleanly, and a `journal_offset` that no journal can have. The original driver refuses
//! to run a virtual machine on such an image, and never creates one.

use super::header::JOURNAL_FIELDS_OFFSET;
use super::{SECTOR, redo};

/// Bytes of `journal_offset`, `journal_size` and `clean_shutdown`.
const LEN: usize = 20;

/// Byte offset of the first of these fields in the header.
const START: usize = JOURNAL_FIELDS_OFFSET as usize;

/// "REDO" as the `journal_offset`, which is no multiple of a page. The other two fields are 0.
const BYTES: [u8; LEN] = *b"REDO\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Byte offset of the sector that holds the fence: the last sector with header fields.
pub const SECTOR_OFFSET: u64 = redo::OFFSET - SECTOR;

const _: () = assert!(START as u64 >= SECTOR_OFFSET && (START + LEN) as u64 <= redo::OFFSET);

/// Whether `fields`, the first bytes of an image, contain the fence. False if they end before it.
#[must_use]
pub fn is_in(fields: &[u8]) -> bool {
    fields.get(START..START + LEN) == Some(&BYTES)
}

/// Puts the fence into `fields`, the first bytes of an image.
///
/// # Panics
///
/// If `fields` has fewer than [`RAW_SIZE`](super::header::RAW_SIZE) bytes and ends before the fence does.
pub fn put_into(fields: &mut [u8]) {
    fields[START..START + LEN].copy_from_slice(&BYTES);
}
