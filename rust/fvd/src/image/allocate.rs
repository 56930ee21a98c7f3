//! Storage chunks for compact images.
//!
//! Numbers are handed out upwards from the highest in use. A reservation stays until its chunk is
//! published, which happens also when the write fails. A fresh chunk reads as zeros where nobody
//! has written: a file is cut behind the last used chunk before the first allocation after an open
//! (a crash may have left data there that no entry points at); on a device the chunk is zeroed
//! before anybody gets it.

use std::collections::BTreeMap;

use super::Image;
use super::scan::EntryRuns;
use super::table::Table;
use crate::error::{Error, ErrorKind, Result};
use crate::format::table::MAX_CHUNK_NUMBER;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

#[derive(Default)]
pub(super) struct Allocator {
    /// Chunk to storage chunk, not yet in the table.
    reserved: BTreeMap<u64, u32>,
    /// None until the table has been scanned.
    frontier: Option<Frontier>,
}

#[derive(Clone, Copy)]
struct Frontier {
    /// The next number to hand out.
    next: u32,
    /// Length of the data file, bytes.
    file_len: u64,
}

impl Allocator {
    /// The chunk is in the table now.
    pub(super) fn published(&mut self, chunk: u64) {
        self.reserved.remove(&chunk);
    }

    pub(super) fn is_reserved(&self, chunk: u64) -> bool {
        self.reserved.contains_key(&chunk)
    }
}

impl<S: Storage> Image<S> {
    /// A storage chunk for `chunk`: that of the table, one reserved earlier, or a fresh one.
    pub(super) async fn reserve(&self, table: &Table, chunk: u64) -> Result<u32> {
        loop {
            if let Some(number) = self.try_reserve(table, chunk)? {
                return Ok(number);
            }
            let _growing = self.growing.lock(0..1).await;
            // While this task waited another one may have reserved the chunk, perhaps the last one
            // that there is room for.
            if let Some(number) = self.try_reserve(table, chunk)? {
                return Ok(number);
            }
            let frontier = self.volatile().allocator.frontier;
            let frontier = match frontier {
                None => self.scan(table).await?,
                Some(frontier) if self.chunk_end(table, frontier.next)? <= frontier.file_len => frontier,
                Some(frontier) => self.grow(table, frontier).await?,
            };
            self.volatile().allocator.frontier = Some(frontier);
            if !self.data().can_resize() {
                return self.reserve_on_device(table, chunk, frontier).await;
            }
        }
    }

    /// None where the allocator is not ready, the file has to grow, or a device is to be zeroed.
    fn try_reserve(&self, table: &Table, chunk: u64) -> Result<Option<u32>> {
        let mut volatile = self.volatile();
        // Looked up again under the mutex: it may have been published since the caller looked.
        if let Some(number) = table.get(chunk)? {
            return Ok(Some(number));
        }
        let Allocator { reserved, frontier } = &mut volatile.allocator;
        if let Some(number) = reserved.get(&chunk) {
            return Ok(Some(*number));
        }
        let Some(frontier) = frontier else {
            return Ok(None);
        };
        if !self.data().can_resize() || self.chunk_end(table, frontier.next)? > frontier.file_len {
            return Ok(None);
        }
        let number = frontier.next;
        frontier.next += 1;
        reserved.insert(chunk, number);
        Ok(Some(number))
    }

    /// Finds the highest number in use and cuts a file behind it.
    async fn scan(&self, table: &Table) -> Result<Frontier> {
        let next = self.first_unused(table).await?;
        let used = self.chunk_offset(table, next);
        let mut file_len = self.data().len().await?;
        if self.data().can_resize() && file_len > used && !mutation::is(Mutation::KeepTail) {
            self.data().set_len(used).await?;
            file_len = used;
        }
        Ok(Frontier { next, file_len })
    }

    /// One more than the highest number in use. Entries that are not in memory are only passed
    /// through: a table can have billions of them. None of them changes meanwhile, because nobody
    /// gets a storage chunk before this ends.
    async fn first_unused(&self, table: &Table) -> Result<u32> {
        let words = table.words();
        let mut next = 0;
        let mut chunk = 0;
        while chunk < table.chunks() {
            let (in_memory, end) = words.memory_run(chunk, table.chunks());
            if in_memory {
                for chunk in chunk..end {
                    next = next.max(table.get(chunk)?.map_or(0, |number| number + 1));
                }
            } else {
                let mut runs = EntryRuns::new(&self.file, words.region(), chunk, end, &[]).with_lost(table.chunks());
                while let Some(run) = runs.next().await? {
                    if run.lost {
                        // What their chunks hold would be cut off.
                        return Err(Table::lost(run.first, run.end() - 1));
                    }
                    let number = table.checked(run.first, run.entry)?;
                    next = next.max(number.map_or(0, |number| number + 1));
                }
            }
            chunk = end;
        }
        Ok(next)
    }

    /// Extends the file by the grow unit, or by one chunk where there is no room for more.
    async fn grow(&self, table: &Table, frontier: Frontier) -> Result<Frontier> {
        let needed = self.chunk_end(table, frontier.next)?;
        if !self.data().can_resize() {
            let error = Error::new(
                ErrorKind::NoSpace,
                format!(
                    "The device is full: the image needs {needed} bytes, it has {}",
                    frontier.file_len
                ),
            );
            return Err(error.with_path(self.data().path()));
        }
        let unit = self.header.storage_grow_unit;
        let wanted = needed.max(frontier.file_len.saturating_add(unit));
        let mut file_len = wanted;
        if let Err(error) = self.data().set_len(wanted).await {
            if error.kind() != ErrorKind::NoSpace || wanted == needed {
                return Err(error);
            }
            self.data().set_len(needed).await?;
            file_len = needed;
        }
        Ok(Frontier { file_len, ..frontier })
    }

    /// Zeroes the next storage chunk and reserves it. The caller holds the lock on growing.
    async fn reserve_on_device(&self, table: &Table, chunk: u64, frontier: Frontier) -> Result<u32> {
        if self.chunk_end(table, frontier.next)? > frontier.file_len {
            self.grow(table, frontier).await?;
        }
        let number = frontier.next;
        let start = self.chunk_offset(table, number);
        self.data().write_zeroes(start, table.chunk_size()).await?;
        let mut volatile = self.volatile();
        volatile.allocator.reserved.insert(chunk, number);
        volatile.allocator.frontier = Some(Frontier {
            next: number + 1,
            ..frontier
        });
        Ok(number)
    }

    /// End of the storage chunk in the data file, bytes; fails where numbers have run out.
    fn chunk_end(&self, table: &Table, number: u32) -> Result<u64> {
        let end = u64::from(number + 1)
            .checked_mul(table.chunk_size())
            .and_then(|end| end.checked_add(self.geometry.data_offset));
        match end {
            Some(end) if number <= MAX_CHUNK_NUMBER && i64::try_from(end).is_ok() => Ok(end),
            _ => Err(Error::new(
                ErrorKind::NoSpace,
                format!("The image has no storage chunk left: number {number} is beyond the limit of the format"),
            )
            .with_path(self.file.path())),
        }
    }
}
