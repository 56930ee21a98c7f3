//! The bytes of a read, which come in any order, but each once.

use crate::protocol::client::fault::ServerFault;

/// The most ranges that have come of one read, and do not touch each other.
pub const MAX_PIECES: usize = 4096;

#[derive(Debug)]
pub(super) struct Filling {
    offset: u64,
    length: u32,
    /// Empty until the first byte comes, then of full length.
    data: Vec<u8>,
    /// What has come, in bytes from the start: sorted, apart from each other.
    pieces: Vec<(u64, u64)>,
}

impl Filling {
    pub(super) fn new(offset: u64, length: u32) -> Self {
        Self {
            offset,
            length,
            data: Vec::new(),
            pieces: Vec::new(),
        }
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }

    /// All of it comes at once. Returns the length in bytes.
    pub(super) fn cover_all(&mut self) -> Result<usize, ServerFault> {
        self.cover(self.offset, self.length.into())?;
        Ok(self.length as usize)
    }

    /// `length` bytes come for `offset` (bytes, of the export). Returns where that is from the start.
    pub(super) fn cover(&mut self, offset: u64, length: u64) -> Result<usize, ServerFault> {
        let start = offset.checked_sub(self.offset);
        let range = start.and_then(|start| Some((start, start.checked_add(length)?)));
        let Some((start, end)) = range.filter(|(_, end)| *end <= u64::from(self.length)) else {
            return ServerFault::violation("data outside of what was asked for");
        };
        let next = self.pieces.partition_point(|piece| piece.0 < start);
        let follows = self.pieces.get(next).is_some_and(|piece| piece.0 < end);
        if follows || (next > 0 && self.pieces[next - 1].1 > start) {
            return ServerFault::violation("the same bytes twice in a reply");
        }
        let touches_next = self.pieces.get(next).is_some_and(|piece| piece.0 == end);
        let touches_last = next > 0 && self.pieces[next - 1].1 == start;
        match (touches_last, touches_next) {
            (true, true) => self.pieces[next - 1].1 = self.pieces.remove(next).1,
            (true, false) => self.pieces[next - 1].1 = end,
            (false, true) => self.pieces[next].0 = start,
            (false, false) if self.pieces.len() == MAX_PIECES => {
                return ServerFault::violation(format!("a reply in more than {MAX_PIECES} pieces"));
            }
            (false, false) => self.pieces.insert(next, (start, end)),
        }
        Ok(start as usize)
    }

    /// Bytes of a range that is covered.
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        if self.data.is_empty() {
            self.data = vec![0; self.length as usize];
        }
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, ServerFault> {
        if self.pieces != [(0, self.length.into())] {
            return ServerFault::violation("a reply without all bytes that were asked for");
        }
        if self.data.is_empty() {
            return Ok(vec![0; self.length as usize]);
        }
        Ok(self.data)
    }
}
