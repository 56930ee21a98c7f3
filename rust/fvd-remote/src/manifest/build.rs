//! Makes a manifest of the hashes of an object's chunks.

use std::ops::Range;

use fvd::Result;
use fvd::source::is_zero;

use super::head::{Chunk, HASH, Hash, Head, MAX_HEAD, PAGE_HASHES, chunks, hash};
use crate::fetch::UNIT;

/// A whole manifest in memory.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) head: Head,
    /// The hashes of all data chunks, one after the other.
    hashes: Vec<u8>,
}

impl Manifest {
    /// Of an object of `len` bytes with these chunks. `None`: the chunk is zeros.
    ///
    /// # Errors
    ///
    /// If the object is too long for a manifest.
    pub(crate) fn new(len: u64, found: &[Option<Hash>]) -> Result<Self> {
        assert_eq!(chunks(len)?, found.len() as u64, "every chunk is known");
        let mut zeros = runs(found);
        keep_longest(&mut zeros, found.len() as u64);
        let mut hashes = Vec::new();
        let mut runs = zeros.iter().peekable();
        for (index, chunk) in (0..).zip(found) {
            runs.next_if(|run| run.end <= index);
            if runs.peek().is_some_and(|run| run.contains(&index)) {
                continue;
            }
            // A chunk of zeros for whose run there is no room.
            let zero = || hash(&vec![0; UNIT.min(len - index * UNIT) as usize]);
            hashes.extend_from_slice(&chunk.unwrap_or_else(zero));
        }
        let pages = hashes.chunks(PAGE_HASHES as usize * HASH).map(hash).collect();
        let head = Head::new(len, zeros, pages)?;
        Ok(Self { head, hashes })
    }

    /// What tells this template from all others.
    pub(crate) fn identity(&self) -> Hash {
        hash(&self.head.encode())
    }

    /// The hash with this number (see [`Chunk::Data`](super::Chunk)).
    pub(crate) fn hash(&self, number: u64) -> Hash {
        let at = number as usize * HASH;
        self.hashes[at..at + HASH].try_into().expect("the length of a hash")
    }

    /// Whether chunk `index` of the object may have these bytes.
    pub(crate) fn fits(&self, index: u64, bytes: &[u8]) -> bool {
        match self.head.chunk(index).0 {
            Chunk::Zeros => is_zero(bytes),
            Chunk::Data(number) => hash(bytes) == self.hash(number),
        }
    }

    /// The bytes of the object `NAME.fvd-manifest`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.head.encode();
        bytes.extend_from_slice(&self.hashes);
        bytes
    }
}

fn runs(found: &[Option<Hash>]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for (index, _) in (0..).zip(found).filter(|(_, chunk)| chunk.is_none()) {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

/// Drops the shortest runs until the head has room for the others.
fn keep_longest(runs: &mut Vec<Range<u64>>, chunks: u64) {
    // As if every chunk had a hash, so that dropped runs find room for theirs.
    let pages = chunks.div_ceil(PAGE_HASHES) * HASH as u64;
    let room = (MAX_HEAD.saturating_sub(pages + super::head::FIXED as u64) / 8) as usize;
    if runs.len() > room {
        runs.sort_unstable_by_key(|run| std::cmp::Reverse(run.end - run.start));
        runs.truncate(room);
        runs.sort_unstable_by_key(|run| run.start);
    }
}
