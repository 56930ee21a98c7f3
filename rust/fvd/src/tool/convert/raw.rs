//! A raw file or device as the target (docs/design/format.md, section 10). Its first bytes are written last.
//! Until then they hold a mark, so that a half-written disk, left by a kill or a power cut, is not taken for
//! a complete one.

use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use pollster::block_on;

use super::created::Created;
use super::sink::Sink;
use super::target::check_room;
use super::{Cache, ConvertRequest};
use crate::error::Result;
use crate::format::{SECTOR, unfinished};
use crate::image::CacheMode;
use crate::storage::{FileOptions, FileStorage, IoBufMut, LockMode, Space, Storage};
use crate::tool::lock;

/// A raw file or device.
pub(super) struct RawDisk {
    storage: FileStorage,
    cache: Cache,
    /// Length of an existing target, which writes must not exceed. `None`: the file may grow.
    limit: Option<u64>,
    front: Front,
}

/// The first bytes of the disk. They are kept in memory until [`RawDisk::finish`]; the mark is in their
/// place.
#[derive(Default)]
struct Front {
    /// Number of bytes. 0: there is no mark, and everything is written at once.
    len: u64,
    content: Mutex<FrontContent>,
}

#[derive(Default)]
struct FrontContent {
    bytes: Vec<u8>,
    /// Whether the target existed, or data (even zeros) was written here. If not, a start of zeros becomes a
    /// hole.
    written: bool,
}

impl RawDisk {
    /// A target without a mark.
    pub(super) fn new(storage: FileStorage, cache: Cache) -> Self {
        Self {
            storage,
            cache,
            limit: None,
            front: Front::default(),
        }
    }

    /// Opens the target at `path` for a disk of `size` bytes, and writes the mark. `None`: the size is
    /// unknown.
    pub(super) fn open(
        path: &Path,
        size: Option<u64>,
        request: &ConvertRequest,
        created: &mut Created,
    ) -> Result<Self> {
        let storage = open_file(path, request, created)?;
        let mut disk = Self::new(storage, request.cache);
        if request.no_create || !disk.can_resize() {
            disk.open_existing(path, size, request)?;
        } else {
            disk.open_new(size)?;
        }
        Ok(disk)
    }

    fn open_existing(&mut self, path: &Path, size: Option<u64>, request: &ConvertRequest) -> Result<()> {
        let len = block_on(self.storage.len())?;
        if let Some(size) = size {
            check_room(path, len, size)?;
        }
        if request.no_create {
            self.limit = Some(len);
        }
        let bytes = self.start(len.min(unfinished::LEN), !request.target_is_zero)?;
        self.begin(FrontContent { bytes, written: true })?;
        block_on(self.storage.sync())
    }

    /// Marks the empty file before it gets its size: a file of that size without a mark would look like a
    /// complete disk of zeros.
    fn open_new(&mut self, size: Option<u64>) -> Result<()> {
        let bytes = self.start(size.unwrap_or(u64::MAX).min(unfinished::LEN), false)?;
        self.begin(FrontContent { bytes, written: false })?;
        if let Some(size) = size {
            // The file system may make the size durable before the mark.
            self.sync()?;
            block_on(self.storage.set_len(size))?;
        }
        Ok(())
    }

    /// The first `len` bytes of the target if `is_read`, or zeros.
    fn start(&self, len: u64, is_read: bool) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        if is_read {
            let buf = block_on(self.storage.read(IoBufMut::zeroed(len as usize), 0))?;
            bytes.copy_from_slice(buf.as_slice());
        }
        Ok(bytes)
    }

    /// Writes the mark, and keeps `content` for [`finish`](Self::finish).
    fn begin(&mut self, content: FrontContent) -> Result<()> {
        let len = content.bytes.len();
        self.storage.write_blocking(&unfinished::page()[..len], 0)?;
        self.front = Front {
            len: len as u64,
            content: Mutex::new(content),
        };
        Ok(())
    }

    pub(super) fn storage(&self) -> &FileStorage {
        &self.storage
    }

    pub(super) fn into_storage(self) -> FileStorage {
        self.storage
    }

    pub(super) fn is_direct(&self) -> bool {
        self.cache.is_direct()
    }

    pub(super) fn can_resize(&self) -> bool {
        self.storage.can_resize()
    }

    /// Writes the first bytes of the disk in place of the mark. Their first sector is written after
    /// everything else is durable. Syncs nothing with [`Cache::Unsafe`].
    pub(super) fn finish(&self) -> Result<()> {
        let content = lock(&self.front.content);
        let len = self.front.len.min(block_on(self.storage.len())?);
        let bytes = &content.bytes[..len as usize];
        if bytes.is_empty() {
            return self.sync();
        }
        let sector = bytes.len().min(SECTOR as usize);
        self.storage.write_blocking(&bytes[sector..], sector as u64)?;
        self.sync()?;
        if !content.written && bytes.iter().all(|byte| *byte == 0) {
            block_on(self.storage.write_zeroes(0, len, Space::Free))?;
        } else {
            self.storage.write_blocking(&bytes[..sector], 0)?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        if self.cache == Cache::Unsafe {
            return Ok(());
        }
        block_on(self.storage.sync())
    }

    /// Applies `change` to those bytes of `offset..offset + len` that are kept in memory. Returns how many
    /// bytes these are: the caller must not write them.
    fn hold_back(&self, offset: u64, len: u64, change: impl FnOnce(&mut [u8], &mut bool)) -> u64 {
        let held = self.front.len.saturating_sub(offset).min(len);
        if held > 0 {
            let FrontContent { bytes, written } = &mut *lock(&self.front.content);
            change(&mut bytes[offset as usize..(offset + held) as usize], written);
        }
        held
    }

    fn check_limit(&self, end: u64) -> Result<()> {
        match self.limit {
            Some(limit) => check_room(self.storage.path(), limit, end),
            None => Ok(()),
        }
    }

    fn write_through(&self) -> Result<()> {
        if self.cache.image() == CacheMode::Writethrough {
            return block_on(self.storage.sync());
        }
        Ok(())
    }
}

impl Sink for RawDisk {
    fn write(&self, buf: Bytes, offset: u64, _stopped: &dyn Fn() -> bool) -> Result<()> {
        self.check_limit(offset + buf.len() as u64)?;
        let held = self.hold_back(offset, buf.len() as u64, |front, written| {
            front.copy_from_slice(&buf[..front.len()]);
            *written = true;
        });
        self.storage.write_blocking(&buf[held as usize..], offset + held)?;
        self.write_through()
    }

    fn zero(&self, offset: u64, len: u64) -> Result<()> {
        self.check_limit(offset + len)?;
        let held = self.hold_back(offset, len, |front, _| front.fill(0));
        block_on(self.storage.write_zeroes(offset + held, len - held, Space::Free))?;
        self.write_through()
    }

    fn start_writeback(&self) {
        if self.cache == Cache::Writeback {
            self.storage.start_writeback();
        }
    }
}

fn open_file(path: &Path, request: &ConvertRequest, created: &mut Created) -> Result<FileStorage> {
    let direct = request.cache.is_direct();
    if !request.no_create {
        return created.create(path, direct);
    }
    let options = FileOptions {
        writable: true,
        direct,
        lock: LockMode::Exclusive,
        no_follow: false,
    };
    FileStorage::open(path, &options)
}
