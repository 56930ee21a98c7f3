//! Raw system calls on files and block devices. Offsets and lengths are in bytes.
//!
//! Every call is retried when a signal interrupts it, and none transfers less than requested.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use bytes::Bytes;
use rustix::fs::{AtFlags, FallocateFlags, SeekFrom, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use super::buffer::IoBufMut;

/// The most pieces in one vectored call (`IOV_MAX`).
pub(crate) const MAX_PIECES: usize = 1024;

/// `BLKZEROOUT` of `linux/fs.h`: `_IO(0x12, 127)`. Its type differs between C libraries.
const BLKZEROOUT: libc::Ioctl = 0x127f;

/// Fills `buf` from `offset`. What lies at or beyond the end of the file is filled with zeros.
///
/// `granule`: with `O_DIRECT` the required alignment of offset and length, else 1. A count that is not a
/// multiple of it means the end of the file, after which no aligned read is possible.
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

/// One `pread` into the buffer after its first `filled` bytes.
#[inline]
fn read_once(fd: BorrowedFd<'_>, buf: &mut IoBufMut, filled: usize, offset: u64) -> io::Result<usize> {
    assert!(filled <= buf.len(), "read behind the end of a buffer");
    let rest = buf.len() - filled;
    // SAFETY: the `rest` bytes from `filled` lie within the buffer, which is valid for writes and which no
    // other code accesses. The kernel may fill bytes that are not initialised.
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

/// A write to the page cache is made in pieces that end at multiples of this. A write makes units of the cache
/// (folios) as large as itself, and ext4 walks a whole unit for each later write to a part of it: 4 KiB take
/// 31 us after writes of 2 MiB, 13 us after these.
pub(crate) const CACHED_WRITE: u64 = 256 << 10;

/// As [`write_full`], to the page cache.
#[inline]
pub(crate) fn write_cached(fd: BorrowedFd<'_>, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while buf.len() as u64 > CACHED_WRITE {
        let len = CACHED_WRITE - offset % CACHED_WRITE;
        write_full(fd, &buf[..len as usize], offset)?;
        buf = &buf[len as usize..];
        offset += len;
    }
    write_full(fd, buf, offset)
}

/// Writes `bufs`, one after the other, from `offset`.
pub(crate) fn write_vectored_full(fd: BorrowedFd<'_>, bufs: &[Bytes], mut offset: u64) -> io::Result<()> {
    for batch in bufs.chunks(MAX_PIECES) {
        let mut pieces: Vec<IoSlice<'_>> = batch.iter().map(|buf| IoSlice::new(buf)).collect();
        let mut rest = pieces.as_mut_slice();
        // Removes empty pieces at the front: a write of them alone would return 0, which counts as an error.
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
    // A retry must not hide an error: a signal interrupts fdatasync only before it has done anything.
    Ok(retry_on_intr(|| rustix::fs::fdatasync(fd))?)
}

/// Starts writeback of the dirty pages of the file, without waiting. Makes nothing durable.
pub(crate) fn start_writeback(fd: BorrowedFd<'_>) {
    // SAFETY: takes an open file and three numbers. Offset 0 and 0 bytes mean the whole file. After a
    // failure, a later sync has more to do, and reports what is wrong.
    let _ = unsafe { libc::sync_file_range(fd.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// The largest folio of the page cache, in bytes. The cache drops a folio only as a whole. 2 MiB on most
/// machines, more on some with large pages.
pub(crate) const MAX_FOLIO: u64 = 4 << 20;

/// Drops the first `len` bytes of the file from the page cache, except pages that are dirty, mapped or being
/// read.
pub(crate) fn drop_cached(fd: BorrowedFd<'_>, len: u64) {
    // It fails where the file has no page cache. Then there is nothing to drop.
    if let Some(len) = std::num::NonZeroU64::new(len) {
        let _ = rustix::fs::fadvise(fd, 0, Some(len), rustix::fs::Advice::DontNeed);
    }
}

/// Frees the range, which then reads as zeros. The length of the file does not change.
pub(crate) fn punch_hole(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(retry_on_intr(|| rustix::fs::fallocate(fd, flags, offset, len))?)
}

/// Zeroes the range without freeing it. The length of the file does not change.
pub(crate) fn zero_range(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    Ok(retry_on_intr(|| rustix::fs::fallocate(fd, flags, offset, len))?)
}

/// Zeroes sectors of a block device. Lets the device do it, where it can.
pub(crate) fn device_zero_out(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let range = [offset, len];
    retry_on_intr(|| {
        // SAFETY: BLKZEROOUT reads two u64, offset and length, which outlive the call.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), BLKZEROOUT, range.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(last_errno()) }
    })?;
    Ok(())
}

/// First byte at or after `offset` that is data. `None` if only a hole follows. Fails with EINVAL where the
/// file system cannot tell.
pub(crate) fn seek_data(fd: BorrowedFd<'_>, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(fd, SeekFrom::Data(offset)) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// First byte at or after `offset` that lies in a hole (the end of the file counts as one). `None` if
/// `offset` is beyond the end.
pub(crate) fn seek_hole(fd: BorrowedFd<'_>, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(fd, SeekFrom::Hole(offset)) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Length of a block device. Moves the file position, which no other call here uses.
pub(crate) fn device_len(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::seek(fd, SeekFrom::End(0))?)
}

/// Alignment that `O_DIRECT` requires of memory addresses, and of offsets and lengths, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectAlignment {
    pub(crate) memory: usize,
    pub(crate) offset: usize,
}

impl DirectAlignment {
    /// Accepted by every medium in use.
    const SAFE: Self = Self {
        memory: 4096,
        offset: 4096,
    };

    /// Asks the kernel (6.1 and later). If the kernel does not say, tries a read with 512 bytes. If that
    /// fails or proves nothing, uses 4096.
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
        // An address that is a multiple of 512 but not of 1024.
        let mut buf = IoBufMut::zeroed(1024);
        let mut buf = buf.split_off(512);
        // A shorter read proves nothing: at the end of a file any alignment works.
        let count = read_once(fd, &mut buf, 0, 512).ok()?;
        (count == 512).then_some(Self {
            memory: 512,
            offset: 512,
        })
    }
}

/// The effective user of this process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: takes nothing, and always succeeds.
    unsafe { libc::geteuid() }
}

/// Takes a shared lock on one byte for this open file description. Fails at once with EAGAIN or EACCES if
/// another one has an exclusive lock.
pub(crate) fn lock_byte_shared(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    set_lock(fd, &byte_lock(libc::F_RDLCK, byte))
}

/// As [`lock_byte_shared`], exclusively.
pub(crate) fn lock_byte_exclusive(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    set_lock(fd, &byte_lock(libc::F_WRLCK, byte))
}

/// Releases the lock of this open file description, and so of all its duplicates, on the byte.
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
    reason = "lock types are tiny, and locked bytes lie within files"
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

/// Clears `O_NONBLOCK`, which only opening needed.
pub(crate) fn set_blocking(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(
        file.as_fd(),
        flags - rustix::fs::OFlags::NONBLOCK,
    )?)
}
