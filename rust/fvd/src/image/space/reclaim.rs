//! Reclaim: makes freed storage chunks usable again, with a checkpoint and by waiting for requests in flight.

use tracing::debug;

use crate::error::Result;
use crate::format::{StorageChunk, VirtualChunk};
use crate::image::metadata::table::Table;
use crate::image::space::Allocator;
use crate::image::space::store_error::{StoreError, Stored};
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

/// At most one storage chunk in this many waits for a checkpoint after it was freed, unless a grow unit holds
/// more.
const WAITING_PART: u64 = 8;

/// How often a request that finds no room is tried again: other requests may take the room first.
pub(in crate::image) const ATTEMPTS: usize = 16;

impl<S: Storage> Allocator<S> {
    /// Makes freed storage chunks usable again with a checkpoint, if there are many of them. So only few of
    /// many small discards make a checkpoint, and only a limited part of a file is unused.
    pub(in crate::image) async fn checkpoint_many_freed(&self) -> Result<()> {
        if self.has_freed_much() {
            self.checkpoint_freed(Self::has_freed_much).await
        } else {
            Ok(())
        }
    }

    pub(super) fn has_freed(&self) -> bool {
        !self.metadata.volatile().pending.freed().is_empty()
    }

    fn has_freed_much(&self) -> bool {
        let Some(table) = self.metadata.table() else {
            return false;
        };
        let grow_unit = self.grow_unit / table.chunk_size();
        let volatile = self.metadata.volatile();
        let most = grow_unit.max(volatile.pool.end() / WAITING_PART);
        volatile.pending.freed().len() > most
    }

    async fn checkpoint_freed(&self, is_worth_it: fn(&Self) -> bool) -> Result<()> {
        let _round = self.committer.round().await?;
        // The previous round may have made them usable, and only a few have been freed since.
        if !is_worth_it(self) {
            return Ok(());
        }
        self.committer.checkpoint().await
    }

    /// After a failed attempt, with `left` more allowed: returns when another attempt may find room.
    /// Otherwise fails, with `error` or with that of the checkpoint. Only a lack of storage chunks can be
    /// helped: if it is the host that has no space, freed storage chunks do not help. Requirements for the
    /// caller: see [`Allocator::reclaim`].
    pub(in crate::image) async fn find_room(&self, error: StoreError, left: &mut usize) -> Stored<()> {
        let (StoreError::OutOfChunks { chunk, .. }, Some(table)) = (&error, self.metadata.table()) else {
            return Err(error);
        };
        if *left == 0 || !Box::pin(self.reclaim(table, *chunk)).await? {
            return Err(error);
        }
        *left -= 1;
        debug!(
            attempts_left = *left,
            "no storage chunk was free: the store is tried again"
        );
        Ok(())
    }

    /// There was no room for `chunk`: waits until freed storage chunks can be used, if there are any. Returns
    /// whether another attempt may find room. The caller holds no lock and no pin, and no request waits for
    /// it.
    ///
    /// If several requests need storage for the same chunk, the first one gets it, perhaps the last that
    /// there is, and the others share it. So no request gives up before it has checked whether the chunk has
    /// storage now.
    async fn reclaim(&self, table: &Table, chunk: VirtualChunk) -> Result<bool> {
        let shares = || -> Result<bool> {
            let storage = self.storage_of(table, chunk)?;
            Ok(storage.is_some() && !mutation::is(Mutation::RoomUnshared))
        };
        if shares()? {
            return Ok(true);
        }
        // Waits for the running round even if nothing is pending: that round may have taken it.
        self.checkpoint_freed(Self::has_freed).await?;
        let waiting = self.epochs.wait();
        loop {
            let ended = waiting.listen();
            let has_free = self.metadata.volatile().pool.has_free();
            if shares()? || has_free == Some(true) {
                return Ok(true);
            }
            if has_free == Some(false) {
                return Ok(false);
            }
            ended.await;
        }
    }

    /// The storage chunk of `chunk`, in the table or reserved. A reserved one may hold data of a write that
    /// has not been published.
    pub(in crate::image) fn storage_of(&self, table: &Table, chunk: VirtualChunk) -> Result<Option<StorageChunk>> {
        let volatile = self.metadata.volatile();
        let storage = table.get(chunk)?;
        Ok(storage.or_else(|| volatile.pool.reserved(chunk)))
    }
}
