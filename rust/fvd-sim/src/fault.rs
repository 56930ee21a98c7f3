//! Deliberate failures: errors that the engine must survive, and media that break their contract, which the
//! tests must detect.

/// Errors to inject. Operations are counted from 1, in the order in which they complete.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The operation with this number fails.
    pub fail_at: Option<u64>,
    /// Every operation from this number on fails.
    pub fail_from: Option<u64>,
    /// One in this many operations fails.
    pub one_in: Option<u32>,
    /// Which operations [`Faults::one_in`] applies to.
    pub target: Target,
    /// The error number that failing operations return.
    pub error: Errno,
    /// Before one in this many operations, the kernel's writeback of that disk's page cache has failed. The
    /// next sync reports the failure, once.
    pub writeback: Option<u32>,
    /// Bytes of new space that can still be allocated; after that, writes fail with ENOSPC. Space is
    /// allocated in pages of 4096 bytes, where something is written.
    pub space: Option<u64>,
    /// Maximum length of a file in bytes. Beyond it, writes fail with EFBIG.
    pub longest: Option<u64>,
}

/// Which operations fail at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Any operation.
    #[default]
    Anything,
    /// Operations on the base.
    Base,
    /// Reads and writes of data, wherever it is stored. None of these failures poisons an image.
    Data,
    /// Reads and writes of metadata.
    Metadata,
    /// Reads of anything.
    Reads,
    /// Writes of anything but zeros.
    Writes,
    /// Zeroing.
    Zeroes,
    /// Syncs.
    Syncs,
    /// Changes of the length of a file.
    Lengths,
    /// Queries of the length and of the holes.
    Questions,
}

/// Operations that hang: nearly all others overtake them.
#[derive(Clone, Copy, Debug)]
pub struct Hangs {
    /// One in this many of the operations hangs.
    pub one_in: u32,
    /// Of these operations. Syncs and changes of length do not hang.
    pub target: Target,
}

/// The error number of a failed operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Errno {
    /// EIO.
    #[default]
    Io,
    /// ENOSPC. EIO for operations that need no space.
    NoSpace,
    /// EDQUOT. EIO for operations that need no space.
    Quota,
    /// ETIMEDOUT.
    TimedOut,
    /// One of the above, at random.
    Any,
}

impl Errno {
    /// The error number. `needs_space` says whether the operation can run out of space.
    pub(crate) fn number(self, needs_space: bool, rng: &mut fastrand::Rng) -> i32 {
        match self {
            Self::Any => {
                let all = [Self::Io, Self::NoSpace, Self::Quota, Self::TimedOut];
                all[rng.usize(..all.len())].number(needs_space, rng)
            }
            Self::NoSpace if needs_space => libc::ENOSPC,
            Self::Quota if needs_space => libc::EDQUOT,
            Self::TimedOut => libc::ETIMEDOUT,
            Self::Io | Self::NoSpace | Self::Quota => libc::EIO,
        }
    }
}

/// How a medium breaks its contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// It does not.
    #[default]
    None,
    /// The sync with this number (from 1, over all disks) succeeds without effect.
    DropSync(u64),
    /// No sync has an effect.
    DropEverySync,
    /// A sync covers data only if it was written before the previous sync. So the journal becomes durable
    /// before the data that it refers to.
    DataLagsBehind,
    /// A sync covers everything but the journal and the rest of the metadata.
    MetadataIsNotSynced,
}
