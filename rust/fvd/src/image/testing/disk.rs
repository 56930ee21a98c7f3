//! A disk in memory that records all changes, and fails at given operations.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pollster::block_on;

use super::Sample;
use crate::error::{Error, Result};
use crate::storage::{Allocation, IoBufMut, MemoryStorage, Space, Storage};

/// One change of a disk.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Write(Bytes, u64),
    Zero(u64, u64),
    /// Like [`Op::Zero`], by a discard.
    Discard(u64, u64),
    SetLen(u64),
    Sync,
}

/// The changes of the disks of a sample in order, each with the number of its disk, and the errors to inject.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) ops: Vec<(usize, Op)>,
    /// Index of the operation that fails, and the error number.
    pub(crate) fail: Option<(usize, i32)>,
    /// Reads that include this byte offset fail with `EIO`.
    pub(crate) unreadable: Option<u64>,
    /// Writes of any disk that overlap this byte range fail with `ENOSPC`.
    pub(crate) full: Range<u64>,
    /// A file cannot become longer than this number of bytes.
    pub(crate) longest: Option<u64>,
    /// Bytes of a file system block, the unit of holes. 0: one byte.
    pub(crate) hole_unit: u64,
    /// The result of discards.
    pub(crate) discards: Discards,
}

/// The result of a discard.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Discards {
    /// The range becomes a hole.
    #[default]
    Free,
    /// The medium ignores it.
    Ignore,
    /// It fails with `ENOSPC`.
    Full,
}

impl Log {
    /// Number of operations on disk `number` that start at byte `offset` or later, and for which `is_counted`
    /// is true.
    pub(crate) fn count(&self, number: usize, offset: u64, is_counted: fn(&Op) -> bool) -> usize {
        let touches = |(disk, op): &&(usize, Op)| {
            let at = match op {
                Op::Write(_, at) | Op::Zero(at, _) | Op::Discard(at, _) => *at,
                Op::SetLen(_) | Op::Sync => return false,
            };
            *disk == number && at >= offset && is_counted(op)
        };
        self.ops.iter().filter(touches).count()
    }
}

/// A handle to one disk.
#[derive(Clone)]
pub(crate) struct Disk {
    number: usize,
    content: MemoryStorage,
    log: Arc<Mutex<Log>>,
}

/// Copies the disks of a sample to recording disks.
pub(crate) fn record(sample: &Sample<MemoryStorage>) -> (Sample<Disk>, Arc<Mutex<Log>>) {
    let log = Arc::new(Mutex::new(Log::default()));
    let disk = |number, content: &MemoryStorage| Disk {
        number,
        content: copy(content),
        log: Arc::clone(&log),
    };
    let recorded = Sample {
        file: disk(0, &sample.file),
        data: sample.data.as_ref().map(|data| disk(1, data)),
    };
    (recorded, log)
}

pub(crate) fn copy(storage: &MemoryStorage) -> MemoryStorage {
    if storage.can_resize() {
        return MemoryStorage::from_bytes(&storage.to_vec());
    }
    let bytes = storage.to_vec();
    let device = MemoryStorage::device(bytes.len() as u64);
    block_on(device.write(Bytes::from(bytes), 0)).expect("fits");
    device
}

pub(crate) fn contents(sample: &Sample<Disk>) -> Sample<MemoryStorage> {
    Sample {
        file: copy(&sample.file.content),
        data: sample.data.as_ref().map(|data| copy(&data.content)),
    }
}

/// A possible state of `sample` after the operations `ops` and a power cut. All operations that a later sync
/// of the same disk made durable are present. Of the others, a random choice of sectors is.
pub(crate) fn power_cut(
    sample: &Sample<MemoryStorage>,
    ops: &[(usize, Op)],
    random: &mut fastrand::Rng,
) -> Sample<MemoryStorage> {
    let cut = Sample {
        file: copy(&sample.file),
        data: sample.data.as_ref().map(copy),
    };
    let chance = random.f64();
    for (index, (number, op)) in ops.iter().enumerate() {
        let is_sync = |later: &(usize, Op)| later.0 == *number && matches!(later.1, Op::Sync);
        let durable = ops[index..].iter().any(is_sync);
        let disk = if *number == 0 { &cut.file } else { cut.data() };
        let mut keep = || durable || random.f64() < chance;
        match op {
            Op::Sync => {}
            Op::SetLen(len) => {
                if keep() {
                    block_on(disk.set_len(*len)).expect("memory");
                }
            }
            Op::Zero(offset, len) | Op::Discard(offset, len) => {
                for (at, end) in sectors(*offset, *len) {
                    if keep() {
                        block_on(disk.write_zeroes(at, end - at, Space::Free)).expect("memory");
                    }
                }
            }
            Op::Write(bytes, offset) => {
                for (at, end) in sectors(*offset, bytes.len() as u64) {
                    if keep() {
                        let part = bytes.slice((at - offset) as usize..(end - offset) as usize);
                        block_on(disk.write(part, at)).expect("memory");
                    }
                }
            }
        }
    }
    cut
}

/// The pieces of a byte range between sector boundaries.
fn sectors(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + len;
    (offset / 512..end.div_ceil(512)).map(move |sector| ((sector * 512).max(offset), (sector * 512 + 512).min(end)))
}

impl Disk {
    fn inspect<T>(&self, inspect: impl FnOnce(&Log) -> T) -> T {
        inspect(&self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn full(&self) -> Error {
        let error = Error::io("write", io::Error::from_raw_os_error(libc::ENOSPC));
        error.with_path(self.path())
    }

    fn log(&self, op: Op) -> Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, cause)) = log.fail
            && at == log.ops.len()
        {
            let error = Error::io("write", io::Error::from_raw_os_error(cause));
            return Err(error.with_path(self.path()));
        }
        log.ops.push((self.number, op));
        Ok(())
    }
}

impl Storage for Disk {
    fn path(&self) -> &Path {
        self.content.path()
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let unreadable = self.inspect(|log| log.unreadable);
        if unreadable.is_some_and(|at| (offset..offset + buf.len() as u64).contains(&at)) {
            let error = Error::io("read", io::Error::from_raw_os_error(libc::EIO));
            return Err(error.with_path(self.path()).with_offset(offset));
        }
        self.content.read(buf, offset).await
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        let end = offset + buf.len() as u64;
        if self.inspect(|log| offset < log.full.end && log.full.start < end) {
            return Err(self.full());
        }
        self.log(Op::Write(buf.clone(), offset))?;
        self.content.write(buf, offset).await
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        let mut at = offset;
        for buf in bufs {
            let len = buf.len() as u64;
            self.write(buf, at).await?;
            at += len;
        }
        Ok(())
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        self.log(Op::Zero(offset, len))?;
        self.content.write_zeroes(offset, len, space).await
    }

    async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        if self.inspect(|log| log.discards == Discards::Ignore) {
            return Ok(());
        }
        if self.inspect(|log| log.discards == Discards::Full) {
            return Err(self.full());
        }
        self.log(Op::Discard(offset, len))?;
        self.content.write_zeroes(offset, len, Space::Free).await
    }

    async fn sync(&self) -> Result<()> {
        self.log(Op::Sync)
    }

    async fn len(&self) -> Result<u64> {
        self.content.len().await
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        if self.inspect(|log| log.longest.is_some_and(|longest| len > longest)) {
            return Err(self.full());
        }
        self.log(Op::SetLen(len))?;
        self.content.set_len(len).await
    }

    fn can_resize(&self) -> bool {
        self.content.can_resize()
    }

    fn hole_unit(&self) -> u64 {
        self.inspect(|log| log.hole_unit).max(1)
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        let unit = self.hole_unit();
        if unit == 1 {
            return self.content.allocation(offset, len).await;
        }
        // Report one file system block at a time.
        let (start, left) = (offset - offset % unit, len.min(unit - offset % unit));
        match self.content.allocation(start, unit).await? {
            (Allocation::Hole, hole) if hole >= unit => Ok((Allocation::Hole, left)),
            _ => Ok((Allocation::Data, left)),
        }
    }
}
