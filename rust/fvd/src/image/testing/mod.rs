//! For tests: images made by `create` and written through `Image`, and disks that record what is done.

pub(crate) mod disk;

use bytes::Bytes;
use pollster::block_on;

use crate::error::Result;
use crate::format::header::CLEAN_SHUTDOWN_OFFSET;
use crate::format::{Geometry, LayoutOptions};
use crate::image::check::{FindingKind, Repair, Report, check};
use crate::image::{CreateOptions, Image, OpenOptions, create, read_head};
use crate::source::{BaseSource, RawSource};
use crate::storage::{IoBufMut, MemoryStorage, Storage};

pub(crate) const CHUNK: u64 = 8192;
pub(crate) const CHUNKS: u64 = 40;

/// A compact image of [`CHUNKS`] chunks, and its data file if it has a separate one.
#[derive(Clone)]
pub(crate) struct Sample<S> {
    pub(crate) file: S,
    pub(crate) data: Option<S>,
}

/// The kind of a sample image.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "every mix is a sample")]
pub(crate) struct Kind {
    pub(crate) separate: bool,
    pub(crate) no_journal: bool,
    pub(crate) based: bool,
    pub(crate) unclean: bool,
}

pub(crate) fn options(kind: Kind) -> CreateOptions {
    CreateOptions {
        layout: LayoutOptions {
            virtual_size: CHUNKS * CHUNK,
            compact: true,
            chunk_size: Some(CHUNK),
            storage_grow_unit: Some(8 * CHUNK),
            journal_size: Some(if kind.no_journal { -1 } else { 8192 }),
            base_size: kind.based.then_some(30 * CHUNK),
            block_size: kind.based.then_some(12288),
            prefetch_profile_size: kind.based.then_some(4096),
        },
        base_img: if kind.based { "base" } else { "" }.into(),
        data_file: if kind.separate { "data" } else { "" }.into(),
        ..CreateOptions::default()
    }
}

fn base() -> Box<dyn BaseSource> {
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = (0..30 * CHUNK).map(|_| random.u8(..)).collect();
    let source = block_on(RawSource::new(MemoryStorage::from_bytes(&bytes)));
    Box::new(source.expect("memory"))
}

/// Opens the image as a user would.
pub(crate) fn open<S: Storage + Clone>(sample: &Sample<S>, writable: bool) -> Result<Image<S>> {
    block_on(async {
        let head = read_head(&sample.file).await?;
        let base = head.needs_base().then(base);
        let options = OpenOptions {
            writable,
            ..OpenOptions::default()
        };
        Image::open(sample.file.clone(), head, sample.data.clone(), base, options).await
    })
}

/// The content of the whole disk as the guest sees it.
pub(crate) fn content<S: Storage + Clone>(sample: &Sample<S>) -> Vec<u8> {
    let image = open(sample, false).expect("opens");
    let buf = IoBufMut::zeroed(image.size() as usize);
    let buf = block_on(image.read(buf, 0)).expect("reads");
    buf.as_slice().to_vec()
}

/// An image with ten chunks that were allocated out of order. Each one has different content.
pub(crate) fn sample(kind: Kind) -> Sample<MemoryStorage> {
    let sample = Sample {
        file: MemoryStorage::new(),
        data: kind.separate.then(MemoryStorage::new),
    };
    block_on(create(&sample.file, sample.data.as_ref(), &options(kind), None)).expect("created");
    let image = open(&sample, true).expect("opens");
    for chunk in [3, 4, 20, 0, 39, 11, 7, 8, 30, 25] {
        let bytes = Bytes::from(vec![chunk as u8 + 1; 5000]);
        block_on(image.write(bytes, chunk * CHUNK + 1024)).expect("written");
    }
    block_on(image.flush()).expect("flushed");
    if !kind.unclean {
        block_on(image.close()).expect("closed");
    }
    sample
}

impl<S: Storage + Clone> Sample<S> {
    pub(crate) fn geometry(&self) -> Geometry {
        block_on(read_head(&self.file)).expect("valid").geometry
    }

    pub(crate) fn data(&self) -> &S {
        self.data.as_ref().unwrap_or(&self.file)
    }

    pub(crate) fn entry(&self, chunk: u64) -> u32 {
        let table = self.geometry().table.expect("compact");
        let buf = block_on(self.file.read(IoBufMut::zeroed(4), table.offset + chunk * 4));
        u32::from_le_bytes(buf.expect("read").as_slice().try_into().expect("4 bytes"))
    }

    pub(crate) fn set_entry(&self, chunk: u64, number: u32) {
        let table = self.geometry().table.expect("compact");
        self.poke(table.offset + chunk * 4, &number.to_le_bytes());
    }

    pub(crate) fn poke(&self, offset: u64, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        block_on(self.file.write(bytes, offset)).expect("written");
    }

    pub(crate) fn set_clean(&self, clean: bool) {
        self.poke(CLEAN_SHUTDOWN_OFFSET, &i32::from(clean).to_le_bytes());
    }

    pub(crate) fn check(&self, repair: Repair) -> Result<Report> {
        block_on(check(&self.file, self.data.as_ref(), repair))
    }

    /// Sets the entry of a chunk to "not allocated", which leaks its storage chunk.
    pub(crate) fn leak(&self, chunk: u64) {
        self.set_entry(chunk, u32::MAX);
    }
}

pub(crate) fn assert_clean(report: &Report) {
    assert_eq!(
        (report.corruptions, report.leaks, report.check_errors),
        (0, 0, 0),
        "{:?}",
        report.findings
    );
}

pub(crate) fn kinds(report: &Report) -> Vec<(FindingKind, u64)> {
    report.counts.iter().map(|(kind, count)| (*kind, *count)).collect()
}
