//! The check of the table.

use super::Subject;
use super::findings::{FindingKind, Findings};
use super::journal::{self, TableWindow};
use super::leaks;
use crate::error::{Error, Result};
use crate::format::{Region, StorageChunk, table};
use crate::image::metadata::scan::{EntryRun, EntryRuns};
use crate::image::space::chunk_set::ChunkSet;
use crate::storage::Storage;

/// The most unreadable places that are skipped. If there are more, the check fails.
const MAX_UNREADABLE: u64 = 100;

/// Limits of storage chunk numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Smaller numbers are possible in a file of any length.
    possible: u64,
    /// Smaller numbers lie at least partly in the data file.
    begun: u64,
    /// Smaller numbers lie completely in the data file.
    whole: u64,
}

/// The place of a storage chunk relative to the data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Completely in the file.
    Inside,
    /// The file ends within the storage chunk.
    Partly,
    /// After the end of the file.
    Beyond,
    /// No file can hold it.
    Impossible,
}

impl Bounds {
    pub(super) fn of<S: Storage>(subject: &Subject<'_, S>) -> Self {
        let possible = subject.number_limit();
        let geometry = &subject.head.geometry;
        let Some(len) = subject.data_len else {
            return Self {
                possible,
                begun: possible,
                whole: possible,
            };
        };
        let room = len.saturating_sub(geometry.data_offset);
        Self {
            possible,
            begun: room.div_ceil(geometry.chunk_size).min(possible),
            whole: (room / geometry.chunk_size).min(possible),
        }
    }

    pub(super) fn place(&self, storage: StorageChunk) -> Place {
        match storage.index() {
            number if number < self.whole => Place::Inside,
            number if number < self.begun => Place::Partly,
            number if number < self.possible => Place::Beyond,
            _ => Place::Impossible,
        }
    }
}

/// The use of storage chunks by a table.
#[derive(Debug, Default)]
pub(super) struct TableSurvey {
    /// The storage chunks in use that lie at least partly in the file.
    pub(super) used: ChunkSet,
    /// The storage chunk in use within which the file ends.
    pub(super) partly: Option<StorageChunk>,
    /// See [`Report::fragmented_chunks`](super::Report::fragmented_chunks).
    pub(super) fragmented: u64,
    /// The storage chunk after that of the last allocated entry.
    following: Option<StorageChunk>,
}

impl TableSurvey {
    fn add(&mut self, run: EntryRun, bounds: &Bounds, findings: &mut Findings) {
        let Some(storage) = run.entry.storage() else {
            return;
        };
        let EntryRun { first, count, .. } = run;
        if run.lost {
            return findings.add(FindingKind::Lost, count, || {
                format!(
                    "table entries {first}..{} are zeros: where their chunks lie is lost, a repair makes them \
                     'not allocated'",
                    run.end()
                )
            });
        }
        let name = || match count {
            1 => format!("table entry {first} names storage chunk {storage}"),
            _ => format!("table entries {first}..{} name storage chunk {storage}", run.end()),
        };
        match bounds.place(storage) {
            Place::Inside => {}
            Place::Partly => self.partly = Some(storage),
            Place::Beyond => {
                return findings.add(FindingKind::BeyondEnd, count, || {
                    format!("{}, which lies behind the end of the data file", name())
                });
            }
            Place::Impossible => {
                return findings.add(FindingKind::OutOfRange, count, || {
                    format!("{}, which no file can hold", name())
                });
            }
        }
        let apart = self.following.is_some_and(|next| next != storage);
        self.fragmented += u64::from(apart);
        self.following = Some(storage.next());
        let is_new = self.used.insert(storage);
        let shared = count - u64::from(is_new);
        if shared > 0 {
            findings.add(FindingKind::Shared, shared, || {
                let others = if is_new {
                    "all of them"
                } else {
                    "as an earlier entry does"
                };
                format!("{}, {others}", name())
            });
        }
    }
}

/// Checks the effective table: the one in place, with the journal replayed in memory if the image is unclean.
pub(super) async fn survey<S: Storage>(subject: &Subject<'_, S>, findings: &mut Findings) -> Result<TableSurvey> {
    let mut survey = TableSurvey::default();
    let geometry = &subject.head.geometry;
    let Some(region) = geometry.table else {
        return Ok(survey);
    };
    let bounds = Bounds::of(subject);
    let mut start = 0;
    while start < geometry.chunks {
        let TableWindow { end, entries } = journal::table_window(subject, start).await?;
        let mut runs = EntryRuns::new(subject.file, region, start, end, &entries).with_lost(geometry.chunks);
        while let Some(run) = next_readable(&mut runs, findings).await? {
            survey.add(run, &bounds, findings);
        }
        start = end;
    }
    if let (Some(storage), Some(len)) = (survey.partly, subject.data_len) {
        findings.add(FindingKind::PartlyBeyondEnd, 1, || {
            let end = subject.chunk_offset(storage) + geometry.chunk_size;
            format!("storage chunk {storage} is in use and ends at {end}, the data file at {len}")
        });
    }
    // If a change was interrupted, finishing it clears these entries.
    if !subject.head.interrupted {
        survey_padding(subject, region, findings).await?;
    }
    leaks::report(subject, &survey.used, findings).await?;
    Ok(survey)
}

/// Checks the entries after the last chunk. No journal record changes them.
async fn survey_padding<S: Storage>(subject: &Subject<'_, S>, region: Region, findings: &mut Findings) -> Result<()> {
    let chunks = subject.head.geometry.chunks;
    let end = region.size / table::ENTRY_SIZE;
    let mut runs = EntryRuns::new(subject.file, region, chunks, end, &[]);
    while let Some(run) = next_readable(&mut runs, findings).await? {
        if let Some(storage) = run.entry.storage() {
            findings.add(FindingKind::Garbage, run.count, || {
                format!(
                    "table entries {}..{} lie behind the last chunk and name storage chunk {storage}",
                    run.first,
                    run.end()
                )
            });
        }
    }
    Ok(())
}

async fn next_readable<S: Storage>(runs: &mut EntryRuns<'_, S>, findings: &mut Findings) -> Result<Option<EntryRun>> {
    loop {
        match runs.next().await {
            Ok(run) => return Ok(run),
            Err(error) => unreadable(error, findings)?,
        }
    }
}

/// Counts an unreadable part of the metadata. Fails if there are more than [`MAX_UNREADABLE`].
pub(super) fn unreadable(error: Error, findings: &mut Findings) -> Result<()> {
    if findings.count(FindingKind::Unreadable) >= MAX_UNREADABLE {
        return Err(error);
    }
    findings.add(FindingKind::Unreadable, 1, || error.reason());
    Ok(())
}
