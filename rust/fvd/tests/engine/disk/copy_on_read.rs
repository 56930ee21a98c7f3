//! Copy-on-read with real files: each block is read from the base once, and a base that fails affects only
//! the reads that need it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;
use fvd::chain::{ChainOptions, OpenedFile, open_image};
use fvd::copy::copy_on_read;
use fvd::format::LayoutOptions;
use fvd::image::{CreateOptions, Image, create};
use fvd::storage::{FileStorage, IoBufMut};
use fvd::{Error, ErrorKind};
use pollster::block_on;
use tempfile::TempDir;

const SIZE: u64 = 1 << 20;
const BLOCK: u64 = 4096;
/// What readers fetch from the base at least.
const UNIT: u64 = 64 << 10;

struct Folder {
    dir: TempDir,
}

impl Folder {
    /// An overlay over a base whose byte `n` is `n / 512 % 251 + 1`.
    fn new(compact: bool) -> Self {
        let folder = Self {
            dir: TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        };
        std::fs::write(folder.path("base"), expected(0, SIZE)).unwrap();
        let options = CreateOptions {
            layout: LayoutOptions {
                virtual_size: SIZE,
                base_size: Some(SIZE),
                block_size: Some(BLOCK),
                compact,
                chunk_size: compact.then_some(3 * BLOCK),
                storage_grow_unit: compact.then_some(3 * BLOCK),
                journal_size: None,
                ..LayoutOptions::default()
            },
            base_img: "base".into(),
            base_img_fmt: "raw".into(),
            copy_on_read: true,
            ..CreateOptions::default()
        };
        let file = FileStorage::create(folder.path("image"), false).unwrap();
        block_on(create(&file, None, &options, None)).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self) -> Image<OpenedFile> {
        let options = ChainOptions {
            writable: true,
            ..ChainOptions::default()
        };
        block_on(open_image(&self.path("image"), &options)).unwrap()
    }
}

fn expected(offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|n| (n / 512 % 251 + 1) as u8).collect()
}

fn read(image: &Image<OpenedFile>, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
    block_on(image.read(IoBufMut::zeroed(len as usize), offset)).map(|buf| buf.as_slice().to_vec())
}

#[test]
fn the_next_session_does_not_read_copied_blocks_again() {
    for compact in [false, true] {
        let folder = Folder::new(compact);
        let image = folder.open();
        assert_eq!(read(&image, 5000, 100_000).unwrap(), expected(5000, 100_000));
        let first = image.stats();
        assert_eq!(first.copied_on_read, 0, "the reader does not wait for the store");
        block_on(image.close()).unwrap();
        assert_eq!(image.stats().copied_on_read, 2 * UNIT);
        drop(image);
        let image = folder.open();
        assert_eq!(read(&image, 5000, 100_000).unwrap(), expected(5000, 100_000));
        assert_eq!(image.stats().base_reads, 0, "compact: {compact}");
        assert_eq!(read(&image, 0, SIZE).unwrap(), expected(0, SIZE));
    }
}

#[test]
fn small_reads_of_a_unit_read_the_base_once() {
    let folder = Folder::new(false);
    let image = folder.open();
    for block in 16..32 {
        assert_eq!(
            read(&image, block * BLOCK, BLOCK).unwrap(),
            expected(block * BLOCK, BLOCK)
        );
        store_all(&image);
    }
    assert_eq!((image.stats().base_reads, image.stats().base_read_bytes), (1, UNIT));
}

#[test]
fn what_is_local_at_the_edges_of_a_unit_is_not_read() {
    let folder = Folder::new(false);
    let image = folder.open();
    for block in [16, 25] {
        block_on(image.write(Bytes::from(vec![9; BLOCK as usize]), block * BLOCK)).unwrap();
    }
    read(&image, 20 * BLOCK, BLOCK).unwrap();
    assert_eq!(image.stats().base_read_bytes, 8 * BLOCK, "blocks 17 to 24");
    store_all(&image);
    assert_eq!(read(&image, 16 * BLOCK, 1).unwrap(), [9]);
}

#[test]
fn waiting_copies_stay_within_the_limit_of_the_image() {
    let folder = Folder::new(false);
    let image = folder.open();
    let limit = image.header().max_outstanding_copy_on_read_data.cast_unsigned();
    for _ in 0..10 {
        assert_eq!(read(&image, 0, SIZE).unwrap(), expected(0, SIZE));
    }
    // No task stores copies meanwhile: readers leave copies until more than the limit wait.
    assert_eq!(image.stats().copied_on_read, 0);
    let left = image.outstanding_copies();
    assert!((limit..limit + SIZE + 1).contains(&left), "{left} bytes, limit {limit}");
}

#[test]
fn a_guest_write_to_a_copied_block_survives_without_a_close() {
    for compact in [false, true] {
        let folder = Folder::new(compact);
        let image = folder.open();
        read(&image, 0, 8 * BLOCK).unwrap();
        store_all(&image);
        assert_eq!(image.stats().copied_on_read, UNIT);
        let before = image.stats().base_reads;
        block_on(image.write(Bytes::from_static(&[9; 512]), 2 * BLOCK + 512)).unwrap();
        assert_eq!(image.stats().base_reads, before, "the block is local");
        block_on(image.flush()).unwrap();
        assert_eq!(image.stats().journal_sectors, 1);
        drop(image);
        let image = folder.open();
        let mut wanted = expected(2 * BLOCK, BLOCK);
        wanted[512..1024].fill(9);
        assert_eq!(read(&image, 2 * BLOCK, BLOCK).unwrap(), wanted);
        assert_eq!(
            image.stats().base_reads,
            0,
            "the write made its block durable, and no other"
        );
        read(&image, 0, BLOCK).unwrap();
        assert_eq!(image.stats().base_reads, 1);
    }
}

/// Runs the background half until no copy waits.
fn store_all(image: &Image<OpenedFile>) {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let mut background = pin!(copy_on_read(image));
    let state = background.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(state, Poll::Pending), "it waits for more");
    assert_eq!(image.outstanding_copies(), 0);
}

#[test]
fn a_changed_base_fails_reads_and_makes_nothing_local() {
    let folder = Folder::new(false);
    let base = File::options().write(true).open(folder.path("base")).unwrap();
    base.set_modified(std::time::UNIX_EPOCH).unwrap();
    let image = folder.open();
    assert_eq!(read(&image, 0, BLOCK).unwrap(), expected(0, BLOCK));
    base.write_all_at(&[0; 512], 10 * BLOCK).unwrap();
    let error = read(&image, 20 * BLOCK, BLOCK).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("has changed while it was in use"), "{error}");
    block_on(image.write(Bytes::from_static(&[1; 512]), 20 * BLOCK)).unwrap_err();
    block_on(image.close()).unwrap();
    drop(image);
    assert_eq!(
        block_on(folder.open().block_status(20 * BLOCK, BLOCK)).unwrap().depth,
        1
    );
}

#[test]
fn a_shortened_base_fails_reads_of_the_missing_part() {
    let folder = Folder::new(false);
    let image = folder.open();
    block_on(image.write(Bytes::from_static(&[7; 4096]), SIZE - BLOCK)).unwrap();
    block_on(image.close()).unwrap();
    drop(image);
    let base = File::options().write(true).open(folder.path("base")).unwrap();
    base.set_len(SIZE / 2).unwrap();
    let image = folder.open();
    assert_eq!(read(&image, SIZE - BLOCK, BLOCK).unwrap(), [7; 4096], "local");
    assert_eq!(read(&image, 0, SIZE / 2).unwrap(), expected(0, SIZE / 2));
    let error = read(&image, SIZE / 2, 512).unwrap_err();
    assert!(
        error.to_string().contains("has 524288 bytes, it had 1048576"),
        "{error}"
    );
}
