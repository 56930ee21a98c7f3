//! Zeroing and discard of a file or device: the medium does it if it can, else zeros are written.

use std::io;
use std::ops::Range;

use super::direct::Direct;
use super::file::FileStorage;
use super::medium::Medium;
use super::{Allocation, IoBufMut, Space};
use crate::error::Result;
use crate::sys::file as sys;

/// The most zero bytes in one write, where zeros must be written.
const ZEROS_LEN: usize = 1 << 20;

impl FileStorage {
    pub(super) fn write_zeroes_blocking(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        let left = self.zero_blocking(offset, len, space)?;
        self.write_zeros(left, space)
    }

    /// Zeroes the part of the range that lies in the file, as far as the medium can zero without being sent
    /// zeros. Returns the part that is left for [`FileStorage::write_zeros`]; it ends at the end of the range
    /// or of the file.
    pub(super) fn zero_blocking(&self, offset: u64, len: u64, space: Space) -> Result<Range<u64>> {
        self.check_process()?;
        // A read-modify-write of a neighbouring range would write back what it read before.
        let _no_rewrite = self.direct().map(Direct::exclude_rewrites);
        let end = self.len_now();
        let end = end.map_err(|error| self.error("write zeros", offset, error))?;
        let end = end.min(offset.saturating_add(len));
        let mut at = offset;
        while at < end {
            let piece = self.next_to_zero(at..end, space)?;
            let zeroed = match space {
                _ if piece.is_empty() => Ok(()),
                Space::Free => self.free_by_the_medium(&piece),
                Space::Keep | Space::Allocate => self.zero_by_the_medium(&piece),
            };
            match zeroed {
                Ok(()) => at = piece.end,
                Err(error) if cannot_zero(&error) => return Ok(at..end),
                Err(error) => return Err(self.error("write zeros", offset, error)),
            }
        }
        Ok(end..end)
    }

    /// The first part of a range within the file that must be zeroed. If nothing must be, the empty range at
    /// its end.
    fn next_to_zero(&self, range: Range<u64>, space: Space) -> Result<Range<u64>> {
        if space != Space::Keep || self.is_device() {
            return Ok(range);
        }
        let Range { mut start, end } = range;
        while start < end {
            let looked = self.file_allocation(start, end - start, end - start);
            let (allocation, len) = looked.map_err(|error| self.error("look for data", start, error))?;
            if allocation == Allocation::Data {
                return Ok(start..start + len);
            }
            start += len;
        }
        Ok(end..end)
    }

    pub(super) fn discard_blocking(&self, offset: u64, len: u64) -> Result<()> {
        self.check_process()?;
        // A read-modify-write of a neighbouring range would write back what it read before.
        let _no_rewrite = self.direct().map(Direct::exclude_rewrites);
        let error = |error| self.error("discard", offset, error);
        let len = len.min(self.len_now().map_err(error)?.saturating_sub(offset));
        if len == 0 {
            return Ok(());
        }
        match sys::punch_hole(self.fd(), offset, len) {
            Err(cause) if !cannot_zero(&cause) => Err(error(cause)),
            _ => Ok(()),
        }
    }

    /// Frees the range, or zeroes it where it cannot be freed, without sending zeros.
    fn free_by_the_medium(&self, range: &Range<u64>) -> io::Result<()> {
        match sys::punch_hole(self.fd(), range.start, range.end - range.start) {
            Err(error) if cannot_zero(&error) => self.zero_by_the_medium(range),
            result => result,
        }
    }

    /// Zeroes the range without sending zeros. It is allocated afterwards.
    fn zero_by_the_medium(&self, range: &Range<u64>) -> io::Result<()> {
        let (offset, len) = (range.start, range.end - range.start);
        match self.medium() {
            Medium::File => sys::zero_range(self.fd(), offset, len),
            Medium::Device => sys::device_zero_out(self.fd(), offset, len),
        }
    }

    /// Writes zeros to a range within the file. With [`Space::Keep`], holes stay holes.
    pub(super) fn write_zeros(&self, range: Range<u64>, space: Space) -> Result<()> {
        let Range { start: mut at, end } = range;
        let zeros = IoBufMut::zeroed((end - at).min(ZEROS_LEN as u64) as usize);
        while at < end {
            let piece = self.next_to_zero(at..end, space)?;
            at = piece.start;
            while at < piece.end {
                let len = (piece.end - at).min(ZEROS_LEN as u64);
                self.write_blocking(&zeros.as_slice()[..len as usize], at)?;
                at += len;
            }
        }
        Ok(())
    }
}

/// Whether the medium cannot do it, or not for a range with this alignment.
fn cannot_zero(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS | libc::ENOTTY | libc::ENODEV)
    )
}
