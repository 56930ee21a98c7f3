//! Deliberate faults. The simulator makes them to prove that it finds such faults (`docs/simulation.md`).
//!
//! They exist only in a build with the feature `mutations`, which nothing enables by default. In any other
//! build, `is` is false at compile time, and no trace of them is left.

#[cfg(feature = "mutations")]
use std::cell::Cell;

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A fault of the engine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[$doc])* $name,)*
        }

        #[cfg(feature = "mutations")]
        impl Mutation {
            /// All faults.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

mutations! {
    /// A commit to an unclean image does not sync the data.
    DropDataSync,
    /// A commit to a clean image does not mark it unclean.
    DropUncleanMark,
    /// Entries, and the bits that rely on them, go to the journal with one sync.
    JournalInOneGo,
    /// Of the chunks of a write, only the first goes to the journal.
    JournalOneChunk,
    /// Blocks become local before a copy-on-write has stored them.
    PublishBeforeData,
    /// A copy-on-write decides which edges come from the base before it has the lock.
    EdgesBeforeLock,
    /// A failed write does not publish the chunks that it has reserved.
    HideFailedWrite,
    /// Before the first allocation, the file is not cut after the last used chunk.
    KeepTail,
    /// A copy overwrites blocks that a guest has made local meanwhile.
    CopyOverwrites,
    /// A block that is fetched in parts is published although another task has locked it meanwhile.
    PartsDisturbed,
    /// A guest writes to unlogged blocks without promoting them, so no commit records them.
    ForgetUnloggedBlock,
    /// A guest publishes blocks, and their unlogged chunks stay unlogged.
    ForgetUnloggedChunk,
    /// Unlogged blocks count as recorded before the checkpoint has written them.
    RecordedTooEarly,
    /// A checkpoint writes bitmap pages before table pages.
    BitmapBeforeTable,
    /// Where blocks span two pages of the bitmap, the last page is not written.
    LastPageMissed,
    /// A checkpoint does not sync what it has written in place.
    CheckpointWithoutSync,
    /// The changes of a failed or cancelled commit do not become pending again.
    ForgetRestore,
    /// A flush shares a round that was already running.
    ShareRunningRound,
    /// A flush that waits for a failed round reports success.
    FailedRoundCounts,
    /// A failed sync does not poison the image.
    ForgetPoison,
    /// A sync that fails because the disk is full does not poison the image.
    FullSyncIsNoLoss,
    /// A close marks the image clean before its checkpoint.
    CleanMarkFirst,
    /// A close does not sync the data if no metadata has changed.
    CloseUnsynced,
    /// An open for writing trusts the page cache even where a sync has failed.
    BelieveCache,
    /// An open for writing takes data that an earlier session left in the page cache for durable.
    BelieveUnsynced,
    /// Recovery replays bitmap records only.
    RecoveryIgnoresTable,
    /// Completion assumes that every block is local without a look at the bitmap.
    CompleteUnseen,
    /// The header says that every block is local before the checkpoint.
    CompleteFirst,
    /// A freed storage chunk is reused while its old entry is on disk.
    ReuseReferenced,
    /// A freed storage chunk is reused while requests in flight may still use it for another chunk.
    ReuseInFlight,
    /// A read does not count among the requests in flight that may use a storage chunk.
    ReadUncounted,
    /// A write does not count among the requests in flight that may use a storage chunk.
    WriteUncounted,
    /// A freed storage chunk is not zeroed when it is reused.
    ReuseUnzeroed,
    /// The journal is not erased before freed storage chunks are reused.
    KeepJournal,
    /// The journal is erased only up to the last sector of this lap.
    EraseThisLap,
    /// A commit goes to the journal although chunks were freed.
    CommitFreed,
    /// A request publishes storage chunks that were freed after it looked them up.
    PublishDiscarded,
    /// A discard does not wait for blocks that are being filled.
    DiscardUnlocked,
    /// A request that finds no room fails, although another request has allocated storage for its chunk
    /// meanwhile.
    RoomUnshared,
    /// With `writethrough`, a write is acknowledged before the base has it.
    AckBeforeBase,
    /// The blocks of an image that was not closed do not become dirty ranges of the base.
    ForgetResync,
    /// A range whose writeback failed is no longer dirty.
    ForgetDirty,
    /// A flush does not sync the base.
    BaseUnsynced,
    /// The base is written to while the image is still marked clean.
    UpdateUnrecorded,
    /// A part of a sector is written to the base, although the base may lack other parts of the sector.
    PartOfSector,
    /// A write to both sides does not lock its blocks.
    UpdateUnlocked,
    /// A copy stores data that it read before it had the lock, from a base that changes.
    StaleCopy,
    /// A zeroing does not count among the requests in flight that may use a storage chunk.
    ZeroUncounted,
    /// A discard does not count among the requests in flight that may use a storage chunk.
    DiscardUncounted,
    /// An open for writing syncs nothing if the image is marked clean.
    CleanNeedsNoSync,
    /// The error of a sync at the beginning of a session is swallowed.
    BeginSyncSwallowed,
    /// The mark that recovery has written is not synced.
    RecoveryMarkUnsynced,
    /// A session with `cache=unsafe` does not mark the image unclean.
    UnsafeUnmarked,
    /// A mark that is in another file than the data is not synced.
    SeparateMarkUnsynced,
    /// A checkpoint of an image that is marked unclean does not sync the data.
    CheckpointDataUnsynced,
    /// A checkpoint that has nothing to write does not sync the data.
    EmptyCheckpointUnsynced,
    /// The error of the sync that keeps the end of a file from tearing a sector is swallowed.
    OddEndSwallowed,
    /// An open does not make durable what an earlier session has written to the base.
    LeftoversUnsynced,
    /// An open believes what the page cache has of the base, even where a sync has failed.
    BaseNotDropped,
    /// A resync believes what the page cache has of the image, even where a sync has failed.
    ResyncBelievesCache,
    /// The error of the sync before the first write to the base is swallowed.
    BaseBeginSwallowed,
    /// The error of closing the base is swallowed.
    BaseCloseSwallowed,
    /// Copies that were stored count as waiting, so that no more are accepted.
    OutstandingForEver,
}

#[cfg(feature = "mutations")]
thread_local! {
    static CURRENT: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// From now on, this thread makes the fault. None: no fault.
#[cfg(feature = "mutations")]
pub fn set(mutation: Option<Mutation>) {
    CURRENT.set(mutation);
}

/// Whether to make this fault.
#[cfg(feature = "mutations")]
pub(crate) fn is(mutation: Mutation) -> bool {
    CURRENT.get() == Some(mutation)
}

/// Always false.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn is(_: Mutation) -> bool {
    false
}
