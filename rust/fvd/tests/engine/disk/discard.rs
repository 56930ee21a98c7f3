//! Discard, and zeroing that frees space.

use bytes::Bytes;
use fvd::format::LayoutOptions;
use fvd::image::check::{Repair, Report, check};
use fvd::image::{CreateOptions, DetectZeroes, Discard, Image, OpenOptions, create, read_head};
use fvd::source::RawSource;
use fvd::storage::{IoBufMut, MemoryStorage, Storage};
use pollster::block_on;

const CHUNK: u64 = 64 << 10;
const BLOCK: u64 = 8192;
/// Chunks of the disk.
const CHUNKS: u64 = 16;

const WRITABLE: OpenOptions = OpenOptions {
    writable: true,
    cache: fvd::image::CacheMode::Writeback,
    copy_on_read: None,
    discard: Discard::Unmap,
    detect_zeroes: DetectZeroes::Off,
};

/// An image, with or without a base full of sevens.
struct Disk {
    file: MemoryStorage,
    base: Option<MemoryStorage>,
}

impl Disk {
    fn new(has_base: bool, compact: bool) -> Self {
        Self::over(if has_base { CHUNKS * CHUNK } else { 0 }, compact)
    }

    /// With a base of `base_size` bytes, or none for 0.
    fn over(base_size: u64, compact: bool) -> Self {
        let has_base = base_size > 0;
        let base = has_base.then(|| MemoryStorage::from_bytes(&vec![7; base_size as usize]));
        let options = CreateOptions {
            layout: LayoutOptions {
                virtual_size: CHUNKS * CHUNK,
                base_size: has_base.then_some(base_size),
                block_size: has_base.then_some(BLOCK),
                compact,
                chunk_size: Some(CHUNK),
                storage_grow_unit: Some(CHUNK),
                // So the data of a compact image begins on a page of `MemoryStorage`, which frees only whole
                // pages.
                journal_size: Some(13 * 4096),
                ..LayoutOptions::default()
            },
            base_img: if has_base { "base".into() } else { "".into() },
            ..CreateOptions::default()
        };
        let file = MemoryStorage::new();
        block_on(create(&file, None, &options, None)).expect("created");
        Self { file, base }
    }

    fn open(&self, options: OpenOptions) -> Image<MemoryStorage> {
        let head = block_on(read_head(&self.file)).expect("valid");
        let base = self
            .base
            .clone()
            .map(|base| block_on(RawSource::new(base)).expect("memory"));
        let base = base.map(|base| Box::new(base) as Box<dyn fvd::source::BaseSource>);
        block_on(Image::open(self.file.clone(), head, None, base, options)).expect("opens")
    }

    fn check(&self) -> Report {
        block_on(check(&self.file, None, Repair::None)).expect("can be checked")
    }

    fn len(&self) -> u64 {
        block_on(self.file.len()).expect("memory")
    }
}

fn write(image: &Image<MemoryStorage>, fill: u8, offset: u64, len: u64) {
    block_on(image.write(Bytes::from(vec![fill; len as usize]), offset)).expect("written");
}

fn read(image: &Image<MemoryStorage>, offset: u64, len: u64) -> Vec<u8> {
    let buf = block_on(image.read(IoBufMut::zeroed(len as usize), offset)).expect("read");
    buf.as_slice().to_vec()
}

/// Whether the chunk at `offset` has storage, according to the table on disk after a close.
fn is_mapped(image: &Image<MemoryStorage>, offset: u64) -> bool {
    block_on(image.close()).expect("closed");
    let table = image.geometry().table.expect("compact");
    let entry = block_on(
        image
            .file()
            .read(IoBufMut::zeroed(4), table.offset + offset / CHUNK * 4),
    );
    entry.expect("read").as_slice() != [0xFF; 4]
}

#[test]
fn a_discarded_chunk_reads_as_zeros_also_after_a_crash() {
    let disk = Disk::new(false, true);
    let image = disk.open(WRITABLE);
    write(&image, 1, 0, 3 * CHUNK);
    block_on(image.flush()).expect("flushed");
    block_on(image.discard(CHUNK, CHUNK)).expect("discarded");
    assert_eq!(read(&image, CHUNK, CHUNK), vec![0; CHUNK as usize]);
    assert!(!is_mapped(&image, CHUNK) && is_mapped(&image, 0));
    block_on(image.flush()).expect("flushed");
    drop(image);
    let image = disk.open(WRITABLE);
    assert!(!is_mapped(&image, CHUNK));
    assert_eq!(read(&image, 0, CHUNK), vec![1; CHUNK as usize]);
    assert_eq!(read(&image, 2 * CHUNK, CHUNK), vec![1; CHUNK as usize]);
    assert_eq!(image.stats().freed_chunks, 0, "another session");
}

#[test]
fn alternating_discards_and_writes_do_not_grow_the_file() {
    for flushes in [true, false] {
        let disk = Disk::new(false, true);
        let image = disk.open(WRITABLE);
        write(&image, 1, 0, 4 * CHUNK);
        let mut most = 0;
        for round in 0..100_u8 {
            let at = u64::from(round % 4) * CHUNK;
            block_on(image.discard(at, CHUNK)).expect("discarded");
            if flushes {
                block_on(image.flush()).expect("flushed");
            }
            write(&image, round, at + 100, CHUNK - 100);
            assert_eq!(read(&image, at, 100), [0; 100], "what was not written");
            most = most.max(disk.len());
        }
        let room = image.geometry().data_offset + 8 * CHUNK;
        assert!(most <= room, "{most} of {room}, flushes: {flushes}");
        block_on(image.close()).expect("closed");
        assert_eq!((disk.check().corruptions, disk.check().leaks), (0, 0));
    }
}

#[test]
fn the_next_session_reuses_discarded_space() {
    let disk = Disk::new(false, true);
    let image = disk.open(WRITABLE);
    write(&image, 1, 0, 8 * CHUNK);
    block_on(image.discard(CHUNK, 3 * CHUNK)).expect("discarded");
    block_on(image.close()).expect("closed");
    let report = disk.check();
    assert_eq!((report.corruptions, report.leaks, report.allocated_chunks), (0, 0, 5));
    let len = disk.len();
    let image = disk.open(WRITABLE);
    write(&image, 2, 8 * CHUNK + 512, 2 * CHUNK);
    block_on(image.close()).expect("closed");
    assert!(disk.len() <= len, "{} of {len}", disk.len());
    let image = disk.open(OpenOptions::default());
    assert_eq!(read(&image, 8 * CHUNK, 512), [0; 512]);
    assert_eq!(read(&image, 4 * CHUNK, CHUNK), vec![1; CHUNK as usize]);
    assert_eq!(disk.check().corruptions, 0);
}

#[test]
fn a_discard_zeroes_whole_blocks_of_the_base_only() {
    for compact in [true, false] {
        let disk = Disk::new(true, compact);
        let image = disk.open(WRITABLE);
        write(&image, 1, 4 * BLOCK, 512);
        block_on(image.discard(100, 3 * BLOCK)).expect("discarded");
        block_on(image.discard(4 * BLOCK - 1, 700)).expect("discarded");
        assert_eq!(image.stats().base_reads, 1, "only the write has read");
        assert_eq!(read(&image, 0, BLOCK), vec![7; BLOCK as usize]);
        assert_eq!(read(&image, BLOCK, 2 * BLOCK), vec![0; 2 * BLOCK as usize]);
        assert_eq!(read(&image, 3 * BLOCK, BLOCK), vec![7; BLOCK as usize]);
        assert_eq!(read(&image, 4 * BLOCK, 512), [0; 512], "a local block, in part");
        assert_eq!(read(&image, 4 * BLOCK + 512, 512), [7; 512]);
    }
}

#[test]
fn a_discard_across_the_end_of_the_base_zeroes_what_follows() {
    let disk = Disk::over(CHUNK - 1024, false);
    let image = disk.open(WRITABLE);
    write(&image, 1, CHUNK - 1024, 4096);
    block_on(image.discard(CHUNK - 2048, 5120)).expect("discarded");
    assert_eq!(
        read(&image, CHUNK - 2048, 1024),
        [7; 1024],
        "a part of a block of the base"
    );
    assert_eq!(read(&image, CHUNK - 1024, 4096), [0; 4096]);
}

#[test]
fn a_whole_disk_can_be_discarded() {
    for (has_base, compact) in [(true, true), (true, false), (false, true), (false, false)] {
        let disk = Disk::new(has_base, compact);
        let image = disk.open(WRITABLE);
        write(&image, 1, 1000, 5 * CHUNK);
        block_on(image.discard(0, CHUNKS * CHUNK)).expect("discarded");
        block_on(image.close()).expect("closed");
        let image = disk.open(OpenOptions::default());
        assert_eq!(read(&image, 0, CHUNKS * CHUNK), vec![0; (CHUNKS * CHUNK) as usize]);
        let report = disk.check();
        assert_eq!((report.corruptions, report.leaks, report.allocated_chunks), (0, 0, 0));
    }
}

#[test]
fn zeroing_frees_whole_chunks_unless_holes_are_forbidden() {
    let disk = Disk::new(false, true);
    let image = disk.open(WRITABLE);
    write(&image, 1, 0, 3 * CHUNK);
    block_on(image.write_zeroes_no_hole(0, CHUNK)).expect("zeroed");
    block_on(image.write_zeroes(CHUNK, CHUNK + 1)).expect("zeroed");
    let mapped = [0, 1, 2].map(|chunk| is_mapped(&image, chunk * CHUNK));
    assert_eq!(mapped, [true, false, true]);
    assert_eq!(read(&image, 0, 2 * CHUNK + 1), vec![0; 2 * CHUNK as usize + 1]);
    assert_eq!(image.stats().freed_chunks, 1);
}

#[test]
fn discards_can_be_ignored() {
    let disk = Disk::new(false, true);
    let options = OpenOptions {
        discard: Discard::Ignore,
        detect_zeroes: DetectZeroes::Unmap,
        ..WRITABLE
    };
    let image = disk.open(options);
    write(&image, 1, 0, 2 * CHUNK);
    block_on(image.discard(0, CHUNK)).expect("ignored");
    assert_eq!(read(&image, 0, CHUNK), vec![1; CHUNK as usize]);
    block_on(image.write_zeroes(0, CHUNK)).expect("zeroed");
    write(&image, 0, CHUNK, CHUNK);
    assert!(is_mapped(&image, 0) && is_mapped(&image, CHUNK), "the space stays");
    assert_eq!(read(&image, 0, 2 * CHUNK), vec![0; 2 * CHUNK as usize]);
    let error = block_on(image.discard(CHUNKS * CHUNK, 1)).expect_err("beyond the end");
    assert_eq!(error.kind(), fvd::ErrorKind::InvalidArgument);
}

#[test]
fn detected_writes_of_zeros_need_no_space() {
    let modes = [DetectZeroes::Off, DetectZeroes::On, DetectZeroes::Unmap];
    let mapped = modes.map(|detect_zeroes| {
        let disk = Disk::new(false, true);
        let image = disk.open(OpenOptions {
            detect_zeroes,
            ..WRITABLE
        });
        write(&image, 1, 0, CHUNK);
        write(&image, 0, 0, 2 * CHUNK);
        let mut almost = vec![0; CHUNK as usize];
        almost[CHUNK as usize - 1] = 1;
        block_on(image.write(Bytes::from(almost), 2 * CHUNK)).expect("written");
        assert_eq!(read(&image, 0, 3 * CHUNK - 1), vec![0; 3 * CHUNK as usize - 1]);
        let counted = image.stats().detected_zeroes;
        assert_eq!(counted, u64::from(detect_zeroes != DetectZeroes::Off));
        [0, 1, 2].map(|chunk| is_mapped(&image, chunk * CHUNK))
    });
    assert_eq!(mapped, [[true, true, true], [true, false, true], [false, false, true]]);
}

#[test]
fn a_read_only_image_refuses_discards() {
    let disk = Disk::new(false, true);
    let image = disk.open(OpenOptions::default());
    let error = block_on(image.discard(0, CHUNK)).expect_err("read-only");
    assert_eq!(error.kind(), fvd::ErrorKind::NotPermitted);
}

#[test]
fn a_full_device_has_room_after_a_discard() {
    let (file, device) = (MemoryStorage::new(), MemoryStorage::device(4 * CHUNK));
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: 4 * CHUNK,
            compact: true,
            chunk_size: Some(CHUNK),
            storage_grow_unit: Some(64 * CHUNK),
            ..LayoutOptions::default()
        },
        data_file: "device".into(),
        ..CreateOptions::default()
    };
    block_on(create(&file, Some(&device), &options, None)).expect("created");
    let head = block_on(read_head(&file)).expect("valid");
    let image = block_on(Image::open(file, head, Some(device), None, WRITABLE)).expect("opens");
    write(&image, 1, 0, 4 * CHUNK);
    block_on(image.discard(0, 2 * CHUNK)).expect("discarded");
    write(&image, 2, 100, 2 * CHUNK - 100);
    assert_eq!(read(&image, 0, 100), [0; 100]);
    assert_eq!(read(&image, 100, 2 * CHUNK - 100), vec![2; 2 * CHUNK as usize - 100]);
}

#[test]
fn the_next_session_has_room_on_a_nearly_emptied_device() {
    /// Chunks of the disk, of which one stays in use.
    const LARGE: u64 = 200;
    let (file, device) = (MemoryStorage::new(), MemoryStorage::device(LARGE * CHUNK));
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: LARGE * CHUNK,
            compact: true,
            chunk_size: Some(CHUNK),
            ..LayoutOptions::default()
        },
        data_file: "device".into(),
        ..CreateOptions::default()
    };
    block_on(create(&file, Some(&device), &options, None)).expect("created");
    let open = || {
        let head = block_on(read_head(&file)).expect("valid");
        block_on(Image::open(file.clone(), head, Some(device.clone()), None, WRITABLE)).expect("opens")
    };
    let image = open();
    write(&image, 1, 0, LARGE * CHUNK);
    block_on(image.discard(0, (LARGE - 1) * CHUNK)).expect("discarded");
    block_on(image.close()).expect("closed");
    let image = open();
    write(&image, 2, 0, (LARGE - 1) * CHUNK);
    assert_eq!(read(&image, (LARGE - 1) * CHUNK - 1, 2), [2, 1]);
}
