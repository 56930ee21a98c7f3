//! What goes wrong on purpose: errors that the engine must survive, and lies of the medium that
//! the tests must find.

/// Errors to inject. Operations are counted from 1, in the order in which they complete.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The operation with this number fails.
    pub fail_at: Option<u64>,
    /// Every operation from this number on fails.
    pub fail_from: Option<u64>,
    /// One in so many operations fails.
    pub one_in: Option<u32>,
    /// Which operations [`Faults::one_in`] speaks of.
    pub target: Target,
    /// What those that fail, fail with.
    pub error: Errno,
    /// Before one in so many operations the kernel has tried to write out what its cache holds of that disk, and
    /// failed: the next sync says so, once.
    pub writeback: Option<u32>,
    /// Bytes of new space that can still be used; then ENOSPC. Space is used by pages of 4096
    /// bytes, where something is written.
    pub space: Option<u64>,
    /// Bytes of a file at most; then EFBIG.
    pub longest: Option<u64>,
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
    /// Changes of a length.
    Lengths,
    /// Questions: how long it is, and where its holes are.
    Questions,
}

/// The error number of what fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Errno {
    /// EIO.
    #[default]
    Io,
    /// ENOSPC; EIO where space makes no difference.
    NoSpace,
    /// EDQUOT, as [`Errno::NoSpace`].
    Quota,
    /// ETIMEDOUT.
    TimedOut,
    /// Any of these.
    Any,
}

impl Errno {
    /// The number, for an operation that may need space or cannot.
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
