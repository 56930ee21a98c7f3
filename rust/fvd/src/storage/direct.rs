//! I/O with `O_DIRECT`. What is not aligned goes through aligned (bounce) memory.
//!
//! Callers never pass an empty buffer, and no offset beyond `MAX_OFFSET`.
//!
//! Writes that are aligned on disk run in parallel. An unaligned write is a read-modify-write of the sectors
//! at its edges. No other write may run meanwhile, or its bytes in those sectors would be lost. Unaligned
//! writes are rare (images are written in whole sectors), so one lock is enough.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::IoBufMut;
use super::medium::Medium;
use crate::sys::buffer::ALIGNMENT;
use crate::sys::file::{DirectAlignment, read_full, write_full, write_vectored_full};

/// The most bounce memory of one operation, in bytes.
pub(super) const BOUNCE_LEN: usize = 1 << 20;

/// The alignment that the medium demands, and the lock for writers.
#[derive(Debug)]
pub(super) struct Direct {
    alignment: DirectAlignment,
    /// Shared for aligned writes, exclusive for read-modify-write. Guards the file, not a value.
    writers: RwLock<()>,
}

impl Direct {
    pub(super) fn of(fd: BorrowedFd<'_>) -> Self {
        Self::with_alignment(DirectAlignment::of(fd))
    }

    fn with_alignment(alignment: DirectAlignment) -> Self {
        Self {
            alignment,
            writers: RwLock::new(()),
        }
    }

    /// While this is held, no read-modify-write runs.
    pub(super) fn exclude_rewrites(&self) -> RwLockReadGuard<'_, ()> {
        self.writers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// While this is held, no other write or change of length runs.
    pub(super) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.writers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a range (in bytes) covers sectors as a whole.
    pub(super) fn is_range_aligned(&self, offset: u64, len: u64) -> bool {
        let granule = self.alignment.offset as u64;
        offset.is_multiple_of(granule) && len.is_multiple_of(granule)
    }

    pub(super) fn is_memory_aligned(&self, address: *const u8) -> bool {
        address.addr().is_multiple_of(self.alignment.memory)
    }

    /// Aligned memory for `len` bytes. The alignment of [`IoBufMut::zeroed`] is enough for every known
    /// medium. If a medium demands more, the front of a larger buffer is cut off.
    pub(super) fn bounce(&self, len: usize) -> IoBufMut {
        if self.alignment.memory <= ALIGNMENT {
            return IoBufMut::zeroed(len);
        }
        let mut memory = IoBufMut::zeroed(len + self.alignment.memory);
        let skip = memory.as_slice().as_ptr().align_offset(self.alignment.memory);
        let mut rest = memory.split_off(skip);
        let _ = rest.split_off(len);
        rest
    }

    /// The most bytes in one bounce: a multiple of the alignment.
    fn bounce_limit(&self) -> u64 {
        BOUNCE_LEN.next_multiple_of(self.alignment.offset) as u64
    }

    pub(super) fn read(&self, fd: BorrowedFd<'_>, buf: &mut IoBufMut, offset: u64) -> io::Result<()> {
        let granule = self.alignment.offset;
        if self.is_range_aligned(offset, buf.len() as u64) && self.is_memory_aligned(buf.as_slice().as_ptr()) {
            return read_full(fd, buf, offset, granule);
        }
        let end = offset + buf.len() as u64;
        let mut position = offset;
        while position < end {
            let start = round_down(position, granule);
            let stop = round_up(end, granule).min(start + self.bounce_limit());
            let mut memory = self.bounce((stop - start) as usize);
            read_full(fd, &mut memory, start, granule)?;
            let piece_end = stop.min(end);
            let from = &memory.as_slice()[(position - start) as usize..(piece_end - start) as usize];
            buf.as_mut_slice()[(position - offset) as usize..(piece_end - offset) as usize].copy_from_slice(from);
            position = piece_end;
        }
        Ok(())
    }

    pub(super) fn write(&self, file: &File, medium: Medium, buf: &[u8], offset: u64) -> io::Result<()> {
        if !self.is_range_aligned(offset, buf.len() as u64) {
            return self.read_modify_write(file, medium, &mut Pieces::new([buf]), buf.len(), offset);
        }
        let _no_rewrite = self.exclude_rewrites();
        if self.is_memory_aligned(buf.as_ptr()) {
            write_full(file.as_fd(), buf, offset)
        } else {
            self.write_copied(file.as_fd(), &mut Pieces::new([buf]), buf.len(), offset)
        }
    }

    pub(super) fn write_vectored(&self, file: &File, medium: Medium, bufs: &[Bytes], offset: u64) -> io::Result<()> {
        let len = bufs.iter().map(Bytes::len).sum();
        let mut pieces = Pieces::new(bufs.iter().map(AsRef::as_ref));
        if !self.is_range_aligned(offset, len as u64) {
            return self.read_modify_write(file, medium, &mut pieces, len, offset);
        }
        let _no_rewrite = self.exclude_rewrites();
        if self.is_each_aligned(bufs) {
            write_vectored_full(file.as_fd(), bufs, offset)
        } else {
            self.write_copied(file.as_fd(), &mut pieces, len, offset)
        }
    }

    /// The unit of aligned reads, in bytes. A read that ends within a unit has met the end of the file.
    pub(super) fn granule(&self) -> usize {
        self.alignment.offset
    }

    /// Whether the kernel takes these pieces without a copy.
    pub(super) fn is_each_aligned(&self, bufs: &[Bytes]) -> bool {
        let is_aligned =
            |buf: &Bytes| self.is_memory_aligned(buf.as_ptr()) && self.is_range_aligned(0, buf.len() as u64);
        bufs.iter().all(is_aligned)
    }

    /// Copies the pieces into one aligned piece.
    pub(super) fn aligned_copy(&self, bufs: &[Bytes]) -> Bytes {
        let mut memory = self.bounce(bufs.iter().map(Bytes::len).sum());
        Pieces::new(bufs.iter().map(AsRef::as_ref)).copy_to(memory.as_mut_slice());
        memory.freeze()
    }

    /// Writes an aligned range from unaligned memory.
    fn write_copied<'a>(
        &self,
        fd: BorrowedFd<'_>,
        pieces: &mut Pieces<'a, impl Iterator<Item = &'a [u8]>>,
        len: usize,
        offset: u64,
    ) -> io::Result<()> {
        let limit = self.bounce_limit() as usize;
        let mut memory = self.bounce(len.min(limit));
        let mut done = 0;
        while done < len {
            let count = (len - done).min(limit);
            pieces.copy_to(&mut memory.as_mut_slice()[..count]);
            write_full(fd, &memory.as_slice()[..count], offset + done as u64)?;
            done += count;
        }
        Ok(())
    }

    /// Writes a range that covers its first or last sector in part. Holds the lock alone.
    fn read_modify_write<'a>(
        &self,
        file: &File,
        medium: Medium,
        pieces: &mut Pieces<'a, impl Iterator<Item = &'a [u8]>>,
        len: usize,
        offset: u64,
    ) -> io::Result<()> {
        let granule = self.alignment.offset;
        let _alone = self.alone();
        let end = offset + len as u64;
        let right_len = match medium {
            Medium::File => Some(file.metadata()?.len().max(end)),
            Medium::Device => None,
        };
        let mut position = offset;
        let mut result = Ok(());
        while position < end && result.is_ok() {
            let start = round_down(position, granule);
            let stop = round_up(end, granule).min(start + self.bounce_limit());
            let piece_end = stop.min(end);
            let mut memory = self.bounce((stop - start) as usize);
            result = self.read_edges(file.as_fd(), &mut memory, start, position, piece_end);
            if result.is_ok() {
                let inside = (position - start) as usize..(piece_end - start) as usize;
                pieces.copy_to(&mut memory.as_mut_slice()[inside]);
                result = write_full(file.as_fd(), memory.as_slice(), start);
            }
            position = piece_end;
        }
        // The last sector was written whole: cut what lies after the content.
        if let Some(right_len) = right_len
            && file.metadata()?.len() > right_len
        {
            file.set_len(right_len)?;
        }
        result
    }

    /// Reads the first and the last sector of `memory` from disk where `from..to` does not cover them.
    /// `memory` holds the bytes of the file from `start`.
    fn read_edges(&self, fd: BorrowedFd<'_>, memory: &mut IoBufMut, start: u64, from: u64, to: u64) -> io::Result<()> {
        let granule = self.alignment.offset;
        let stop = start + memory.len() as u64;
        let mut sector = self.bounce(granule);
        if from > start {
            read_full(fd, &mut sector, start, granule)?;
            memory.as_mut_slice()[..granule].copy_from_slice(sector.as_slice());
        }
        if to < stop {
            let last = memory.len() - granule;
            read_full(fd, &mut sector, start + last as u64, granule)?;
            memory.as_mut_slice()[last..].copy_from_slice(sector.as_slice());
        }
        Ok(())
    }
}

fn round_down(offset: u64, granule: usize) -> u64 {
    offset - offset % granule as u64
}

fn round_up(offset: u64, granule: usize) -> u64 {
    offset.next_multiple_of(granule as u64)
}

/// Slices as one stream of bytes.
struct Pieces<'a, I> {
    current: &'a [u8],
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Pieces<'a, I> {
    fn new(pieces: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            current: &[],
            rest: pieces.into_iter(),
        }
    }

    /// Fills `target` with the next bytes. The pieces must hold enough.
    fn copy_to(&mut self, mut target: &mut [u8]) {
        while !target.is_empty() {
            if self.current.is_empty() {
                self.current = self.rest.next().expect("the pieces hold as many bytes as were counted");
                continue;
            }
            let count = target.len().min(self.current.len());
            let (front, back) = target.split_at_mut(count);
            front.copy_from_slice(&self.current[..count]);
            self.current = &self.current[count..];
            target = back;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounce_memory_has_the_alignment_of_the_medium() {
        for memory in [1, 4, 512, 4096, 16384, 65536] {
            let direct = Direct::with_alignment(DirectAlignment { memory, offset: 512 });
            let buf = direct.bounce(5 * 512);
            assert_eq!(buf.len(), 5 * 512);
            assert!(direct.is_memory_aligned(buf.as_slice().as_ptr()), "{memory}");
        }
    }

    #[test]
    fn pieces_are_one_stream() {
        let mut pieces = Pieces::new([&b"abc"[..], b"", b"de", b"fghi"]);
        let mut target = [0; 4];
        pieces.copy_to(&mut target);
        assert_eq!(&target, b"abcd");
        pieces.copy_to(&mut []);
        pieces.copy_to(&mut target);
        assert_eq!(&target, b"efgh");
    }
}
