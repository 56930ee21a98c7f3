//! Redo copies that earlier versions left, which know no fence: they wrote the copy and then the fields.
//!
//! Nothing tells whether somebody else has used the image in between. While no field is in place the
//! header in place is right by itself, whoever has used it, and the copy does not count.

use std::ops::Range;

use crate::format::SECTOR;
use crate::format::header::CLEAN_SHUTDOWN_OFFSET;

/// What such a copy begins with; else it looks like a later one.
pub(super) const MAGIC: [u8; 4] = *b"REDO";

/// A field that every session changes: it does not say what is in place.
const MARK: Range<usize> = CLEAN_SHUTDOWN_OFFSET as usize..CLEAN_SHUTDOWN_OFFSET as usize + 4;

/// Whether a sector of the fields that has patches, `patched`, is in place as `fields` have it.
pub(super) fn has_begun(in_place: &[u8], fields: &[u8], patched: &[Range<usize>]) -> bool {
    (0..fields.len()).step_by(SECTOR as usize).any(|start| {
        let sector = start..fields.len().min(start + SECTOR as usize);
        let patched = |at: &usize| !MARK.contains(at) && patched.iter().any(|range| range.contains(at));
        let mut patched = sector.filter(patched).peekable();
        patched.peek().is_some() && patched.all(|at| in_place[at] == fields[at])
    })
}
