//! A disk in memory, for tests and temporary images.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::file::MAX_OFFSET;
use super::{Allocation, IoBufMut, Space, Storage};
use crate::error::{Error, ErrorKind, Result};

/// Unit of allocation, in bytes.
const PAGE_LEN: u64 = 4 << 10;

/// Sparse bytes in memory. Clones share the content, like two handles of one file.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    content: Arc<RwLock<Content>>,
    /// A device has a fixed length.
    is_device: bool,
}

#[derive(Debug, Default)]
struct Content {
    len: u64,
    /// Pages by number. A missing page reads as zeros, as does everything beyond `len`.
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl MemoryStorage {
    /// An empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A file that holds `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let storage = Self::new();
        storage.write_guard().write(bytes, 0);
        storage
    }

    /// A block device of `len` zero bytes. Its length is fixed.
    #[must_use]
    pub fn device(len: u64) -> Self {
        let storage = Self {
            is_device: true,
            ..Self::default()
        };
        storage.write_guard().len = len;
        storage
    }

    /// Copies all bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let content = self.read_guard();
        let mut bytes = vec![0; content.len as usize];
        content.read(&mut bytes, 0);
        bytes
    }

    fn read_guard(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_guard(&self) -> RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all<'a>(&self, bufs: impl IntoIterator<Item = &'a [u8]> + Clone, mut offset: u64) -> Result<()> {
        let len = bufs.clone().into_iter().map(|buf| buf.len() as u64).sum();
        let mut content = self.write_guard();
        self.check_end(&content, offset, len)?;
        for buf in bufs {
            content.write(buf, offset);
            offset += buf.len() as u64;
        }
        Ok(())
    }

    fn check_end(&self, content: &Content, offset: u64, len: u64) -> Result<()> {
        let limit = if self.is_device { content.len } else { MAX_OFFSET };
        match offset.checked_add(len) {
            Some(end) if end <= limit || len == 0 => Ok(()),
            _ => {
                let cause = if self.is_device { libc::ENOSPC } else { libc::EFBIG };
                let error = Error::io("write", io::Error::from_raw_os_error(cause));
                Err(error.with_path(self.path()).with_offset(offset))
            }
        }
    }
}

impl Content {
    fn read(&self, mut buf: &mut [u8], mut offset: u64) {
        while !buf.is_empty() {
            let (page, at, count) = locate(offset, buf.len());
            let (front, back) = buf.split_at_mut(count);
            match self.pages.get(&page) {
                Some(page) => front.copy_from_slice(&page[at..at + count]),
                None => front.fill(0),
            }
            buf = back;
            let Some(next) = offset.checked_add(count as u64) else {
                return buf.fill(0);
            };
            offset = next;
        }
    }

    fn write(&mut self, mut buf: &[u8], mut offset: u64) {
        if !buf.is_empty() {
            self.len = self.len.max(offset + buf.len() as u64);
        }
        while !buf.is_empty() {
            let (page, at, count) = locate(offset, buf.len());
            self.page(page)[at..at + count].copy_from_slice(&buf[..count]);
            buf = &buf[count..];
            offset += count as u64;
        }
    }

    fn page(&mut self, number: u64) -> &mut [u8] {
        let page = self.pages.entry(number);
        page.or_insert_with(|| vec![0; PAGE_LEN as usize].into())
    }

    /// Zeroes `offset..end`, which must lie within the file.
    fn zero(&mut self, offset: u64, end: u64, space: Space) {
        if offset >= end {
            return;
        }
        if space == Space::Allocate {
            for number in offset / PAGE_LEN..=(end - 1) / PAGE_LEN {
                self.page(number);
            }
        }
        let numbers: Vec<u64> = self
            .pages
            .range(offset / PAGE_LEN..=(end - 1) / PAGE_LEN)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let start = number * PAGE_LEN;
            let from = offset.max(start) - start;
            let to = (end - start).min(PAGE_LEN);
            if space == Space::Free && (from, to) == (0, PAGE_LEN) {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                page[from as usize..to as usize].fill(0);
            }
        }
    }

    fn allocation(&self, offset: u64, len: u64) -> (Allocation, u64) {
        if offset >= self.len {
            return (Allocation::Hole, len);
        }
        let first = offset / PAGE_LEN;
        let pages = self.pages.range(first..).map(|(number, _)| *number);
        let run = (first..)
            .zip(pages.clone())
            .take((len / PAGE_LEN + 2) as usize)
            .take_while(|(expected, number)| expected == number);
        let run = run.count() as u64;
        if run > 0 {
            let until = ((first + run) * PAGE_LEN).min(self.len);
            return (Allocation::Data, (until - offset).min(len));
        }
        // After the last page there is only a hole, also beyond the end.
        let until = pages.clone().next().map(|number| number * PAGE_LEN);
        (Allocation::Hole, until.map_or(len, |until| (until - offset).min(len)))
    }
}

/// Page number, offset in the page, and how many of `len` bytes the page holds from there.
fn locate(offset: u64, len: usize) -> (u64, usize, usize) {
    let at = offset % PAGE_LEN;
    let count = (PAGE_LEN - at).min(len as u64);
    (offset / PAGE_LEN, at as usize, count as usize)
}

impl Storage for MemoryStorage {
    fn path(&self) -> &Path {
        Path::new("<memory>")
    }

    async fn read(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.read_guard().read(buf.as_mut_slice(), offset);
        Ok(buf)
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        self.write_all([buf.as_ref()], offset)
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        self.write_all(bufs.iter().map(AsRef::as_ref), offset)
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        let mut content = self.write_guard();
        let end = offset.saturating_add(len).min(content.len);
        content.zero(offset, end, space);
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn len(&self) -> Result<u64> {
        Ok(self.read_guard().len)
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        if self.is_device {
            let error = Error::new(ErrorKind::Unsupported, "The length of a device cannot be changed");
            return Err(error.with_path(self.path()));
        }
        let mut content = self.write_guard();
        if len > MAX_OFFSET {
            let error = Error::io("change the length", io::Error::from_raw_os_error(libc::EFBIG));
            return Err(error.with_path(self.path()).with_offset(len));
        }
        let old = content.len;
        content.zero(len, old, Space::Free);
        let kept = len.div_ceil(PAGE_LEN);
        content.pages.split_off(&kept);
        content.len = len;
        Ok(())
    }

    fn can_resize(&self) -> bool {
        !self.is_device
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        Ok(self.read_guard().allocation(offset, len))
    }
}
