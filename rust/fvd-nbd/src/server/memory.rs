//! A disk in memory, for tests and measurements.

use std::future::{Future, ready};
use std::sync::{Mutex, PoisonError, RwLock};

use bytes::Bytes;
use fvd::storage::IoBufMut;
use fvd::{Error, Result};

use super::export::{Export, Zeroing};
use crate::protocol::export::ExportInfo;
use crate::protocol::meta::Status;

/// The granularity of the status in bytes.
const PIECE: u64 = 4096;

/// A disk whose content is lost when it is dropped.
#[derive(Debug)]
pub struct MemoryExport {
    info: ExportInfo,
    bytes: RwLock<Vec<u8>>,
    flushes: Mutex<u64>,
}

impl MemoryExport {
    /// A disk named `name` with `size` bytes of zeroes.
    #[must_use]
    pub fn new(name: &str, size: usize) -> Self {
        Self::with_info(ExportInfo::new(name, size as u64))
    }

    /// A disk of zeroes with these properties.
    #[must_use]
    pub fn with_info(info: ExportInfo) -> Self {
        let bytes = vec![0; info.size as usize];
        Self {
            info,
            bytes: RwLock::new(bytes),
            flushes: Mutex::new(0),
        }
    }

    /// The number of flushes so far.
    pub fn flushes(&self) -> u64 {
        *self.flushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the content.
    pub fn content(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, offset: u64, length: u64, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut bytes[offset as usize..(offset + length) as usize]);
    }
}

impl Export for MemoryExport {
    fn info(&self) -> ExportInfo {
        self.info.clone()
    }

    fn read(&self, mut buf: IoBufMut, offset: u64) -> impl Future<Output = Result<IoBufMut>> + Send {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let target = buf.as_mut_slice();
        let offset = offset as usize;
        target.copy_from_slice(&bytes[offset..offset + target.len()]);
        ready(Ok(buf))
    }

    fn write(&self, buf: Bytes, offset: u64) -> impl Future<Output = Result<()>> + Send {
        self.change(offset, buf.len() as u64, |bytes| bytes.copy_from_slice(&buf));
        ready(Ok(()))
    }

    fn flush(&self) -> impl Future<Output = Result<()>> + Send {
        *self.flushes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        ready(Ok(()))
    }

    fn write_zeroes(&self, offset: u64, length: u64, how: Zeroing) -> impl Future<Output = Result<()>> + Send {
        if how.fast {
            return ready(Err(Error::unsupported("zeros are written like anything else")));
        }
        self.change(offset, length, |bytes| bytes.fill(0));
        ready(Ok(()))
    }

    fn trim(&self, offset: u64, length: u64) -> impl Future<Output = Result<()>> + Send {
        self.change(offset, length, |bytes| bytes.fill(0));
        ready(Ok(()))
    }

    fn cache(&self, _offset: u64, _length: u64) -> impl Future<Output = Result<()>> + Send {
        ready(Ok(()))
    }

    fn status(
        &self,
        offset: u64,
        length: u64,
        piece: &mut (dyn FnMut(u64, Status) -> bool + Send),
    ) -> impl Future<Output = Result<()>> + Send {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = offset;
        while at < offset + length {
            let next = ((at / PIECE + 1) * PIECE).min(offset + length);
            let zero = bytes[at as usize..next as usize].iter().all(|&byte| byte == 0);
            if !piece(next - at, if zero { Status::HOLE } else { Status::LOCAL }) {
                break;
            }
            at = next;
        }
        ready(Ok(()))
    }
}
