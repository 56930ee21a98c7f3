//! Redo copies of earlier versions of fvd. These versions had no fence: they wrote the copy and then the
//! fields.
//!
//! Without a fence it is unknown whether another program has used the image since the copy was written. As
//! long as none of the new fields is in place, the present header is valid by itself, and the copy is
//! ignored.

use std::ops::Range;

use crate::format::SECTOR;
use crate::format::header::CLEAN_SHUTDOWN_OFFSET;

/// The magic of such a copy. The rest of the layout is that of a present one.
pub(super) const MAGIC: [u8; 4] = *b"REDO";

/// The bytes of `clean_shutdown`. Every session changes this field, so it does not show which sectors are
/// new.
const MARK: Range<usize> = CLEAN_SHUTDOWN_OFFSET as usize..CLEAN_SHUTDOWN_OFFSET as usize + 4;

/// Whether at least one sector with patched bytes is already as `fields` says. `patched` are the ranges of
/// the patches; the clean mark is ignored.
pub(super) fn has_begun(in_place: &[u8], fields: &[u8], patched: &[Range<usize>]) -> bool {
    (0..fields.len()).step_by(SECTOR as usize).any(|start| {
        let sector = start..fields.len().min(start + SECTOR as usize);
        let patched = |at: &usize| !MARK.contains(at) && patched.iter().any(|range| range.contains(at));
        let mut patched = sector.filter(patched).peekable();
        patched.peek().is_some() && patched.all(|at| in_place[at] == fields[at])
    })
}
