//! The fence: what a header says in place from the moment on in which a redo copy counts until all of
//! the copy is in place (docs/design.md, changing the header).
//!
//! Three neighbouring fields of one sector, so that they change in one write: no journal, not closed
//! cleanly, and a `journal_offset` that no journal has. The original refuses to run a virtual machine on
//! such an image, and never makes one.

use super::header::JOURNAL_FIELDS_OFFSET;
use super::{SECTOR, redo};

/// Bytes of `journal_offset`, `journal_size` and `clean_shutdown`.
const LEN: usize = 20;

/// Where they lie in the header.
const START: usize = JOURNAL_FIELDS_OFFSET as usize;

/// "REDO" in the place of the offset of a journal: off every page. The other two are 0.
const BYTES: [u8; LEN] = *b"REDO\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Byte offset of the sector that holds the fence, the last one with fields.
pub const SECTOR_OFFSET: u64 = redo::OFFSET - SECTOR;

const _: () = assert!(START as u64 >= SECTOR_OFFSET && (START + LEN) as u64 <= redo::OFFSET);

/// Whether the fields, or more of the start of an image, have the fence.
#[must_use]
pub fn is_in(fields: &[u8]) -> bool {
    fields.get(START..START + LEN) == Some(&BYTES)
}

/// Puts the fence into the fields.
///
/// # Panics
///
/// If there are not all of them.
pub fn put_into(fields: &mut [u8]) {
    fields[START..START + LEN].copy_from_slice(&BYTES);
}
