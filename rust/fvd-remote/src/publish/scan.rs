//! Reads the source: once to know its chunks, and again to write them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use fvd::source::{BaseSource, Content, is_zero};
use fvd::storage::IoBufMut;
use fvd::{Error, ErrorKind, Result};
use pollster::block_on;

use super::work::{Job, each};
use crate::fetch::UNIT;
use crate::manifest::{Chunk, Hash, Manifest, chunks, hash};

/// Chunks that a thread takes at a time.
const STEP: u64 = 16;

/// The hash of each chunk. None: it is zeros.
pub(super) fn scan(source: &dyn BaseSource, job: &mut Job<'_, '_>) -> Result<Vec<Option<Hash>>> {
    let meter = job.meter;
    let count = chunks(source.len())?;
    let all = Mutex::new(vec![None; count as usize]);
    each(0..count, STEP, job, &|chunks| {
        let mut found = vec![None; (chunks.end - chunks.start) as usize];
        let mut at = chunks.start * UNIT;
        let end = (chunks.end * UNIT).min(source.len());
        while at < end {
            let run = block_on(source.status(at, end - at))?;
            let run_end = at + run.len;
            let chunk = bytes_of(at / UNIT, source.len());
            if run.content == Content::Zero && chunk.start == at && run_end >= chunk.end {
                // Whole chunks of zeros.
                at = if run_end >= end { end } else { run_end / UNIT * UNIT };
                continue;
            }
            let bytes = read(source, &chunk)?;
            if !is_zero(bytes.as_slice()) {
                found[(chunk.start / UNIT - chunks.start) as usize] = Some(hash(bytes.as_slice()));
            }
            at = chunk.end;
        }
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all[chunks.start as usize..chunks.end as usize].copy_from_slice(&found);
        drop(all);
        meter.add(end - chunks.start * UNIT);
        Ok(())
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The source, and what its chunks must be.
pub(crate) struct Scan<'a> {
    source: &'a dyn BaseSource,
    pub(crate) manifest: &'a Manifest,
}

impl<'a> Scan<'a> {
    pub(super) fn new(source: &'a dyn BaseSource, manifest: &'a Manifest) -> Self {
        Self { source, manifest }
    }

    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// A chunk, if it is not in a run of zeros.
    pub(crate) fn chunk(&self, index: u64) -> Result<Option<IoBufMut>> {
        let Chunk::Data(number) = self.manifest.head.chunk(index).0 else {
            return Ok(None);
        };
        let bytes = read(self.source, &bytes_of(index, self.len()))?;
        if hash(bytes.as_slice()) != self.manifest.hash(number) {
            let message = "The disk has changed while it was published: nothing may write to it meanwhile";
            return Err(Error::new(ErrorKind::Io, message).with_path(self.source.path()));
        }
        Ok(Some(bytes))
    }

    /// The bytes of `range`, which begins and ends with chunks.
    pub(crate) fn read(&self, range: &Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        for index in range.start / UNIT..range.end.div_ceil(UNIT) {
            if let Some(chunk) = self.chunk(index)? {
                let at = (index * UNIT - range.start) as usize;
                bytes[at..at + chunk.len()].copy_from_slice(chunk.as_slice());
            }
        }
        Ok(bytes)
    }
}

/// Whether `source` has the content that `manifest` says.
pub(super) fn fits(source: &dyn BaseSource, manifest: &Manifest, job: &mut Job<'_, '_>) -> Result<bool> {
    if source.len() != manifest.head.len() {
        return Ok(false);
    }
    let is_right = AtomicBool::new(true);
    each(0..chunks(source.len())?, STEP, job, &|chunks| {
        for index in chunks {
            if !is_right.load(Ordering::Relaxed) {
                break;
            }
            let bytes = read(source, &bytes_of(index, source.len()))?;
            is_right.fetch_and(manifest.fits(index, bytes.as_slice()), Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(is_right.into_inner())
}

fn bytes_of(chunk: u64, len: u64) -> Range<u64> {
    chunk * UNIT..((chunk + 1) * UNIT).min(len)
}

fn read(source: &dyn BaseSource, range: &Range<u64>) -> Result<IoBufMut> {
    let buf = IoBufMut::zeroed((range.end - range.start) as usize);
    block_on(source.read(buf, range.start))
}
