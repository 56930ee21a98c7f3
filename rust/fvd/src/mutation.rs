//! Deliberate faults, by which the simulator shows that it finds such faults.
//!
//! Only a build with the feature `mutations`, which nothing enables by default, can make them; in
//! any other the question is answered at compile time, and nothing is left of them.

#[cfg(feature = "mutations")]
use std::cell::Cell;

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A fault: what the engine does wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[$doc])* $name,)*
        }

        #[cfg(feature = "mutations")]
        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

mutations! {
    /// A commit to an unclean image does not sync the data.
    DropDataSync,
    /// A commit to a clean image does not mark it unclean.
    DropUncleanMark,
    /// Entries and the bits that rely on them go to the journal with one sync.
    JournalInOneGo,
    /// Of the chunks of a write only the first goes to the journal.
    JournalOneChunk,
    /// Blocks are local before a copy-on-write has stored them.
    PublishBeforeData,
    /// A copy-on-write decides before it has the lock which edges come from the base.
    EdgesBeforeLock,
    /// A failed write does not publish the chunks it has reserved.
    HideFailedWrite,
    /// Before the first allocation the file is not cut behind the last used chunk.
    KeepTail,
    /// A copy stores blocks that a guest has made local meanwhile.
    CopyOverwrites,
    /// A block that is fetched in parts is published although somebody else has held it meanwhile.
    PartsDisturbed,
    /// A guest writes to quiet blocks, and no commit hears of it.
    ForgetQuietBlock,
    /// A guest publishes blocks, and their quiet chunks stay quiet.
    ForgetQuietChunk,
    /// What was quiet is taken for recorded before the checkpoint has written it.
    RecordedTooEarly,
    /// A checkpoint writes bitmap pages before table pages.
    BitmapBeforeTable,
    /// Where blocks cross a page of the bitmap, its last page is not written.
    LastPageMissed,
    /// A checkpoint does not sync what it has written in place.
    CheckpointWithoutSync,
    /// What a failed or cancelled commit took is not pending again.
    ForgetRestore,
    /// A flush shares the round that is running already.
    ShareRunningRound,
    /// Who waits for a round that fails is told that it has flushed.
    FailedRoundCounts,
    /// A failed sync does not poison the image.
    ForgetPoison,
    /// A sync that fails because the disk is full does not poison the image.
    FullSyncIsNoLoss,
    /// A close marks the image clean before its checkpoint.
    CleanMarkFirst,
    /// A close does not sync the data where no metadata has changed.
    CloseUnsynced,
    /// An open for writing believes what the page cache has, also where a sync has failed.
    BelieveCache,
    /// An open for writing takes what an earlier session has left in the page cache for durable.
    BelieveUnsynced,
    /// Recovery replays bitmap records only.
    RecoveryIgnoresTable,
    /// Every block is said to be local without a look at the bitmap.
    CompleteUnseen,
    /// The header says that every block is local before the checkpoint.
    CompleteFirst,
    /// A storage chunk that was freed is used again while its old entry is on disk.
    ReuseUnsettled,
    /// A storage chunk that was freed is used again while requests may know it as that of another chunk.
    ReuseInFlight,
    /// A read does not count among the requests that may know a storage chunk.
    ReadUncounted,
    /// A write does not count among these requests.
    WriteUncounted,
    /// A storage chunk that was freed is not zeroed when it is used again.
    ReuseUnzeroed,
    /// The journal is not erased before storage chunks that were freed are used again.
    KeepJournal,
    /// The journal is erased up to the last sector of this lap only.
    EraseThisLap,
    /// A commit goes to the journal although chunks were freed.
    CommitFreed,
    /// A request publishes storage chunks that were freed since it has looked them up.
    PublishDiscarded,
    /// A discard does not wait for blocks that are being filled.
    DiscardUnlocked,
    /// A request that finds no room fails, although another one has got storage for its chunk meanwhile.
    RoomUnshared,
    /// With `writethrough` a write is acknowledged when the image has it.
    AckBeforeBase,
    /// An image that was not closed owes its base nothing.
    ForgetResync,
    /// What could not be pushed to the base is owed no more.
    DropDebt,
    /// A flush does not sync the base.
    BaseUnsynced,
    /// The base is written to without a mark that says so.
    UpdateUnrecorded,
    /// A part of a sector goes to the base alone, although it may lack other parts of the sector.
    PartOfSector,
    /// A write to both sides does not lock its blocks.
    UpdateUnlocked,
    /// A copy stores what it has read of a base that changes before it had the lock.
    StaleCopy,
}

#[cfg(feature = "mutations")]
thread_local! {
    static CURRENT: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// What this thread does has the fault from here on; None: no fault.
#[cfg(feature = "mutations")]
pub fn set(mutation: Option<Mutation>) {
    CURRENT.set(mutation);
}

/// Whether this fault is to be made.
#[cfg(feature = "mutations")]
pub(crate) fn is(mutation: Mutation) -> bool {
    CURRENT.get() == Some(mutation)
}

/// Never.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn is(_: Mutation) -> bool {
    false
}
