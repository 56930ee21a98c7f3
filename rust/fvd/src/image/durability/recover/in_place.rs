//! Recovery in place: writes what the journal says to table and bitmap.

use rangemap::RangeSet;
use tracing::{Instrument as _, debug, info_span};

use crate::error::Result;
use crate::format::{Record, Region};
use crate::image::Head;
use crate::image::durability::recover::journal_reader::{JournalReader, blocks_of, dedup, entries_of};
use crate::image::metadata::{patch, redo};
use crate::image::space::surplus;
use crate::mutation::{self, Mutation};
use crate::storage::{Space, Storage};

/// Finishes what was cut short: a change of the header, then the replay of the journal of an unclean image,
/// which is marked clean. All of it is durable. An image whose base may lack local data stays unclean (W2).
///
/// `data` is the storage that holds the data. None: it is a file that is not open, which is not cut.
pub(in crate::image) async fn recover<S: Storage>(file: &S, data: Option<&S>, head: &mut Head) -> Result<()> {
    finish(file, data, head).await?;
    match head.unclean_journal() {
        Some(journal) => {
            let span = info_span!("recovery", file = %file.path().display(), journal_bytes = journal.size);
            recover_journal(file, data, head, journal).instrument(span).await
        }
        None => Ok(()),
    }
}

async fn recover_journal<S: Storage>(file: &S, data: Option<&S>, head: &mut Head, journal: Region) -> Result<()> {
    replay(file, head, journal).await?;
    surplus::cut_tail(file, data, &head.geometry).await?;
    if head.base_may_be_stale() {
        // The mark also says whether the base has what is local: it stays until the base has that.
        return Ok(());
    }
    patch::write_mark(file, true).await?;
    if !mutation::is(Mutation::RecoveryMarkUnsynced) {
        file.sync().await?;
    }
    head.header.clean_shutdown = true;
    Ok(())
}

/// Finishes a change of the header that was cut short, durably. Only `file` is open, and no file that it
/// names.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the change is one of the size, and the data is
/// in another file.
pub async fn finish_change<S: Storage>(file: &S, head: &mut Head) -> Result<()> {
    let data = head.header.data_file.is_empty().then_some(file);
    finish(file, data, head).await
}

async fn finish<S: Storage>(file: &S, data: Option<&S>, head: &mut Head) -> Result<()> {
    redo::finish(file, data).await?;
    head.interrupted = false;
    Ok(())
}

/// Writes what the journal says in place, and syncs it.
///
/// The image stays unclean and the journal stays as it is. After a crash the same is done again, so the order
/// of the writes does not matter.
pub(in crate::image) async fn replay<S: Storage>(file: &S, head: &Head, journal: Region) -> Result<()> {
    let geometry = &head.geometry;
    let bitmap = geometry.bitmap.filter(|_| head.needs_base());
    let mut journal = JournalReader::new(file, journal);
    while let Some(records) = journal.next().await? {
        let mut entries = Vec::new();
        let mut blocks = RangeSet::new();
        for (_, record) in records {
            match record {
                Record::Table(_) if mutation::is(Mutation::RecoveryIgnoresTable) => {}
                Record::Table(record) => entries.extend(entries_of(&record, geometry.chunks)),
                Record::Bitmap(record) => {
                    let range = blocks_of(&record, geometry);
                    if !range.is_empty() {
                        blocks.insert(range);
                    }
                }
            }
        }
        dedup(&mut entries);
        debug!(
            entries = entries.len(),
            block_ranges = blocks.iter().count(),
            "a part of the journal is replayed"
        );
        if let Some(table) = geometry.table {
            patch::write_entries(file, table, &entries).await?;
        }
        if let Some(bitmap) = bitmap {
            for range in blocks {
                patch::set_bits(file, bitmap, range).await?;
            }
        }
    }
    file.sync().await
}

/// Fills the journal with zeros, and syncs it. A sector of zeros holds no record.
pub(in crate::image) async fn erase<S: Storage>(file: &S, journal: Region) -> Result<()> {
    file.write_zeroes(journal.offset, journal.size, Space::Free).await?;
    file.sync().await
}
