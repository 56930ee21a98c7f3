//! What goes wrong on purpose: errors that the engine must survive, and lies of the medium that
//! the tests must find.

/// Errors to inject. Operations are counted from 1, in the order in which they complete.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The operation with this number fails with EIO.
    pub fail_at: Option<u64>,
    /// Every operation from this number on fails with EIO.
    pub fail_from: Option<u64>,
    /// One in so many operations fails with EIO.
    pub one_in: Option<u32>,
    /// Which operations [`Faults::one_in`] speaks of.
    pub target: Target,
    /// Before one in so many operations the kernel has tried to write out what its cache holds of that disk, and
    /// failed: the next sync says so, once.
    pub writeback: Option<u32>,
    /// Bytes of new space that can still be used; then ENOSPC. Space is used by pages of 4096
    /// bytes, where something is written.
    pub space: Option<u64>,
}

/// What fails now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Anything.
    #[default]
    Anything,
    /// What the base is asked for.
    Base,
    /// Reads and writes of data, wherever it lies: nothing that poisons an image.
    Data,
}

/// A medium that breaks its contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// It keeps it.
    #[default]
    None,
    /// The sync with this number (from 1, over all disks) succeeds without effect.
    DropSync(u64),
    /// No sync has an effect.
    DropEverySync,
    /// A sync covers data only if it was written before the sync before it: the journal becomes
    /// durable before what it points at.
    DataLagsBehind,
    /// A sync covers everything but the journal and the rest of the metadata.
    MetadataIsNotSynced,
}
