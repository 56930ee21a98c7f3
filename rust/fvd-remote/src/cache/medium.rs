//! What the cache needs of a file system. Tests have a medium in memory.

use std::io;
use std::ops::Range;

pub(crate) use fvd::storage::ByteLock;

/// The folder of one version of the cache, as one process has it open.
pub(crate) trait Medium: Send + Sync + 'static {
    /// Names of the objects.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens the files of an object. None: there is no such object.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Files>>>;

    /// Makes an object: a process sees all of it, with `header` at the start of its index, or nothing. An
    /// object that is there already stays.
    fn create(&self, name: &str, header: &[u8], sizes: Sizes) -> io::Result<()>;

    /// Removes an object. Those who have it open keep its files.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes what dead processes have left while they made or removed objects.
    fn sweep(&self) -> io::Result<()>;

    /// The lock of the one that evicts. None: another one has it.
    fn lock(&self) -> io::Result<Option<Box<dyn Send>>>;

    /// Seconds since 1970.
    fn now(&self) -> u32;
}

/// Lengths of the files of an object, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) index: u64,
    pub(crate) data: u64,
}

/// A file of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Index,
    Data,
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Allowed,
    /// Fails with `EAGAIN`, or `EOPNOTSUPP` where the medium cannot tell.
    Never,
}

/// The two files of an object, open. Locks end with it.
pub(crate) trait Files: Send + Sync + 'static {
    /// Fills `buf` as far as the file goes. Returns the number of bytes.
    fn read(&self, file: Which, buf: &mut [u8], offset: u64, waiting: Waiting) -> io::Result<usize>;

    /// Writes all of `bytes`.
    fn write(&self, file: Which, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Gives back the space of a range of the data.
    fn punch(&self, range: Range<u64>) -> io::Result<()>;

    /// The next range at or after `from` that occupies space in the data.
    fn allocated(&self, from: u64) -> io::Result<Option<Range<u64>>>;

    /// Bytes that both files occupy.
    fn used(&self) -> io::Result<u64>;

    /// Whether the object has not been removed.
    fn is_linked(&self) -> io::Result<bool>;

    /// Takes a lock on a byte of the index, without waiting. False: another one has it.
    fn try_lock(&self, byte: u64, lock: ByteLock) -> io::Result<bool>;

    /// Whether another one has a lock on a byte of the index.
    fn is_locked(&self, byte: u64) -> io::Result<bool>;

    fn unlock(&self, byte: u64);
}
