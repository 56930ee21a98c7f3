//! The steps of a repair, in their order. The documentation of the module `check` explains the order.

use std::ops::Range;

use super::findings::{FindingKind, Findings, Severity};
use super::table::{Bounds, Place, survey};
use super::verify::Verdict;
use super::{Repair, Subject, leaks, lost, relocate};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Region, StorageChunk, table};
use crate::image::durability::recover::in_place;
use crate::image::metadata::scan::EntryRuns;
use crate::image::metadata::{patch, redo};
use crate::image::space::surplus;
use crate::storage::Storage;

/// The findings about the table.
const TABLE_CORRUPTIONS: [FindingKind; 6] = [
    FindingKind::OutOfRange,
    FindingKind::BeyondEnd,
    FindingKind::PartlyBeyondEnd,
    FindingKind::Lost,
    FindingKind::Shared,
    FindingKind::Garbage,
];

/// What happens to leaked storage chunks.
#[derive(Clone, Copy)]
pub(super) enum Leaked {
    /// They become holes.
    Holes,
    /// The highest storage chunks move into them, and a file becomes shorter.
    Filled,
}

/// The steps that are needed.
#[expect(clippy::struct_excessive_bools, reason = "each is a step of its own")]
struct Plan {
    /// Clear or change wrong entries.
    mend: bool,
    /// The file may be cut after the last storage chunk in use.
    tidy: bool,
    /// Free leaked storage chunks before the cut.
    free: bool,
    /// Erase the journal.
    erase: bool,
}

impl Plan {
    /// The plan of a repair, `None` if there is nothing to do.
    fn of<S: Storage>(subject: &Subject<'_, S>, before: &Verdict, repair: Repair) -> Option<Self> {
        let all = repair == Repair::All;
        if before.report.suspect && !all {
            return None;
        }
        let corrupt = TABLE_CORRUPTIONS.iter().any(|kind| before.count(*kind) > 0);
        let mend = all && corrupt;
        let tidy = (all || !corrupt) && subject.head.geometry.table.is_some();
        let free = tidy && before.report.leaks > 0;
        let cut = tidy && excess(subject, before.table.used.end()).is_some();
        let unclean = !subject.head.header.clean_shutdown;
        (mend || free || cut || unclean || subject.head.interrupted).then_some(Self {
            mend,
            tidy,
            free,
            erase: mend || free || unclean,
        })
    }
}

/// Repairs the findings in `before`. Returns false if there was nothing to do; then nothing was written.
pub(super) async fn repair<S: Storage>(
    subject: &Subject<'_, S>,
    before: &Verdict,
    repair: Repair,
    leaked: Leaked,
) -> Result<bool> {
    let file = subject.file;
    if before.report.check_errors > 0 {
        let message = "A part of the metadata cannot be read: nothing was repaired";
        return Err(Error::new(ErrorKind::Io, message).with_path(file.path()));
    }
    let Some(plan) = Plan::of(subject, before, repair) else {
        return Ok(false);
    };
    if plan.mend {
        check_base_is_safe(subject, before)?;
    }
    check_means(subject, before, &plan).await?;
    redo::finish(file, subject.data).await?;
    if let Some(journal) = subject.live_journal() {
        if let Some(table) = subject.head.geometry.table
            && plan.mend
        {
            lost::clear(subject, table).await?;
        }
        in_place::replay(file, &subject.head, journal).await?;
    }
    if let Some(journal) = subject.head.geometry.journal
        && plan.erase
    {
        in_place::erase(file, journal).await?;
    }
    if let Some(table) = subject.head.geometry.table {
        if plan.mend {
            mend(subject, table, before).await?;
        }
        if plan.tidy {
            // Content and length of the file have changed, so read them again.
            tidy(
                &Subject::new(file, subject.data).await?,
                table,
                (plan.free || plan.mend).then_some(leaked),
            )
            .await?;
        }
    }
    mark_clean(subject).await?;
    Ok(true)
}

/// Marks an unclean image clean. Two images stay unclean: one whose base may lack data that is already local
/// (the next open must write it back), and a compact image with a journal whose data file is not open (it may
/// have a tail). Without a journal the second one is marked clean, because otherwise it would stay suspect.
async fn mark_clean<S: Storage>(subject: &Subject<'_, S>) -> Result<()> {
    let Subject { file, data, head, .. } = subject;
    let unseen = head.geometry.table.is_some() && head.geometry.journal.is_some() && data.is_none();
    if head.header.clean_shutdown || head.base_may_be_stale() || unseen {
        return Ok(());
    }
    // The steps before do not cut the tail if corruptions remain.
    surplus::cut_tail(*file, *data, &head.geometry).await?;
    patch::write_mark(*file, true).await?;
    file.sync().await
}

/// Refuses a repair that would destroy data in the base. The next open of an unclean image that writes to its
/// base writes all local blocks to it. It would also write the zeros of chunks whose storage chunk is lost,
/// and overwrite data that may exist only in the base.
fn check_base_is_safe<S: Storage>(subject: &Subject<'_, S>, before: &Verdict) -> Result<()> {
    let zeroed = [FindingKind::OutOfRange, FindingKind::BeyondEnd, FindingKind::Lost];
    let loses = zeroed.iter().any(|kind| before.count(*kind) > 0);
    if !loses || subject.head.header.clean_shutdown || !subject.head.base_may_be_stale() {
        return Ok(());
    }
    let message = "The repair would make chunks zeros whose place is lost, and the next open would write these to the \
                   base, where their content may still be: nothing was repaired. `fvd convert` makes a new image of \
                   what can be read";
    Err(Error::unsupported(message).with_path(subject.file.path()))
}

/// Fails if copies are needed that cannot be made.
async fn check_means<S: Storage>(subject: &Subject<'_, S>, before: &Verdict, plan: &Plan) -> Result<()> {
    let shared = if plan.mend {
        before.count(FindingKind::Shared)
    } else {
        0
    };
    if shared == 0 {
        return Ok(());
    }
    let Some(data) = subject.data else {
        let name = subject.head.header.data_file.display();
        let message = format!(
            "The repair has to copy chunks in the data file '{name}', which was not opened: nothing was repaired"
        );
        return Err(Error::invalid_argument(message).with_path(subject.file.path()));
    };
    relocate::check_copies(subject, data, &before.table.used, shared).await
}

/// Repairs the corruptions of the table.
async fn mend<S: Storage>(subject: &Subject<'_, S>, table: Region, before: &Verdict) -> Result<()> {
    lost::clear(subject, table).await?;
    clear_wrong(subject, table).await?;
    let Some(data) = subject.data else {
        return Ok(());
    };
    if let Some(storage) = before.table.partly
        && data.can_resize()
    {
        let end = subject.chunk_offset(storage) + subject.head.geometry.chunk_size;
        data.set_len(end).await?;
        data.sync().await?;
    }
    if before.count(FindingKind::Shared) > 0 {
        relocate::unshare(subject, data, table, &before.table.used).await?;
    }
    Ok(())
}

/// Sets entries that name no existing storage chunk, and those after the last chunk, to "not allocated".
async fn clear_wrong<S: Storage>(subject: &Subject<'_, S>, table: Region) -> Result<()> {
    let bounds = Bounds::of(subject);
    let chunks = subject.head.geometry.chunks;
    let end = table.size / table::ENTRY_SIZE;
    let mut runs = EntryRuns::new(subject.file, table, 0, end, &[]);
    let mut pending: Range<u64> = 0..0;
    while let Some((run, storage)) = runs.next_allocated().await? {
        let named = !matches!(bounds.place(storage), Place::Beyond | Place::Impossible);
        // A run may extend from the last chunks into the garbage after them.
        let first = if named { run.first.max(chunks) } else { run.first };
        if first >= run.end() {
            continue;
        }
        if first != pending.end {
            patch::clear_entries(subject.file, table, pending).await?;
            pending = first..first;
        }
        pending.end = run.end();
    }
    patch::clear_entries(subject.file, table, pending).await?;
    subject.file.sync().await
}

/// Frees unused storage, unless corruptions remain.
pub(super) async fn tidy<S: Storage>(subject: &Subject<'_, S>, table: Region, leaked: Option<Leaked>) -> Result<()> {
    let mut findings = Findings::default();
    let survey = survey(subject, &mut findings).await?;
    let wrong = findings.total(Severity::Corruption) + findings.total(Severity::CheckError);
    let Some(data) = subject.data.filter(|_| wrong == 0) else {
        return Ok(());
    };
    let mut end = survey.used.end();
    match leaked.filter(|_| findings.count(FindingKind::Leak) > 0) {
        Some(Leaked::Holes) => leaks::free(subject, data, &survey.used).await?,
        Some(Leaked::Filled) => {
            relocate::fill_gaps(subject, data, table, &survey.used).await?;
            // There are no gaps any more, so the storage chunks in use are the numbers below their count.
            end = StorageChunk::FIRST.plus(survey.used.len());
        }
        None => {}
    }
    if let Some(len) = excess(subject, end) {
        data.set_len(len).await?;
        data.sync().await?;
    }
    Ok(())
}

/// The length to which the data file must be cut if it is longer than the storage chunks before `end`.
fn excess<S: Storage>(subject: &Subject<'_, S>, end: StorageChunk) -> Option<u64> {
    let end = subject.chunk_offset(end);
    let can_resize = subject.data.is_some_and(Storage::can_resize);
    (can_resize && subject.data_len? > end).then_some(end)
}
