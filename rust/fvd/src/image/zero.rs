//! Write zeroes: no base read, no allocation.

use bytes::Bytes;

use super::Image;
use super::publish::Fresh;
use super::table::Table;
use crate::error::Result;
use crate::storage::Storage;

/// Zeros written at once at most, where they have to be written at all.
pub(super) static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

impl<S: Storage> Image<S> {
    /// Makes `len` bytes from `offset` (any alignment) read as zeros, freeing their space where
    /// the storage can. Durable after the next successful [`Image::flush`].
    ///
    /// Whole blocks that are still in the base become local without being read or stored.
    pub async fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        let end = self.check_range(offset, len)?;
        let _request = self.guests.enter();
        self.counters.zeroes.add(1);
        self.counters.zeroed_bytes.add(len);
        // The table and bitmap of a huge range are loaded step by step.
        let mut start = offset;
        while start < end {
            let stop = self.lookup_end(start, end);
            match &self.through {
                None => self.zero_range(start, stop).await?,
                Some(through) => Box::pin(self.zero_through(through, start, stop)).await?,
            }
            start = stop;
        }
        if len == 0 {
            return Ok(());
        }
        self.write_through().await
    }

    pub(super) async fn zero_range(&self, start: u64, end: u64) -> Result<()> {
        self.load(start, end).await?;
        let Some(bitmap) = &self.bitmap else {
            return self.zero_local(start, end).await;
        };
        let blocks = bitmap.blocks(start, end);
        if bitmap.all_local(&blocks) {
            return self.zero_local(start, end).await;
        }
        // Blocks covered in part keep the rest of their base data: a copy-on-write of zeros.
        let mut whole = blocks.clone();
        if bitmap.block_range(whole.start).start < start {
            whole.start += 1;
        }
        if !whole.is_empty() && bitmap.block_range(whole.end - 1).end > end {
            whole.end -= 1;
        }
        if whole.is_empty() {
            let behind = end.min(bitmap.base_size());
            self.store_zeros(start, behind).await?;
            return self.zero_local(behind, end).await;
        }
        let first = bitmap.block_range(whole.start).start;
        let last = bitmap.block_range(whole.end - 1).end;
        self.store_zeros(start, first).await?;
        {
            let _filling = self.filling.lock(whole.clone()).await;
            self.claim(first, last);
            self.counters.filling_writes.add(1);
            self.counters.base_reads_avoided.add(1);
            let mut fresh = Fresh::new(self);
            self.zero_stored(first, last, &mut fresh).await?;
            fresh.publish(&whole)?;
        }
        if last < end && last < bitmap.base_size() {
            return self.store_zeros(last, end).await;
        }
        self.zero_local(last, end).await
    }

    /// Zeroes what is local.
    async fn zero_local(&self, start: u64, end: u64) -> Result<()> {
        self.claim(start, end);
        let mut fresh = Fresh::new(self);
        self.zero_stored(start, end, &mut fresh).await?;
        fresh.publish(&(0..0))
    }

    /// Writes zeros as data.
    async fn store_zeros(&self, start: u64, end: u64) -> Result<()> {
        let mut at = start;
        while at < end {
            let stop = end.min(at + ZEROS.len() as u64);
            let zeros = Bytes::from_static(&ZEROS[..(stop - at) as usize]);
            self.store(zeros, at, stop).await?;
            at = stop;
        }
        Ok(())
    }

    /// Zeroes what is stored for `start..end`. Nothing is published; `fresh` gets the new chunks.
    pub(super) async fn zero_stored(&self, start: u64, end: u64, fresh: &mut Fresh<'_, S>) -> Result<()> {
        let mut at = start;
        while at < end {
            let stop = match &self.table {
                None => {
                    let offset = self.geometry.data_offset + at;
                    self.data().write_zeroes(offset, end - at).await?;
                    end
                }
                Some(table) => self.zero_chunk(table, at, end, fresh).await?,
            };
            at = stop;
        }
        Ok(())
    }

    /// Zeroes the part of `at..end` in the first chunk, or skips it and all those behind it that
    /// have no storage. Gives the end of that part.
    async fn zero_chunk(&self, table: &Table, at: u64, end: u64, fresh: &mut Fresh<'_, S>) -> Result<u64> {
        let chunk = at / table.chunk_size();
        let stop = (chunk + 1).saturating_mul(table.chunk_size()).min(end);
        let number = match table.get(chunk)? {
            Some(number) => {
                if !table.is_recorded(chunk) {
                    fresh.push(chunk, number);
                }
                number
            }
            // A reserved chunk may hold data of a write that has not been published.
            None if self.volatile().allocator.is_reserved(chunk) => {
                let number = self.reserve(table, chunk).await?;
                fresh.push(chunk, number);
                number
            }
            None => return Ok(stop),
        };
        let offset = self.chunk_offset(table, number) + at % table.chunk_size();
        self.data().write_zeroes(offset, stop - at).await?;
        Ok(stop)
    }
}
