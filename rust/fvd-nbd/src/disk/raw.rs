//! A file or device whose bytes are the disk.

use bytes::Bytes;
use fvd::Result;
use fvd::image::{CacheMode, DetectZeroes, Discard, OpenOptions};
use fvd::source::{BaseSource, RawSource, is_zero};
use fvd::storage::{IoBufMut, Space, Storage};

use super::zeroing::{is_slow, slow};
use crate::server::Zeroing;

/// A storage that is served without a format.
pub struct RawDisk<S> {
    source: RawSource<S>,
    options: OpenOptions,
}

impl<S: Storage> RawDisk<S> {
    /// A disk whose size is the current size of the storage. It is writable if `options.writable` says so,
    /// which must match how the storage was opened.
    pub async fn new(storage: S, options: OpenOptions) -> Result<Self> {
        Ok(Self {
            source: RawSource::new(storage).await?,
            options,
        })
    }

    pub(super) fn is_writable(&self) -> bool {
        self.options.writable
    }

    pub(super) fn discards(&self) -> bool {
        self.options.discard == Discard::Unmap
    }

    pub(super) fn source(&self) -> &dyn BaseSource {
        &self.source
    }

    fn storage(&self) -> &S {
        self.source.storage()
    }

    pub(super) async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.storage().read(buf, offset).await
    }

    pub(super) async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        // With `DetectZeroes::On` zeroes would be detected and then stored. A plain write does the same.
        if self.options.detect_zeroes == DetectZeroes::Unmap && self.discards() && is_zero(&buf) {
            self.storage()
                .write_zeroes(offset, buf.len() as u64, Space::Free)
                .await?;
        } else {
            self.storage().write(buf, offset).await?;
        }
        self.write_through().await
    }

    /// Makes completed writes durable, unless the cache mode is `unsafe`.
    pub(super) async fn flush(&self) -> Result<()> {
        if !self.options.writable || self.options.cache == CacheMode::Unsafe {
            return Ok(());
        }
        self.storage().sync().await
    }

    pub(super) async fn write_zeroes(&self, offset: u64, length: u64, how: Zeroing) -> Result<()> {
        let space = how.space(self.discards());
        if how.fast && is_slow(self.storage(), space) {
            return Err(slow());
        }
        self.storage().write_zeroes(offset, length, space).await?;
        self.write_through().await
    }

    pub(super) async fn trim(&self, offset: u64, length: u64) -> Result<()> {
        match self.options.discard {
            Discard::Ignore => Ok(()),
            Discard::Unmap => {
                self.storage().write_zeroes(offset, length, Space::Free).await?;
                self.write_through().await
            }
        }
    }

    async fn write_through(&self) -> Result<()> {
        match self.options.cache {
            CacheMode::Writethrough => self.storage().sync().await,
            CacheMode::Writeback | CacheMode::Unsafe => Ok(()),
        }
    }
}
