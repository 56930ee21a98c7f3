//! Check and repair of an image that nobody has open.
//!
//! A check reads the metadata once, front to back, in bounded memory, and skips holes unread. The
//! metadata is what counts: what lies in place, with the journal replayed in memory if the image
//! was not closed. Findings say where they are; [`Report`] counts them.
//!
//! A repair can be cut short at any point, by a power cut or by an error: the guest then sees
//! what it saw before, and another repair finishes the work. Each step ends with a sync, and
//! relies on what the earlier ones made durable. In this order:
//!
//! 0. What earlier sessions have left in the page cache is made durable, and what only the cache has is
//!    dropped (invariant I19).
//! 1. Recovery: a change of the header that was cut short is finished; the journal of an unclean
//!    image is written in place. The image stays unclean, so that this starts again after a crash.
//!    Before the journal, lost sectors of the table, which read as zeros, become "not allocated":
//!    with records over them they could not be told any more.
//! 2. The journal is erased: its records would put back what the next steps change. Nothing
//!    that is in it is missing in place, whichever of its sectors a crash leaves.
//! 3. Lost sectors of the table of a clean image, entries out of range or behind the end of the
//!    data file, and garbage behind the last chunk, become "not allocated". Such a chunk had no
//!    data, or nobody knows where.
//! 4. A data file that ends within a storage chunk in use is extended with zeros.
//! 5. Chunks that share a storage chunk, but for the first, get copies behind the last storage
//!    chunk: in batches, first the data, a sync, then the entries. The copies take no more space
//!    than the data that there is, or 16 MiB.
//! 6. Leaked storage chunks become holes. Nothing moves: the next allocations use them.
//! 7. A file is cut behind its last storage chunk in use. (A device keeps its length.)
//! 8. The image is marked clean.
//!
//! A chunk whose entry is lost reads as zeros then. Before, a lookup refused it, as it does where
//! two neighbours name storage chunk 0, or showed what is not its content, where its neighbour's
//! entry has come from the journal.
//!
//! [`Repair::Leaks`] leaves out what is lost, and 3 to 5, and then 6 and 7 too where there are
//! corruptions: what looks leaked may be what a corrupt entry meant. For the same reason it leaves
//! a suspect image as it is; [`Repair::All`] takes the metadata of one for what it says.

mod findings;
mod journal;
mod leaks;
mod lost;
mod relocate;
mod repair;
mod table;
#[cfg(test)]
pub(in crate::image) mod tests;
mod verify;

use std::collections::BTreeMap;

use repair::Leaked;

pub use findings::{Finding, FindingKind, Severity};

use super::recover::medium;
use super::{CacheMode, Head, read_head, read_head_to_write};
use crate::error::Result;
use crate::format::{Region, table::MAX_CHUNK_NUMBER};
use crate::storage::Storage;

/// What to repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Nothing: only look. Nothing is written, and an unclean image stays unclean.
    #[default]
    None,
    /// Recover an unclean image, and free leaked storage.
    Leaks,
    /// Also whatever else is wrong.
    All,
}

/// What a check has found. After a repair: what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Contradictions in the metadata that are left.
    pub corruptions: u64,
    /// Leaked storage chunks that are left.
    pub leaks: u64,
    /// Parts of the metadata that could not be read, and were not checked.
    pub check_errors: u64,
    /// Corruptions that the repair removed.
    pub corruptions_fixed: u64,
    /// Leaked storage chunks that the repair freed.
    pub leaks_fixed: u64,
    /// The image was not closed, and no journal tells what is missing. Counts as a corruption.
    pub suspect: bool,
    /// The image was not closed, or a change of its header was cut short; the next open for writing, or
    /// a repair, replays its journal and finishes the change.
    pub needs_recovery: bool,
    /// The header names a data file that was not given: its length was not looked at.
    pub data_file_unchecked: bool,
    /// Chunks of the disk; 0 unless the image is compact.
    pub total_chunks: u64,
    /// Chunks that have a storage chunk to themselves, or are the first to name it.
    pub allocated_chunks: u64,
    /// Allocated chunks that do not lie right behind the allocated chunk before them.
    pub fragmented_chunks: u64,
    /// Blocks of the disk that have a bit in the bitmap.
    pub total_blocks: u64,
    /// Those that the image holds itself: all of them where the bitmap is no longer in use.
    pub local_blocks: u64,
    /// Byte behind the last one in use in the image file.
    pub image_end_offset: u64,
    /// The first findings of each kind, those that a repair has removed included.
    pub findings: Vec<Finding>,
    /// How many findings there are of each kind, before any repair.
    pub counts: BTreeMap<FindingKind, u64>,
}

/// Checks the image in `file`, and repairs it if asked to.
///
/// `data` is the separate data file, if the header names one. Without it, nothing is held against
/// its length ([`Report::data_file_unchecked`]).
///
/// The caller holds the locks: nobody else may have the image open, not even as a base.
///
/// # Errors
///
/// The image could not be checked: the header is invalid, or the journal cannot be read.
///
/// A repair also fails, before it writes anything, where a part of the metadata is unreadable
/// ([`ErrorKind::Io`](crate::ErrorKind::Io)), chunks have to be copied but the data file was not
/// given ([`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument)), the copies would take
/// more space than the data that there is, and more than 16 MiB
/// ([`ErrorKind::InvalidImage`](crate::ErrorKind::InvalidImage)), or the copies have no room
/// ([`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace)). If it fails later, the image is as
/// consistent as before.
pub async fn check<S: Storage>(file: &S, data: Option<&S>, repair: Repair) -> Result<Report> {
    if repair != Repair::None {
        let head = read_head_to_write(file).await?;
        medium::sync_and_reread(file, data, head, CacheMode::default()).await?;
    }
    let subject = Subject::new(file, data).await?;
    let before = verify::verify(&subject).await?;
    if repair == Repair::None || !repair::repair(&subject, &before, repair, Leaked::Holes).await? {
        return Ok(before.report);
    }
    let after = verify::verify(&Subject::new(file, data).await?).await?;
    Ok(after_repair(before.report, after.report))
}

/// Frees leaked storage as a repair does, but the highest storage chunks move into the leaked ones, in
/// batches as copies do, and the file becomes shorter: for a disk that becomes smaller. Nothing where the
/// table is corrupt.
///
/// An entry names, at any time, one of two equal copies, and no batch writes to a storage chunk that an entry
/// on disk may still name. The journal holds no record.
pub(super) async fn compact<S: Storage>(file: &S, data: &S) -> Result<()> {
    let subject = Subject::new(file, Some(data)).await?;
    match subject.head.geometry.table {
        Some(table) => repair::tidy(&subject, table, Some(Leaked::Filled)).await,
        None => Ok(()),
    }
}

/// What is left, with what was there before.
fn after_repair(before: Report, after: Report) -> Report {
    let mut findings = before.findings;
    for finding in &mut findings {
        finding.repaired = !after.findings.contains(finding);
    }
    for finding in after.findings {
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    Report {
        corruptions_fixed: before.corruptions.saturating_sub(after.corruptions),
        leaks_fixed: before.leaks.saturating_sub(after.leaks),
        findings,
        counts: before.counts,
        ..after
    }
}

/// The files of an image, and what its header says.
struct Subject<'a, S> {
    /// The file with the metadata.
    file: &'a S,
    /// Where storage chunks lie; None: in a separate file that is not open.
    data: Option<&'a S>,
    /// Length of `data`, bytes.
    data_len: Option<u64>,
    head: Head,
}

impl<'a, S: Storage> Subject<'a, S> {
    async fn new(file: &'a S, data: Option<&'a S>) -> Result<Self> {
        let head = read_head(file).await?;
        let data = if head.header.data_file.is_empty() {
            Some(file)
        } else {
            data
        };
        let data_len = match data {
            Some(data) => Some(data.len().await?),
            None => None,
        };
        Ok(Self {
            file,
            data,
            data_len,
            head,
        })
    }

    /// The journal, if it counts.
    fn live_journal(&self) -> Option<Region> {
        self.head.unclean_journal()
    }

    /// Where a storage chunk starts in the data file, bytes. Exact for numbers that can exist.
    fn chunk_offset(&self, number: u32) -> u64 {
        let geometry = &self.head.geometry;
        geometry.data_offset + u64::from(number) * geometry.chunk_size
    }

    /// Storage chunks that a file, of whatever length, can hold.
    fn number_limit(&self) -> u64 {
        let geometry = &self.head.geometry;
        let room = i64::MAX as u64 - geometry.data_offset;
        (room / geometry.chunk_size).min(u64::from(MAX_CHUNK_NUMBER) + 1)
    }
}
