//! Check and repair of an image that no process has open.
//!
//! A check reads the metadata once, from start to end, in bounded memory, and does not read holes. It checks
//! the effective metadata: the metadata in place, with the journal replayed in memory if the image was not
//! closed. Each finding names its place; [`Report`] counts them.
//!
//! A repair can be interrupted at any point by a power cut or an error: the guest then sees the same content
//! as before, and another repair finishes the work. Each step ends with a sync, and relies on what earlier
//! steps made durable. The steps in order:
//!
//! 0. What earlier sessions left in the page cache is made durable. Then the metadata is dropped from the
//!    cache, so that it is read from the medium (invariant I19).
//! 1. Recovery: an interrupted change of the header is finished, and the journal of an unclean image is
//!    replayed in place. The image stays unclean, so that recovery runs again after a crash. Before the
//!    replay, the entries of lost sectors of the table, which read as zeros, become "not allocated": after
//!    the replay, records in such a sector could hide that it is lost.
//! 2. The journal is erased, because its records would revert the changes of the next steps. All records are
//!    already in place, so it does not matter which of the sectors a crash leaves.
//! 3. Three kinds of entries become "not allocated": lost sectors of the table of a clean image; entries out
//!    of range or after the end of the data file; garbage after the last chunk. Such a chunk had no data, or
//!    the place of its data is unknown.
//! 4. A data file that ends within a storage chunk in use is extended with zeros.
//! 5. If several chunks share a storage chunk, all except the first get copies after the last storage chunk.
//!    In batches: first the data, a sync, then the entries. The copies take at most as much space as the
//!    existing data, or 16 MiB.
//! 6. Leaked storage chunks become holes. No chunk moves: the next allocations use these numbers.
//! 7. A data file is cut after the last storage chunk in use. (A device keeps its length.)
//! 8. The image is marked clean.
//!
//! After a repair, a chunk whose entry was lost reads as zeros. Before, a lookup failed if the neighbour in
//! the table also named storage chunk 0. Otherwise, if the entry of the neighbour came from the journal, it
//! returned the data of another chunk.
//!
//! [`Repair::Leaks`] skips lost sectors and steps 3 to 5. If there are corruptions, it also skips 6 and 7,
//! because a corrupt entry may belong to a storage chunk that looks leaked. For the same reason it does not
//! change a suspect image. [`Repair::All`] accepts the metadata of a suspect image as it is.

mod findings;
mod journal;
mod leaks;
mod lost;
mod relocate;
mod repair;
mod table;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;

use repair::Leaked;

pub use findings::{Finding, FindingKind, Severity};

use super::{CacheMode, Head, read_head, read_head_to_write};
use crate::error::Result;
use crate::format::{Region, StorageChunk};
use crate::image::durability::recover::medium;
use crate::storage::Storage;

/// Which repairs to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Check only. Nothing is written, and an unclean image stays unclean.
    #[default]
    None,
    /// Recover an unclean image, and free leaked storage chunks.
    Leaks,
    /// Also repair all corruptions.
    All,
}

/// The result of a check. After a repair, the counts are those of the repaired image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Corruptions that remain.
    pub corruptions: u64,
    /// Leaked storage chunks that remain.
    pub leaks: u64,
    /// Parts of the metadata that could not be read and were not checked.
    pub check_errors: u64,
    /// Corruptions that the repair removed.
    pub corruptions_fixed: u64,
    /// Leaked storage chunks that the repair freed.
    pub leaks_fixed: u64,
    /// The image was not closed and has no journal, so its metadata may be incomplete. Counts as a
    /// corruption.
    pub suspect: bool,
    /// The image was not closed, or a change of its header was interrupted. The next open for writing, or a
    /// repair, replays its journal and finishes the change.
    pub needs_recovery: bool,
    /// The header names a data file that was not given, so its length was not checked.
    pub data_file_unchecked: bool,
    /// Chunks of the disk. 0 unless the image is compact.
    pub total_chunks: u64,
    /// Storage chunks in use. Chunks that share a storage chunk count as one.
    pub allocated_chunks: u64,
    /// Allocated chunks that are not stored directly after the previous allocated chunk.
    pub fragmented_chunks: u64,
    /// Blocks of the disk that have a bit in the bitmap.
    pub total_blocks: u64,
    /// Blocks that are local. All of them if the bitmap is no longer in use.
    pub local_blocks: u64,
    /// Byte offset of the end of the part of the image file that is in use.
    pub image_end_offset: u64,
    /// The first findings of each kind, including those that a repair has removed.
    pub findings: Vec<Finding>,
    /// Number of findings of each kind before the repair.
    pub counts: BTreeMap<FindingKind, u64>,
}

/// Checks the image in `file`, and makes the repairs that `repair` allows.
///
/// `data` is the separate data file, if the header names one. Without it, its length is not checked
/// ([`Report::data_file_unchecked`]).
///
/// The caller must hold the locks: no other process may have the image open, not even as a base.
///
/// # Errors
///
/// The image cannot be checked if the header is invalid, if the journal cannot be read, or if too many parts
/// of the metadata cannot be read.
///
/// A repair also fails, before it changes anything, if
///
/// * a part of the metadata is unreadable ([`ErrorKind::Io`](crate::ErrorKind::Io));
/// * chunks must be copied, but the data file was not given
///   ([`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument));
/// * the copies would take more space than the existing data, and more than 16 MiB
///   ([`ErrorKind::InvalidImage`](crate::ErrorKind::InvalidImage));
/// * there is no room for the copies ([`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace));
/// * chunks whose data is lost would become zeros, and the next open would write these zeros to the base
///   ([`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)).
///
/// If a repair fails later, the image is as consistent as before.
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

/// Frees leaked storage chunks of a disk that becomes smaller. Unlike a repair, it moves the highest storage
/// chunks into the leaked ones, in batches, and shortens the file. Does nothing if the table is corrupt. The
/// journal must hold no record.
///
/// At any time an entry names one of two equal copies, and no batch writes to a storage chunk that an entry
/// on disk may still name.
pub(super) async fn compact<S: Storage>(file: &S, data: &S) -> Result<()> {
    let subject = Subject::new(file, Some(data)).await?;
    match subject.head.geometry.table {
        Some(table) => repair::tidy(&subject, table, Some(Leaked::Filled)).await,
        None => Ok(()),
    }
}

/// The report `after` a repair, with the findings of the report `before` it.
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

/// The files of an image, and its header.
struct Subject<'a, S> {
    /// The file with the metadata.
    file: &'a S,
    /// The file with the storage chunks. `None`: a separate file that is not open.
    data: Option<&'a S>,
    /// Length of `data` in bytes.
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

    /// The journal, if the image is unclean.
    fn live_journal(&self) -> Option<Region> {
        self.head.unclean_journal()
    }

    /// Byte offset of a storage chunk in the data file. Does not overflow for possible numbers.
    fn chunk_offset(&self, storage: StorageChunk) -> u64 {
        let geometry = &self.head.geometry;
        geometry.data_offset + storage.index() * geometry.chunk_size
    }

    /// Number of storage chunks that a file of the largest possible length can hold.
    fn number_limit(&self) -> u64 {
        let geometry = &self.head.geometry;
        let room = i64::MAX as u64 - geometry.data_offset;
        (room / geometry.chunk_size).min(StorageChunk::MAX.index() + 1)
    }
}
