//! An image compared with an array of bytes: random requests, and reopens between them.

use super::requests::{Request, request};
use bytes::Bytes;
use fvd::format::LayoutOptions;
use fvd::image::{CacheMode, CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, RawSource};
use fvd::storage::{IoBufMut, MemoryStorage};
use pollster::block_on;
use proptest::prelude::*;

const SIZE: u64 = 300 * 512;

/// How the session ends.
#[derive(Clone, Debug)]
enum Session {
    /// Closed, then opened read-only, then opened with another cache mode.
    Reopen { writethrough: bool },
    /// Dropped without a close after a flush: no data may be lost.
    Kill { writethrough: bool },
}

#[derive(Clone, Debug)]
struct Shape {
    base_len: Option<u64>,
    block_size: u64,
    chunk_size: Option<u64>,
    journal_size: i64,
    separate: bool,
}

fn session() -> impl Strategy<Value = Session> {
    prop_oneof![
        any::<bool>().prop_map(|writethrough| Session::Reopen { writethrough }),
        any::<bool>().prop_map(|writethrough| Session::Kill { writethrough }),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        prop_oneof![Just(None), (1..2 * SIZE).prop_map(Some)],
        prop::sample::select(vec![512, 1024, 7680, 15872, 65536, 65024]),
        prop::option::of(prop::sample::select(vec![4096, 8192, 12288, 65536])),
        prop::sample::select(vec![-1, 4096, 65536]),
        any::<bool>(),
    )
        .prop_map(|(base_len, block_size, chunk_size, journal_size, separate)| Shape {
            base_len,
            block_size,
            chunk_size,
            journal_size,
            separate,
        })
}

/// An image in memory, and its expected content.
struct Subject {
    file: MemoryStorage,
    data: Option<MemoryStorage>,
    base: Vec<u8>,
    model: Vec<u8>,
}

impl Subject {
    fn new(shape: &Shape) -> Self {
        let base: Vec<u8> = (0..shape.base_len.unwrap_or(0))
            .map(|i| (i * 7 + i / 251 + 1) as u8)
            .collect();
        let options = CreateOptions {
            layout: LayoutOptions {
                virtual_size: SIZE,
                base_size: shape.base_len,
                block_size: shape.base_len.map(|_| shape.block_size),
                compact: shape.chunk_size.is_some(),
                chunk_size: shape.chunk_size,
                storage_grow_unit: shape.chunk_size,
                journal_size: Some(shape.journal_size),
                prefetch_profile_size: None,
            },
            base_img: if shape.base_len.is_some() { "base" } else { "" }.into(),
            data_file: if shape.separate { "data" } else { "" }.into(),
            ..CreateOptions::default()
        };
        let (file, data) = (MemoryStorage::new(), shape.separate.then(MemoryStorage::new));
        block_on(create(&file, data.as_ref(), &options, None)).expect("the options are sound");
        let mut model = base.clone();
        model.resize(SIZE as usize, 0);
        Self {
            file,
            data,
            base,
            model,
        }
    }

    fn open(&self, writable: bool, writethrough: bool) -> Image<MemoryStorage> {
        let head = block_on(read_head(&self.file)).expect("the header is sound");
        let base: Option<Box<dyn BaseSource>> = head.needs_base().then(|| {
            let base = RawSource::new(MemoryStorage::from_bytes(&self.base));
            Box::new(block_on(base).expect("memory does not fail")) as _
        });
        let cache = if writethrough {
            CacheMode::Writethrough
        } else {
            CacheMode::Writeback
        };
        let options = OpenOptions {
            writable,
            cache,
            ..OpenOptions::default()
        };
        block_on(Image::open(self.file.clone(), head, self.data.clone(), base, options)).expect("opens")
    }

    fn check(&self, image: &Image<MemoryStorage>, offset: u64, len: u64) {
        let buf = block_on(image.read(IoBufMut::zeroed(len as usize), offset)).expect("reads");
        assert_eq!(buf.as_slice(), &self.model[offset as usize..(offset + len) as usize]);
    }

    /// Checks what readers see, even if only the journal has it.
    fn check_readers(&self) {
        self.check(&self.open(false, false), 0, SIZE);
    }
}

fn run(shape: &Shape, requests: Vec<Request<Session>>) {
    let mut subject = Subject::new(shape);
    let mut image = subject.open(true, false);
    for request in requests {
        match request {
            Request::Write { offset, len, fill } => {
                let bytes: Vec<u8> = (0..len).map(|i| fill.wrapping_add(i as u8)).collect();
                subject.model[offset as usize..(offset + len) as usize].copy_from_slice(&bytes);
                block_on(image.write(Bytes::from(bytes), offset)).expect("writes");
            }
            Request::Zero { offset, len } => {
                subject.model[offset as usize..(offset + len) as usize].fill(0);
                block_on(image.write_zeroes(offset, len)).expect("writes zeroes");
            }
            Request::Read { offset, len } => subject.check(&image, offset, len),
            Request::Flush => block_on(image.flush()).expect("flushes"),
            Request::Own(Session::Reopen { writethrough }) => {
                block_on(image.close()).expect("closes");
                subject.check_readers();
                image = subject.open(true, writethrough);
            }
            Request::Own(Session::Kill { writethrough }) => {
                block_on(image.flush()).expect("flushes");
                drop(image);
                subject.check_readers();
                image = subject.open(true, writethrough);
            }
        }
    }
    subject.check(&image, 0, SIZE);
    block_on(image.close()).expect("closes");
    subject.check_readers();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_image_reads_as_what_was_written_to_it(shape in shape(), requests in prop::collection::vec(request(SIZE, 2, session()), 1..40)) {
        run(&shape, requests);
    }
}
