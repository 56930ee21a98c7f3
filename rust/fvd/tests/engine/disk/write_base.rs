//! Images that write to their base: compared with an array of bytes, and when the base gets which data.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use super::requests::{Request, request};
use bytes::Bytes;
use fvd::ErrorKind;
use fvd::copy::write_back_base;
use fvd::format::{BaseUpdate, LayoutOptions};
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, RawSource};
use fvd::storage::{IoBufMut, MemoryStorage, Storage};
use pollster::block_on;
use proptest::prelude::*;

const SIZE: u64 = 300 * 512;
const MODES: [BaseUpdate; 3] = [
    BaseUpdate::Writethrough,
    BaseUpdate::Writeback,
    BaseUpdate::Writenocache,
];

#[derive(Clone, Debug)]
struct Shape {
    updates: BaseUpdate,
    base_len: u64,
    /// The base is an image too.
    base_is_fvd: bool,
    block_size: u64,
    chunk_size: Option<u64>,
    separate: bool,
}

/// An image in memory and its base.
struct Subject {
    file: MemoryStorage,
    data: Option<MemoryStorage>,
    base: MemoryStorage,
    shape: Shape,
    model: Vec<u8>,
}

fn layout(size: u64, block_size: Option<u64>, chunk_size: Option<u64>) -> LayoutOptions {
    LayoutOptions {
        virtual_size: size,
        block_size,
        compact: chunk_size.is_some(),
        chunk_size,
        storage_grow_unit: chunk_size,
        journal_size: Some(4096),
        ..LayoutOptions::default()
    }
}

impl Subject {
    fn new(shape: &Shape) -> Self {
        let bytes: Vec<u8> = (0..shape.base_len).map(|i| (i * 7 + i / 251 + 1) as u8).collect();
        let base = base_disk(shape, &bytes);
        let base_size = shape.base_len.next_multiple_of(if shape.base_is_fvd { 512 } else { 1 });
        let options = CreateOptions {
            layout: LayoutOptions {
                base_size: Some(base_size),
                ..layout(SIZE, Some(shape.block_size), shape.chunk_size)
            },
            base_img: "base".into(),
            base_img_fmt: if shape.base_is_fvd { "fvd" } else { "raw" }.into(),
            data_file: if shape.separate { "data" } else { "" }.into(),
            write_updates_base_img: shape.updates,
            ..CreateOptions::default()
        };
        let (file, data) = (MemoryStorage::new(), shape.separate.then(MemoryStorage::new));
        block_on(create(&file, data.as_ref(), &options, None)).unwrap();
        let mut model = bytes;
        model.resize(SIZE as usize, 0);
        Self {
            file,
            data,
            base,
            shape: shape.clone(),
            model,
        }
    }

    fn open_base(&self, writable: bool) -> Box<dyn BaseSource> {
        let disk = self.base.clone();
        if !self.shape.base_is_fvd {
            return Box::new(if writable {
                block_on(RawSource::for_writing(disk)).unwrap()
            } else {
                block_on(RawSource::new(disk)).unwrap()
            });
        }
        let head = block_on(read_head(&disk)).unwrap();
        let options = OpenOptions {
            writable,
            ..OpenOptions::default()
        };
        Box::new(block_on(Image::open(disk, head, None, None, options)).unwrap())
    }

    fn open(&self, writable: bool) -> Image<MemoryStorage> {
        let head = block_on(read_head(&self.file)).unwrap();
        let options = OpenOptions {
            writable,
            ..OpenOptions::default()
        };
        let base = Some(self.open_base(writable));
        block_on(Image::open(self.file.clone(), head, self.data.clone(), base, options)).unwrap()
    }

    fn check(&self, image: &Image<MemoryStorage>, offset: u64, len: u64) {
        let buf = block_on(image.read(IoBufMut::zeroed(len as usize), offset)).unwrap();
        assert_eq!(buf.as_slice(), &self.model[offset as usize..(offset + len) as usize]);
    }

    fn base_content(&self) -> Vec<u8> {
        let base = self.open_base(false);
        let len = self.shape.base_len.next_multiple_of(512).min(SIZE);
        let buf = block_on(base.read(IoBufMut::zeroed(len as usize), 0)).unwrap();
        buf.as_slice().to_vec()
    }

    /// Checks that the base has the content of the image.
    fn check_base(&self) {
        let base = self.base_content();
        assert_eq!(base, self.model[..base.len()]);
    }

    fn write(&mut self, image: &Image<MemoryStorage>, offset: u64, len: u64, fill: u8) {
        let bytes: Vec<u8> = (0..len).map(|i| fill.wrapping_add(i as u8)).collect();
        self.model[offset as usize..(offset + len) as usize].copy_from_slice(&bytes);
        block_on(image.write(Bytes::from(bytes), offset)).unwrap();
    }
}

fn base_disk(shape: &Shape, bytes: &[u8]) -> MemoryStorage {
    if !shape.base_is_fvd {
        return MemoryStorage::from_bytes(bytes);
    }
    let file = MemoryStorage::new();
    let options = CreateOptions {
        layout: layout(bytes.len() as u64, None, Some(4096)),
        ..CreateOptions::default()
    };
    block_on(create(&file, None, &options, None)).unwrap();
    let head = block_on(read_head(&file)).unwrap();
    let writable = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    let image = block_on(Image::open(file.clone(), head, None, None, writable)).unwrap();
    block_on(image.write(Bytes::copy_from_slice(bytes), 0)).unwrap();
    block_on(image.close()).unwrap();
    file
}

/// Runs base writeback until it waits.
fn push(image: &Image<MemoryStorage>) {
    let pushing = pin!(write_back_base(image));
    assert!(pushing.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Actions besides requests: background work, and ends of the session.
#[derive(Clone, Debug)]
enum Own {
    Push,
    Reopen,
    /// Dropped without a close, after a flush.
    Kill,
}

fn own() -> impl Strategy<Value = Own> {
    prop::sample::select(vec![Own::Push, Own::Reopen, Own::Kill])
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        prop::sample::select(MODES.to_vec()),
        1..2 * SIZE,
        any::<bool>(),
        prop::sample::select(vec![512, 1024, 7680, 15872, 65536, 65024]),
        prop::option::of(prop::sample::select(vec![4096, 8192, 12288, 65536])),
        any::<bool>(),
    )
        .prop_map(
            |(updates, base_len, base_is_fvd, block_size, chunk_size, separate)| Shape {
                updates,
                base_len,
                base_is_fvd,
                block_size,
                chunk_size,
                separate,
            },
        )
}

fn run(shape: &Shape, requests: Vec<Request<Own>>) {
    let mut subject = Subject::new(shape);
    let mut image = subject.open(true);
    for request in requests {
        match request {
            Request::Write { offset, len, fill } => subject.write(&image, offset, len, fill),
            Request::Zero { offset, len } => {
                subject.model[offset as usize..(offset + len) as usize].fill(0);
                block_on(image.write_zeroes(offset, len)).unwrap();
            }
            Request::Read { offset, len } => subject.check(&image, offset, len),
            Request::Own(Own::Push) => push(&image),
            Request::Flush => {
                block_on(image.flush()).unwrap();
                subject.check_base();
            }
            Request::Own(Own::Reopen) => {
                block_on(image.close()).unwrap();
                subject.check_base();
                assert!(block_on(read_head(&subject.file)).unwrap().header.clean_shutdown);
                subject.check(&subject.open(false), 0, SIZE);
                image = subject.open(true);
            }
            Request::Own(Own::Kill) => {
                block_on(image.flush()).unwrap();
                drop(image);
                subject.check(&subject.open(false), 0, SIZE);
                image = subject.open(true);
            }
        }
    }
    subject.check(&image, 0, SIZE);
    block_on(image.close()).unwrap();
    subject.check_base();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn image_and_base_hold_what_was_written(shape in shape(), requests in prop::collection::vec(request(SIZE, 3, own()), 1..40)) {
        run(&shape, requests);
    }
}

fn plain(updates: BaseUpdate) -> Shape {
    Shape {
        updates,
        base_len: SIZE / 2,
        base_is_fvd: false,
        block_size: 4096,
        chunk_size: None,
        separate: false,
    }
}

#[test]
fn the_mode_decides_when_the_base_gets_a_write() {
    for updates in MODES {
        let mut subject = Subject::new(&plain(updates));
        let before = subject.base_content();
        let image = subject.open(true);
        subject.write(&image, 100, 1000, 1);
        if updates == BaseUpdate::Writeback {
            assert_eq!(subject.base_content(), before);
            assert_eq!(image.stats().base_writes, 0);
        } else {
            subject.check_base();
        }
        block_on(image.flush()).unwrap();
        subject.check_base();
        assert_eq!(image.stats().base_writes, 1, "{}", updates.name());
    }
}

#[test]
fn writeback_reaches_the_base_in_the_background() {
    let mut subject = Subject::new(&plain(BaseUpdate::Writeback));
    let image = subject.open(true);
    subject.write(&image, 100, 9000, 1);
    push(&image);
    subject.check_base();
}

#[test]
fn writenocache_makes_nothing_local_and_reads_no_base() {
    let mut subject = Subject::new(&Shape {
        chunk_size: Some(4096),
        ..plain(BaseUpdate::Writenocache)
    });
    let image = subject.open(true);
    subject.write(&image, 100, 9000, 1);
    block_on(image.write_zeroes(20_000, 30_000)).unwrap();
    subject.model[20_000..50_000].fill(0);
    subject.check_base();
    let stats = image.stats();
    assert_eq!((stats.base_reads, stats.filling_writes), (0, 0));
    assert_eq!((stats.base_writes, stats.base_written_bytes), (4, 39_000));
    assert_eq!(block_on(image.block_status(0, SIZE)).unwrap().depth, 1);
    // After the end of the base, the image has the data.
    subject.write(&image, SIZE - 512, 512, 2);
    assert_eq!(block_on(image.block_status(SIZE - 512, 512)).unwrap().depth, 0);
    subject.check(&image, 0, SIZE);
}

#[test]
fn after_a_crash_the_image_overwrites_the_base() {
    for updates in [BaseUpdate::Writethrough, BaseUpdate::Writeback] {
        let mut subject = Subject::new(&plain(updates));
        let image = subject.open(true);
        subject.write(&image, 0, 5000, 1);
        block_on(image.flush()).unwrap();
        drop(image);
        // What a power cut may leave in the base, if there had been another write.
        block_on(subject.base.write(Bytes::from_static(&[9; 512]), 512)).unwrap();
        subject.check(&subject.open(false), 0, SIZE);
        let image = subject.open(true);
        subject.check(&image, 0, SIZE);
        block_on(image.close()).unwrap();
        subject.check_base();
        // Without a write there are no dirty ranges.
        let image = subject.open(true);
        block_on(image.close()).unwrap();
        assert_eq!(image.stats().base_writes, 0);
    }
}

#[test]
fn a_read_only_base_is_refused_at_open_without_a_write() {
    let subject = Subject::new(&plain(BaseUpdate::Writethrough));
    let before = subject.file.to_vec();
    let head = block_on(read_head(&subject.file)).unwrap();
    let options = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    let base = Some(subject.open_base(false));
    let opened = block_on(Image::open(subject.file.clone(), head, None, base, options));
    let error = opened.err().expect("it cannot be written to");
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    assert_eq!(subject.file.to_vec(), before);
}
