//! A base with unreadable parts, or one that no longer accepts writes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::ready;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fvd::error::{Error, Result};
use fvd::format::{BaseUpdate, LayoutOptions};
use fvd::host::BoxFuture;
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, RawSource, Run, WritableBase};
use fvd::storage::{IoBufMut, MemoryStorage, Space};
use pollster::block_on;

const BLOCK: u64 = 64 << 10;
const MIB: u64 = 1 << 20;

/// A raw base with an unreadable range, and a switch that makes every write fail.
#[derive(Clone)]
struct Base {
    disk: MemoryStorage,
    len: u64,
    bad: Arc<Mutex<Range<u64>>>,
    /// The error of reads in the bad range.
    errno: i32,
    /// Number of failed reads.
    failed: Arc<AtomicU32>,
    down: Arc<AtomicBool>,
}

/// The base, opened by one image.
struct Opened {
    base: Base,
    raw: RawSource<MemoryStorage>,
}

impl Base {
    fn new(len: u64) -> Self {
        let disk = MemoryStorage::new();
        block_on(fvd::storage::Storage::write(&disk, Bytes::from(content(0, len)), 0)).unwrap();
        Self {
            disk,
            len,
            bad: Arc::default(),
            errno: libc::EIO,
            failed: Arc::default(),
            down: Arc::default(),
        }
    }

    fn open(&self) -> Box<dyn BaseSource> {
        let raw = block_on(RawSource::for_writing(self.disk.clone())).unwrap();
        Box::new(Opened {
            base: self.clone(),
            raw,
        })
    }

    fn check_up(&self) -> Result<()> {
        if self.down.load(Ordering::Relaxed) {
            return Err(failure("write", libc::EIO));
        }
        Ok(())
    }
}

fn content(offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|n| (n / 512 % 251 + 1) as u8).collect()
}

fn failure(op: &str, errno: i32) -> Error {
    Error::io(op, std::io::Error::from_raw_os_error(errno))
}

impl BaseSource for Opened {
    fn path(&self) -> &Path {
        Path::new("base")
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> u64 {
        self.base.len
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        let bad = self.base.bad.lock().unwrap();
        if offset < bad.end && bad.start < offset + buf.len() as u64 {
            self.base.failed.fetch_add(1, Ordering::Relaxed);
            return Box::pin(ready(Err(failure("read", self.base.errno))));
        }
        self.raw.read(buf, offset)
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        self.raw.status(offset, len)
    }

    fn writable(&self) -> Option<&dyn WritableBase> {
        Some(self)
    }
}

impl Opened {
    fn writer(&self) -> &dyn WritableBase {
        self.raw.writable().unwrap()
    }
}

impl WritableBase for Opened {
    fn prepare(&self, size: u64) -> BoxFuture<'_, Result<()>> {
        self.writer().prepare(size)
    }

    fn write(&self, buf: Bytes, offset: u64) -> BoxFuture<'_, Result<()>> {
        match self.base.check_up() {
            Ok(()) => self.writer().write(buf, offset),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> BoxFuture<'_, Result<()>> {
        match self.base.check_up() {
            Ok(()) => self.writer().write_zeroes(offset, len, space),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        self.writer().sync()
    }

    fn sync_leftovers(&self) -> BoxFuture<'_, Result<()>> {
        self.writer().sync_leftovers()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.writer().close()
    }
}

fn overlay(base: &Base, block_size: u64, options: CreateOptions) -> MemoryStorage {
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: base.len,
            base_size: Some(base.len),
            block_size: Some(block_size),
            ..LayoutOptions::default()
        },
        base_img: "base".into(),
        base_img_fmt: "raw".into(),
        ..options
    };
    let file = MemoryStorage::new();
    block_on(create(&file, None, &options, None)).unwrap();
    file
}

fn copying() -> CreateOptions {
    CreateOptions {
        copy_on_read: true,
        ..CreateOptions::default()
    }
}

fn open(file: &MemoryStorage, base: &Base) -> Image<MemoryStorage> {
    let mut head = block_on(read_head(file)).unwrap();
    // A header can claim any value.
    head.header.max_outstanding_copy_on_read_data = i64::MAX;
    let options = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    block_on(Image::open(file.clone(), head, None, Some(base.open()), options)).unwrap()
}

fn read(image: &Image<MemoryStorage>, offset: u64, len: u64) -> Result<Vec<u8>> {
    block_on(image.read(IoBufMut::zeroed(len as usize), offset)).map(|buf| buf.as_slice().to_vec())
}

#[test]
fn a_read_succeeds_if_the_rest_of_the_block_is_unreadable() {
    let base = Base::new(MIB);
    let image = open(&overlay(&base, BLOCK, copying()), &base);
    *base.bad.lock().unwrap() = BLOCK - 512..BLOCK;
    assert_eq!(read(&image, 4096, 4096).unwrap(), content(4096, 4096));
    assert_eq!(image.outstanding_copies(), 0, "half a block is no copy");
    // The part of a request that lies in whole blocks is kept.
    assert_eq!(
        read(&image, BLOCK, 2 * BLOCK - 1).unwrap(),
        content(BLOCK, 2 * BLOCK - 1)
    );
    assert_eq!(image.outstanding_copies(), 2 * BLOCK);
    read(&image, BLOCK - 512, 512).unwrap_err();
    block_on(image.close()).unwrap();
}

/// Each failure may have taken as long as the time limit for the base.
#[test]
fn a_failed_read_is_retried_only_if_it_was_widened() {
    for (errno, offset, len, reads) in [
        (libc::EIO, 4096, 4096, 2),
        (libc::EIO, 0, BLOCK, 1),
        (libc::ETIMEDOUT, 4096, 4096, 1),
    ] {
        let mut base = Base::new(MIB);
        base.errno = errno;
        let image = open(&overlay(&base, BLOCK, copying()), &base);
        *base.bad.lock().unwrap() = 0..BLOCK;
        let error = read(&image, offset, len).unwrap_err();
        assert_eq!(error.errno(), Some(errno));
        assert_eq!(base.failed.load(Ordering::Relaxed), reads, "{offset}, {len}: {error}");
    }
}

#[test]
fn a_read_is_not_widened_to_a_block_of_many_mebibytes() {
    let base = Base::new(8 * MIB);
    let image = open(&overlay(&base, 4 * MIB, copying()), &base);
    assert_eq!(read(&image, 5 * MIB, 4096).unwrap(), content(5 * MIB, 4096));
    assert_eq!(image.stats().base_read_bytes, 4096);
    assert_eq!(image.outstanding_copies(), 0);
}

#[test]
fn at_most_64_mib_of_copies_wait_whatever_the_header_says() {
    let base = Base::new(80 * MIB);
    let image = open(&overlay(&base, BLOCK, copying()), &base);
    for at in 0..80 {
        assert_eq!(read(&image, at * MIB, MIB).unwrap(), content(at * MIB, MIB));
    }
    let waiting = image.outstanding_copies();
    assert!((64 * MIB..=66 * MIB).contains(&waiting), "{waiting} bytes");
}

#[test]
fn a_base_that_fails_at_a_flush_costs_no_data_of_the_image() {
    for updates in [BaseUpdate::Writeback, BaseUpdate::Writethrough] {
        let base = Base::new(MIB);
        let options = CreateOptions {
            write_updates_base_img: updates,
            ..CreateOptions::default()
        };
        let file = overlay(&base, 4096, options);
        let image = open(&file, &base);
        block_on(image.write(Bytes::from_static(&[7; 4096]), 0)).unwrap();
        base.down.store(true, Ordering::Relaxed);
        // `writethrough` acknowledges nothing that the base does not have.
        let written = block_on(image.write(Bytes::from_static(&[8; 4096]), 8192)).is_ok();
        assert_eq!(written, updates == BaseUpdate::Writeback);
        block_on(image.flush()).unwrap_err();
        block_on(image.close()).unwrap_err();
        drop(image);
        base.down.store(false, Ordering::Relaxed);
        let image = open(&file, &base);
        assert_eq!(read(&image, 0, 4096).unwrap(), [7; 4096]);
        let second = read(&image, 8192, 4096).unwrap();
        assert!(second == [8; 4096] || (!written && second == content(8192, 4096)));
        block_on(image.close()).unwrap();
        let raw = block_on(RawSource::new(base.disk.clone())).unwrap();
        let healed = block_on(raw.read(IoBufMut::zeroed(MIB as usize), 0)).unwrap();
        assert_eq!(healed.as_slice()[..4096], [7; 4096]);
        assert_eq!(healed.as_slice()[8192..12288], second);
    }
}
