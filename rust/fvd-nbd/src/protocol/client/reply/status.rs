//! The extents of a range.

use super::{ServerFault, be_u32};
use crate::protocol::meta::state;

/// A part of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, at least 1.
    pub length: u64,
    /// Whether it is known to read as zeros.
    pub zero: bool,
}

#[derive(Debug)]
pub(super) struct StatusOf {
    length: u32,
    extents: Vec<Extent>,
}

impl StatusOf {
    pub(super) fn new(length: u32) -> Self {
        let extents = Vec::new();
        Self { length, extents }
    }

    /// A chunk: the id of a context, and the extents. Neighbours of one kind become one. What lies beyond the
    /// range is cut.
    pub(super) fn take(&mut self, context: Option<u32>, payload: &[u8]) -> Result<(), ServerFault> {
        let (id, extents) = payload.split_at(4);
        if !self.extents.is_empty() || Some(be_u32(id)) != context || !extents.len().is_multiple_of(8) {
            return ServerFault::violation("a status that was not asked for");
        }
        let mut left = u64::from(self.length);
        for extent in extents.chunks_exact(8) {
            let (length, flags) = (be_u32(&extent[..4]), be_u32(&extent[4..]));
            if length == 0 {
                return ServerFault::violation("an extent of 0 bytes");
            }
            if left == 0 {
                return ServerFault::violation("an extent beyond the range");
            }
            let length = left.min(length.into());
            left -= length;
            let zero = flags & state::ZERO != 0;
            match self.extents.last_mut() {
                Some(last) if last.zero == zero => last.length += length,
                _ => self.extents.push(Extent { length, zero }),
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Vec<Extent>, ServerFault> {
        if self.extents.is_empty() {
            return ServerFault::violation("a status without an extent");
        }
        Ok(self.extents)
    }
}
