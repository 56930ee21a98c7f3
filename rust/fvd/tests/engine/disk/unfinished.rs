//! Images whose creation was cut short. Opening one fails with the right error, whatever the file contained
//! before.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use fvd::format::LayoutOptions;
use fvd::image::{
    CreateOptions, Image, OpenOptions, begin, create, create_unfinished, finish, read_head, read_unfinished_head,
    suspend,
};
use fvd::source::probe;
use fvd::storage::{Allocation, IoBufMut, MemoryStorage, Space, Storage};
use fvd::{Error, ErrorKind, Result};
use pollster::block_on;

const SIZE: u64 = 1 << 20;
const DEVICE: u64 = 4 << 20;

/// Memory that fails after a number of changes, as if the program was killed.
#[derive(Clone)]
struct Mortal {
    content: MemoryStorage,
    /// Number of changes that still succeed.
    left: Arc<AtomicI64>,
}

impl Mortal {
    fn new(content: MemoryStorage, changes: i64) -> Self {
        let left = Arc::new(AtomicI64::new(changes));
        Self { content, left }
    }

    fn change(&self) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(Error::unsupported("killed"))
    }
}

impl Storage for Mortal {
    fn path(&self) -> &Path {
        self.content.path()
    }

    async fn read(&self, buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        self.content.read(buf, offset).await
    }

    async fn write(&self, buf: Bytes, offset: u64) -> Result<()> {
        self.change()?;
        self.content.write(buf, offset).await
    }

    async fn write_vectored(&self, bufs: Vec<Bytes>, offset: u64) -> Result<()> {
        self.change()?;
        self.content.write_vectored(bufs, offset).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64, space: Space) -> Result<()> {
        self.change()?;
        self.content.write_zeroes(offset, len, space).await
    }

    async fn sync(&self) -> Result<()> {
        self.change()
    }

    async fn len(&self) -> Result<u64> {
        self.content.len().await
    }

    async fn set_len(&self, len: u64) -> Result<()> {
        self.change()?;
        self.content.set_len(len).await
    }

    fn can_resize(&self) -> bool {
        self.content.can_resize()
    }

    async fn allocation(&self, offset: u64, len: u64) -> Result<(Allocation, u64)> {
        self.content.allocation(offset, len).await
    }
}

fn options(compact: bool, size: u64) -> CreateOptions {
    CreateOptions {
        layout: LayoutOptions {
            virtual_size: size,
            compact,
            chunk_size: Some(4096),
            journal_size: Some(64 << 10),
            ..LayoutOptions::default()
        },
        ..CreateOptions::default()
    }
}

/// The probed format of the file.
fn probed(content: &MemoryStorage) -> &'static str {
    let first = block_on(content.read(IoBufMut::zeroed(8), 0)).unwrap();
    probe(first.as_slice(), b"")
}

fn assert_refused(content: &MemoryStorage, when: &str) {
    assert_eq!(probed(content), "fvd", "{when}");
    let refused = block_on(read_head(content)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidImage, "{when}");
    assert!(refused.to_string().contains("not finished"), "{when}: {refused}");
}

#[test]
fn an_image_whose_creation_was_killed_is_unfinished() {
    for (compact, is_device) in [(false, false), (true, false), (false, true), (true, true)] {
        let content = || {
            if is_device {
                let device = MemoryStorage::device(DEVICE);
                block_on(create(&device, None, &options(!compact, 2 * SIZE), None)).unwrap();
                device
            } else {
                MemoryStorage::new()
            }
        };
        let mut changes = 0;
        loop {
            let content = content();
            let created = block_on(create(
                &Mortal::new(content.clone(), changes),
                None,
                &options(compact, SIZE),
                None,
            ));
            if created.is_ok() {
                assert_eq!(block_on(read_head(&content)).unwrap().geometry.virtual_size, SIZE);
                break;
            }
            if changes > 0 {
                assert_refused(
                    &content,
                    &format!("{changes} changes, compact {compact}, device {is_device}"),
                );
                let unfinished = block_on(read_unfinished_head(&content)).unwrap_err();
                assert!(unfinished.to_string().contains("not finished"), "{unfinished}");
            }
            changes += 1;
        }
        assert!(changes > 2, "creation is some changes long");
    }
}

#[test]
fn a_device_that_is_too_small_is_not_changed() {
    let device = MemoryStorage::device(DEVICE);
    block_on(create(&device, None, &options(false, SIZE), None)).unwrap();
    let before = device.to_vec();
    for refused in [options(false, DEVICE), options(true, 8 << 30)] {
        block_on(create(&device, None, &refused, None)).unwrap_err();
        assert!(device.to_vec() == before);
    }
}

#[test]
fn the_creator_can_open_an_unfinished_image() {
    let file = MemoryStorage::new();
    block_on(create_unfinished(&file, None, &options(true, SIZE), None)).unwrap();
    assert_refused(&file, "before");
    let head = block_on(read_unfinished_head(&file)).unwrap();
    let writable = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    let image = block_on(Image::open(file.clone(), head, None, None, writable)).unwrap();
    block_on(image.write(Bytes::from_static(&[7; 4096]), 0)).unwrap();
    block_on(image.close()).unwrap();
    assert_refused(&file, "closed");
    block_on(finish(&file)).unwrap();
    assert!(block_on(read_head(&file)).unwrap().header.clean_shutdown);
    let whole = file.to_vec();
    block_on(suspend(&file)).unwrap();
    assert_refused(&file, "written anew");
    block_on(finish(&file)).unwrap();
    assert!(file.to_vec() == whole, "nothing else has changed");
}

#[test]
fn an_unfinished_disk_contains_a_readable_message() {
    let file = MemoryStorage::new();
    block_on(begin(&file)).unwrap();
    let text = String::from_utf8_lossy(&file.to_vec()).into_owned();
    assert!(text.contains("This disk is not finished"), "{text:?}");
}
