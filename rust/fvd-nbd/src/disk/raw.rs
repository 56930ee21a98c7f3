//! A file or device whose bytes are the disk.

use bytes::Bytes;
use fvd::Result;
use fvd::image::CacheMode;
use fvd::source::{BaseSource, RawSource};
use fvd::storage::{IoBufMut, Storage};

use super::content::Trim;
use super::image::{pieces_of_zeros, slow};
use crate::server::Zeroing;

/// A storage, as it is.
pub struct RawDisk<S> {
    source: RawSource<S>,
    writable: bool,
    cache: CacheMode,
    trim: Trim,
}

impl<S: Storage> RawDisk<S> {
    /// The disk is as long as the storage is now. `writable`: as the storage was opened.
    pub async fn new(storage: S, writable: bool, cache: CacheMode, trim: Trim) -> Result<Self> {
        Ok(Self {
            source: RawSource::new(storage).await?,
            writable,
            cache,
            trim,
        })
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(super) fn trim_does(&self) -> Trim {
        self.trim
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
        self.storage().write(buf, offset).await?;
        self.write_through().await
    }

    /// Makes what has completed durable.
    pub(super) async fn flush(&self) -> Result<()> {
        if !self.writable || self.cache == CacheMode::Unsafe {
            return Ok(());
        }
        self.storage().sync().await
    }

    pub(super) async fn write_zeroes(&self, offset: u64, length: u64, how: Zeroing) -> Result<()> {
        // A device may have to write them.
        if how.fast && (how.no_hole || !self.storage().can_resize()) {
            return Err(slow());
        }
        if how.no_hole {
            for (at, zeros) in pieces_of_zeros(offset, length) {
                self.storage().write(zeros, at).await?;
            }
        } else {
            self.storage().write_zeroes(offset, length).await?;
        }
        self.write_through().await
    }

    pub(super) async fn trim(&self, offset: u64, length: u64) -> Result<()> {
        match self.trim {
            Trim::Ignore => Ok(()),
            Trim::Unmap => {
                self.storage().write_zeroes(offset, length).await?;
                self.write_through().await
            }
        }
    }

    async fn write_through(&self) -> Result<()> {
        match self.cache {
            CacheMode::Writethrough => self.storage().sync().await,
            CacheMode::Writeback | CacheMode::Unsafe => Ok(()),
        }
    }
}
