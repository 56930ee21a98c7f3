//! Recovery of an image that is only read: the journal is applied in memory, and the file does not change.

use crate::error::{Error, Result};
use crate::format::{Record, Region, VirtualChunk};
use crate::image::Image;
use crate::image::durability::recover::journal_reader::{JournalReader, blocks_of, dedup, entries_of};
use crate::image::metadata::table::words_of;
use crate::storage::Storage;

/// Most bytes of metadata that a journal may touch: far more than a journal of the default size touches in a
/// disk of 16 TiB. A small file can name any amount.
const MAX_TOUCHED: u64 = 512 << 20;

impl<S: Storage> Image<S> {
    /// Applies the journal to the bitmap and the table in memory.
    pub(in crate::image) async fn recover_in_memory(&self, journal: Region) -> Result<()> {
        let mut journal = JournalReader::new(self.file(), journal);
        let mut room = MAX_TOUCHED;
        while let Some(records) = journal.next().await? {
            for (_, record) in records {
                self.apply(record, &mut room).await?;
            }
        }
        Ok(())
    }

    async fn apply(&self, record: Record, room: &mut u64) -> Result<()> {
        match record {
            Record::Table(record) => {
                let Some(table) = self.metadata.table() else {
                    return Ok(());
                };
                let mut entries: Vec<_> = entries_of(&record, table.chunks()).collect();
                dedup(&mut entries);
                let (Some(&(first, _)), Some(&(last, _))) = (entries.first(), entries.last()) else {
                    return Ok(());
                };
                let chunks = VirtualChunk::new(first.into())..VirtualChunk::new(last.into()).next();
                self.take_room(table.words().missing_bytes(&words_of(&chunks)), room)?;
                table.load(self.file(), &chunks).await?;
                for (chunk, entry) in entries {
                    table.set(VirtualChunk::new(chunk.into()), entry);
                }
            }
            Record::Bitmap(record) => {
                let Some(bitmap) = self.metadata.bitmap() else {
                    return Ok(());
                };
                let blocks = blocks_of(&record, self.geometry());
                if !blocks.is_empty() {
                    self.take_room(bitmap.missing_bytes(&blocks), room)?;
                    bitmap.load(self.file(), &blocks).await?;
                    bitmap.set(&blocks);
                }
            }
        }
        Ok(())
    }

    fn take_room(&self, missing: u64, room: &mut u64) -> Result<()> {
        if let Some(left) = room.checked_sub(missing) {
            *room = left;
            return Ok(());
        }
        let message = "The journal changes more metadata than is replayed in memory: open the image for writing once";
        Err(Error::unsupported(message).with_path(self.file().path()))
    }
}
