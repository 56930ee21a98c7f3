//! Bytes of a manifest's head (`docs/format-manifest.md`). No I/O.

use std::ops::Range;

use fvd::{Error, Result};
use sha2::{Digest as _, Sha256};

use crate::fetch::UNIT;

/// Bytes of the longest head.
pub(crate) const MAX_HEAD: u64 = 2 << 20;
/// Bytes of the fields that every head has.
pub(crate) const FIXED: usize = 64;
/// Hashes of a page.
pub(crate) const PAGE_HASHES: u64 = 8192;
/// Bytes of a hash.
pub(crate) const HASH: usize = 32;
/// Bytes of a whole page.
pub(crate) const PAGE: u64 = PAGE_HASHES * HASH as u64;

const MAGIC: &[u8; 8] = b"FVDMNFST";
const VERSION: u32 = 1;
const SHA256: u32 = 1;
const RUN: usize = 8;
/// Chunks of the longest object.
const MAX_CHUNKS: u64 = u32::MAX as u64;

pub(crate) type Hash = [u8; HASH];

/// SHA-256.
pub(crate) fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// What a manifest says of an object before its pages are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Length of the object in bytes.
    len: u64,
    /// Runs of chunks that are zeros.
    zeros: Vec<Range<u64>>,
    /// For each run, the chunks of zeros before it.
    before: Vec<u64>,
    /// The chunks of zeros of all runs.
    zero_chunks: u64,
    /// The hash of each page.
    pages: Vec<Hash>,
}

/// What a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Zeros,
    /// Its hash has this number.
    Data(u64),
}

impl Head {
    /// The head of an object of `len` bytes.
    ///
    /// # Errors
    ///
    /// If there are too many runs and pages for a head, or too few or many pages for the object.
    pub(crate) fn new(len: u64, zeros: Vec<Range<u64>>, pages: Vec<Hash>) -> Result<Self> {
        let chunks = chunks(len)?;
        let mut before = Vec::with_capacity(zeros.len());
        let (mut count, mut end) = (0, None);
        for run in &zeros {
            let is_apart = end.is_none_or(|end| run.start > end);
            if run.is_empty() || !is_apart || run.end > chunks {
                return Err(damaged("its runs of zeros overlap or lie outside of the object"));
            }
            before.push(count);
            count += run.end - run.start;
            end = Some(run.end);
        }
        if pages.len() as u64 != (chunks - count).div_ceil(PAGE_HASHES) {
            return Err(damaged("the number of its pages does not fit the object"));
        }
        let head = Self {
            len,
            zeros,
            before,
            zero_chunks: count,
            pages,
        };
        if head.encoded_len() > MAX_HEAD {
            return Err(damaged("its head is longer than 2 MiB"));
        }
        Ok(head)
    }

    /// Length of the object in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn pages(&self) -> &[Hash] {
        &self.pages
    }

    /// Bytes of the head.
    pub(crate) fn encoded_len(&self) -> u64 {
        (FIXED + self.zeros.len() * RUN + self.pages.len() * HASH) as u64
    }

    /// Chunks that have a hash.
    pub(crate) fn data_chunks(&self) -> u64 {
        self.len.div_ceil(UNIT) - self.zero_chunks
    }

    /// Where page `page` lies in the manifest.
    pub(crate) fn page_range(&self, page: u64) -> Range<u64> {
        let hashes = page * PAGE_HASHES..((page + 1) * PAGE_HASHES).min(self.data_chunks());
        let at = |hash: u64| self.encoded_len() + hash * HASH as u64;
        at(hashes.start)..at(hashes.end)
    }

    /// What chunk `index` is, and the first chunk after it that is of the other kind, or the number of chunks.
    pub(crate) fn chunk(&self, index: u64) -> (Chunk, u64) {
        let all = self.len.div_ceil(UNIT);
        let next = self.zeros.partition_point(|run| run.end <= index);
        let Some(run) = self.zeros.get(next) else {
            return (Chunk::Data(index - self.zero_chunks.min(index)), all);
        };
        if run.contains(&index) {
            return (Chunk::Zeros, run.end);
        }
        (Chunk::Data(index - self.before[next]), run.start)
    }

    /// The bytes, whose hash is the identity of the template.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len() as usize);
        bytes.extend_from_slice(MAGIC);
        let mut put = |value: u64| bytes.extend_from_slice(&(value as u32).to_le_bytes());
        put(VERSION.into());
        put(self.encoded_len());
        put(self.len);
        put(self.len >> 32);
        put(UNIT);
        put(SHA256.into());
        put(PAGE_HASHES);
        put(self.zeros.len() as u64);
        put(self.pages.len() as u64);
        bytes.resize(FIXED, 0);
        for run in &self.zeros {
            bytes.extend_from_slice(&(run.start as u32).to_le_bytes());
            bytes.extend_from_slice(&((run.end - run.start) as u32).to_le_bytes());
        }
        self.pages.iter().for_each(|page| bytes.extend_from_slice(page));
        bytes
    }

    /// Reads a head: `bytes` are exactly its own.
    ///
    /// # Errors
    ///
    /// If it is none that this version knows. Nothing is allocated that is longer than `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let expected = head_len(bytes)?;
        if expected != bytes.len() as u64 {
            return Err(damaged("its head has another length than it says"));
        }
        let known = [(24, UNIT as u32), (28, SHA256), (32, PAGE_HASHES as u32)];
        if known.iter().any(|&(at, value)| u32_at(bytes, at) != value) || bytes[44..FIXED] != [0; 20] {
            return Err(damaged("this version of fvd does not know its chunks, pages or hashes"));
        }
        let (runs, pages) = (u32_at(bytes, 36) as usize, u32_at(bytes, 40) as usize);
        let needed = FIXED as u64 + runs as u64 * RUN as u64 + pages as u64 * HASH as u64;
        if needed != expected {
            return Err(damaged("its head has another length than it says"));
        }
        let (runs, pages) = bytes[FIXED..].split_at(runs * RUN);
        let run = |bytes: &[u8]| {
            let start = u64::from(u32_at(bytes, 0));
            start..start + u64::from(u32_at(bytes, 4))
        };
        let len = u64::from(u32_at(bytes, 16)) | u64::from(u32_at(bytes, 20)) << 32;
        let page = |bytes: &[u8]| Hash::try_from(bytes).expect("the length of a hash");
        Self::new(
            len,
            runs.chunks_exact(RUN).map(run).collect(),
            pages.chunks_exact(HASH).map(page).collect(),
        )
    }
}

/// The length of the head that begins with `bytes`, in bytes.
///
/// # Errors
///
/// If it is no manifest, or none that this version knows.
pub(crate) fn head_len(bytes: &[u8]) -> Result<u64> {
    if !is_manifest(bytes) {
        return Err(damaged("it does not begin as a manifest does"));
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(Error::unsupported(format!(
            "The manifest has version {version}, and this version of fvd reads version {VERSION}"
        )));
    }
    let len = u64::from(u32_at(bytes, 12));
    if (FIXED as u64..=MAX_HEAD).contains(&len) {
        Ok(len)
    } else {
        Err(damaged("the length of its head is out of range"))
    }
}

/// Whether these are the first bytes of a manifest, of any version.
pub(crate) fn is_manifest(bytes: &[u8]) -> bool {
    bytes.len() >= FIXED && bytes.starts_with(MAGIC)
}

/// The number of chunks of an object of `len` bytes.
pub(crate) fn chunks(len: u64) -> Result<u64> {
    let chunks = len.div_ceil(UNIT);
    if chunks <= MAX_CHUNKS {
        Ok(chunks)
    } else {
        Err(Error::unsupported("A template has at most 1 PiB"))
    }
}

fn damaged(how: &str) -> Error {
    Error::new(fvd::ErrorKind::Io, format!("The manifest is damaged: {how}"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
