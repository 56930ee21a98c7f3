//! Raw system calls on files and block devices. Offsets and lengths are bytes.
//!
//! Every call here is retried when a signal interrupts it, and none does less than it was asked.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use bytes::Bytes;
use rustix::fs::{AtFlags, FallocateFlags, SeekFrom, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use super::buffer::IoBufMut;

/// Most pieces that one vectored call takes (`IOV_MAX`).
pub(crate) const MAX_PIECES: usize = 1024;

/// `BLKZEROOUT` of `linux/fs.h`: `_IO(0x12, 127)`. Its type differs between C libraries.
const BLKZEROOUT: libc::Ioctl = 0x127f;

/// Fills `buf` from `offset`. What lies at or beyond the end of the file is zero-filled.
///
/// With `O_DIRECT`, `granule` is the required alignment of offset and length, else 1: a count that
/// is not a multiple of it can only mean the end of the file, where no aligned read can go on.
#[inline]
pub(crate) fn read_full(fd: BorrowedFd<'_>, buf: &mut IoBufMut, offset: u64, granule: usize) -> io::Result<()> {
    match read_once(fd, buf, 0, offset) {
        Ok(count) if count == buf.len() => Ok(()),
        first => read_rest(fd, buf, offset, granule, first),
    }
}

/// The slow half of [`read_full`]: the end of the file, a signal, an error.
#[cold]
fn read_rest(
    fd: BorrowedFd<'_>,
    buf: &mut IoBufMut,
    offset: u64,
    granule: usize,
    first: io::Result<usize>,
) -> io::Result<()> {
    let mut filled = 0;
    let mut result = first;
    loop {
        match result {
            Ok(count) => {
                filled += count;
                if count == 0 || filled == buf.len() || !filled.is_multiple_of(granule) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        result = read_once(fd, buf, filled, offset + filled as u64);
    }
    let rest = buf.len() - filled;
    // SAFETY: `filled..filled + rest` lies within the buffer, which is valid for writes.
    unsafe { ptr::write_bytes(buf.as_mut_ptr().add(filled), 0, rest) };
    Ok(())
}

/// One `pread` into the buffer behind its first `filled` bytes.
#[inline]
fn read_once(fd: BorrowedFd<'_>, buf: &mut IoBufMut, filled: usize, offset: u64) -> io::Result<usize> {
    assert!(filled <= buf.len(), "read behind the end of a buffer");
    let rest = buf.len() - filled;
    // SAFETY: the `rest` bytes from `filled` lie within the buffer, which is valid for writes and
    // accessed by nobody else; they need not be initialised for the kernel to fill them.
    let count = unsafe {
        libc::pread64(
            fd.as_raw_fd(),
            buf.as_mut_ptr().add(filled).cast(),
            rest,
            offset.cast_signed(),
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Writes all of `buf` at `offset`.
#[inline]
pub(crate) fn write_full(fd: BorrowedFd<'_>, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        let count = retry_on_intr(|| rustix::io::pwrite(fd, buf, offset))?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        buf = &buf[count..];
        offset += count as u64;
    }
    Ok(())
}

/// Writes `bufs`, one behind the other, at `offset`.
pub(crate) fn write_vectored_full(fd: BorrowedFd<'_>, bufs: &[Bytes], mut offset: u64) -> io::Result<()> {
    for batch in bufs.chunks(MAX_PIECES) {
        let mut pieces: Vec<IoSlice<'_>> = batch.iter().map(|buf| IoSlice::new(buf)).collect();
        let mut rest = pieces.as_mut_slice();
        // Empty pieces at the front would look like a write of nothing.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = retry_on_intr(|| rustix::io::pwritev(fd, rest, offset))?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, count);
            offset += count as u64;
        }
    }
    Ok(())
}

/// Makes data and length durable (`fdatasync`).
pub(crate) fn sync_data(fd: BorrowedFd<'_>) -> io::Result<()> {
    // Not retried in a way that hides an error: only a signal before anything was done is.
    Ok(retry_on_intr(|| rustix::fs::fdatasync(fd))?)
}

/// Begins to write out the dirty pages of the file, without waiting for them. Makes nothing durable.
pub(crate) fn start_writeback(fd: BorrowedFd<'_>) {
    // SAFETY: takes an open file and three numbers. From 0 for 0 bytes: all of the file. A failure
    // only means that a later sync has more to do; that one reports what goes wrong.
    let _ = unsafe { libc::sync_file_range(fd.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// The largest piece of a file that the page cache holds, and drops, as one: 2 MiB on most machines, and
/// more on some with large pages.
pub(crate) const MAX_FOLIO: u64 = 4 << 20;

/// Drops the first `len` bytes of the file from the page cache, but for what is dirty, mapped or being read.
pub(crate) fn drop_cached(fd: BorrowedFd<'_>, len: u64) {
    // Where the system has no page cache for the file, there is nothing to drop.
    if let Some(len) = std::num::NonZeroU64::new(len) {
        let _ = rustix::fs::fadvise(fd, 0, Some(len), rustix::fs::Advice::DontNeed);
    }
}

/// Frees the range, which reads as zeros then; the length of the file stays.
pub(crate) fn punch_hole(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(retry_on_intr(|| rustix::fs::fallocate(fd, flags, offset, len))?)
}

/// Zeroes the range without freeing it; the length of the file stays.
pub(crate) fn zero_range(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    Ok(retry_on_intr(|| rustix::fs::fallocate(fd, flags, offset, len))?)
}

/// Zeroes sectors of a block device, with the help of the device where it has any to give.
pub(crate) fn device_zero_out(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    retry_on_intr(|| {
        // SAFETY: BLKZEROOUT reads two u64, offset and length, which outlive the call.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), BLKZEROOUT, range.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(last_errno()) }
    })?;
    Ok(())
}

/// First byte at or behind `offset` that is data; `None` if only a hole follows.
/// Fails with EINVAL where the file system cannot tell.
pub(crate) fn seek_data(fd: BorrowedFd<'_>, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(fd, SeekFrom::Data(offset)) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// First byte at or behind `offset` that lies in a hole (the end of the file is one); `None` if
/// `offset` is beyond the end.
pub(crate) fn seek_hole(fd: BorrowedFd<'_>, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(fd, SeekFrom::Hole(offset)) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Length of a block device: where its end is. (Positions matter to no other call here.)
pub(crate) fn device_len(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::seek(fd, SeekFrom::End(0))?)
}

/// Alignment that `O_DIRECT` requires of memory addresses and of offsets and lengths, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectAlignment {
    pub(crate) memory: usize,
    pub(crate) offset: usize,
}

impl DirectAlignment {
    /// What every medium in use accepts.
    const SAFE: Self = Self {
        memory: 4096,
        offset: 4096,
    };

    /// Asks the kernel (6.1 and later); where it does not say, tries 512 bytes and settles for
    /// 4096 where that fails or proves nothing.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Self {
        Self::ask(fd).or_else(|| Self::probe(fd)).unwrap_or(Self::SAFE)
    }

    fn ask(fd: BorrowedFd<'_>) -> Option<Self> {
        let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
        let told = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
        let (memory, offset) = (stat.stx_dio_mem_align as usize, stat.stx_dio_offset_align as usize);
        (told && memory.is_power_of_two() && offset.is_power_of_two()).then_some(Self {
            memory,
            offset: offset.max(512),
        })
    }

    fn probe(fd: BorrowedFd<'_>) -> Option<Self> {
        // A buffer at an address that is a multiple of 512 but not of more.
        let mut buf = IoBufMut::zeroed(1024);
        let mut buf = buf.split_off(512);
        // An empty or tiny file would accept anything.
        let count = read_once(fd, &mut buf, 0, 512).ok()?;
        (count == 512).then_some(Self {
            memory: 512,
            offset: 512,
        })
    }
}

/// Takes a shared lock on one byte for this open file description; fails at once with EAGAIN or
/// EACCES if somebody else has an exclusive one.
pub(crate) fn lock_byte_shared(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    set_lock(fd, &byte_lock(libc::F_RDLCK, byte))
}

/// Gives back what lock this open file description, with all its duplicates, has on the byte.
pub(crate) fn unlock_byte(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    set_lock(fd, &byte_lock(libc::F_UNLCK, byte))
}

fn set_lock(fd: BorrowedFd<'_>, lock: &libc::flock64) -> io::Result<()> {
    retry_on_intr(|| {
        // SAFETY: F_OFD_SETLK reads a `flock64`, which outlives the call.
        let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const *lock) };
        if result == 0 { Ok(()) } else { Err(last_errno()) }
    })?;
    Ok(())
}

/// Whether another open file description holds any lock on the byte.
pub(crate) fn is_byte_locked(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    let mut lock = byte_lock(libc::F_WRLCK, byte);
    retry_on_intr(|| {
        // SAFETY: F_OFD_GETLK reads and writes a `flock64`, which outlives the call.
        let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
        if result == 0 { Ok(()) } else { Err(last_errno()) }
    })?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

#[expect(
    clippy::cast_possible_wrap,
    reason = "lock types and the bytes of QEMU's locks are tiny"
)]
fn byte_lock(kind: i32, byte: u64) -> libc::flock64 {
    libc::flock64 {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte as i64,
        l_len: 1,
        // Must be 0 for locks of open file descriptions.
        l_pid: 0,
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Clears `O_NONBLOCK`, which was needed only for the moment of opening.
pub(crate) fn set_blocking(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(
        file.as_fd(),
        flags - rustix::fs::OFlags::NONBLOCK,
    )?)
}
