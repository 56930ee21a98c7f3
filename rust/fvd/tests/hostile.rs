//! Images that claim far more than they contain: every operation ends at once and costs little memory.
//!
//! The files are real and sparse. The tests measure the processor time and the memory of this process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fvd::chain::{ChainOptions, OpenedFile, open_file, open_image, open_source};
use fvd::format::{BitmapRecord, Block, Entry, Header, Layout, LayoutOptions, StorageChunk, TableRecord, journal};
use fvd::image::check::{FindingKind, Repair, Report};
use fvd::image::dump::{BitmapRuns, JournalSectors, TableRuns};
use fvd::image::{Image, read_head};
use fvd::storage::{FileStorage, IoBufMut, Storage as _};
use fvd::tool::map::map;
use fvd::{ErrorKind, Result, tool};
use pollster::block_on;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Held by each test, because they measure the process: they must not run concurrently.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs `work`. It may take a second of processor time, and 64 MiB of memory more than before.
fn frugally<T>(work: impl FnOnce() -> T) -> T {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    let before = (status("VmRSS:"), processor_ns());
    let answer = work();
    let memory = status("VmHWM:").saturating_sub(before.0) >> 10;
    let time = (processor_ns() - before.1) / 1_000_000;
    assert!(memory <= 64, "it took {memory} MiB");
    assert!(time <= 1000, "it took {time} ms");
    answer
}

/// A line of /proc/self/status, in KiB.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect("it is there").parse().expect("a number")
}

/// Processor time of this thread, in nanoseconds.
fn processor_ns() -> u64 {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let number = statistics.split_whitespace().next();
    number.expect("three numbers").parse().expect("a number")
}

/// A change of a header.
type Change = fn(&mut Header);

/// An image file, in a folder with the files that it names.
struct Subject {
    folder: TempDir,
    path: PathBuf,
    header: Header,
}

impl Subject {
    /// A new image. `change` may change its header. Its file is as long as its metadata says, and contains
    /// only the header.
    fn new(layout: &LayoutOptions, change: impl FnOnce(&mut Header)) -> Self {
        let folder = tempfile::tempdir().expect("a place for files");
        let path = folder.path().join("image.fvd");
        let mut header = Layout::compute(layout).expect("valid").header();
        if layout.base_size.is_some() {
            header.base_img = "base.raw".into();
            header.base_img_fmt.push_str("raw");
            let base = File::create(folder.path().join("base.raw")).expect("a file");
            base.set_len(4 * GIB).expect("a hole");
            base.write_all_at(&[7; 4096], 0).expect("some data");
        }
        change(&mut header);
        let file = File::create(&path).expect("a file");
        file.set_len(header.metadata_size).expect("a hole");
        file.write_all_at(&header.encode().expect("valid"), 0)
            .expect("a header");
        Self { folder, path, header }
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.path).expect("it is there");
        file.write_all_at(bytes, offset).expect("room");
    }

    fn open(&self, writable: bool) -> Result<Image<OpenedFile>> {
        let options = ChainOptions {
            writable,
            ..ChainOptions::default()
        };
        block_on(open_image(&self.path, &options))
    }

    fn check(&self, repair: Repair) -> Result<Report> {
        block_on(tool::check(&self.path, None, repair, false, &ChainOptions::default()))
    }

    /// How many extents the disk has, from `start`.
    fn extents(&self, start: u64, len: Option<u64>) -> u64 {
        let source = block_on(open_source(&self.path, None, &ChainOptions::default())).expect("opens");
        let mut count = 0;
        block_on(map(&*source, start, len, |_| count += 1)).expect("can be read");
        count
    }

    /// Reads, writes and reads again 8 KiB at `offset`.
    fn use_at(&self, offset: u64) {
        let image = self.open(true).expect("opens");
        read(&image, offset).expect("can be read");
        block_on(image.write(Bytes::from_static(&[9; 8192]), offset)).expect("can be written");
        assert_eq!(read(&image, offset).expect("can be read"), [9; 8192]);
        block_on(image.flush()).expect("can be flushed");
        block_on(image.close()).expect("can be closed");
    }
}

fn read(image: &Image<OpenedFile>, offset: u64) -> Result<Vec<u8>> {
    let buf = block_on(image.read(IoBufMut::zeroed(8192), offset))?;
    Ok(buf.as_slice().to_vec())
}

/// Runs in the table, runs in the bitmap, and sectors in the journal.
fn dump(path: &Path) -> (usize, usize, usize) {
    let file = open_file(path, &ChainOptions::default()).expect("opens");
    let head = block_on(read_head(&file)).expect("valid");
    let mut counts = (0, 0, 0);
    let mut table = TableRuns::new(&file, &head, 0);
    while block_on(table.next()).expect("can be read").is_some() {
        counts.0 += 1;
    }
    let mut bitmap = BitmapRuns::new(&file, &head, Block::FIRST);
    while block_on(bitmap.next()).expect("can be read").is_some() {
        counts.1 += 1;
    }
    let mut journal = JournalSectors::new(&file, &head);
    while block_on(journal.next()).expect("can be read").is_some() {
        counts.2 += 1;
    }
    counts
}

fn virtual_size_of(path: &Path) -> u64 {
    block_on(tool::info(path, None, false, &ChainOptions::default())).expect("valid")[0]
        .virtual_size
        .expect("of a format that is read")
}

#[test]
fn a_disk_of_four_exbibytes_in_a_small_file_can_be_used() {
    let image = Subject::new(&LayoutOptions::default(), |header| header.virtual_disk_size = 1 << 62);
    frugally(|| {
        assert_eq!(virtual_size_of(&image.path), 1 << 62);
        assert_eq!(dump(&image.path), (0, 0, 0));
        assert_eq!(image.check(Repair::All).expect("can be checked").corruptions, 0);
        assert_eq!(image.extents(0, None), 1);
        let open = image.open(true).expect("opens");
        assert_eq!(read(&open, (1 << 62) - 8192).expect("a hole"), [0; 8192]);
        // Larger than any file here: the front can be used, and a write at the end gives an error.
        block_on(open.write(Bytes::from_static(b"x"), 0)).expect("there is room");
        let error = block_on(open.write(Bytes::from_static(b"x"), (1 << 62) - 1)).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.reason().contains("File too large"), "{error}");
        block_on(open.write_zeroes(0, 1 << 62)).expect("it is zeros already");
        block_on(open.discard(0, 1 << 62)).expect("discards");
        block_on(open.close()).expect("nothing to do");
    });
}

#[test]
fn a_compact_disk_of_four_exbibytes_can_be_used() {
    let layout = LayoutOptions {
        virtual_size: 1 << 62,
        compact: true,
        chunk_size: Some(TIB),
        storage_grow_unit: Some(1 << 61),
        ..LayoutOptions::default()
    };
    let image = Subject::new(&layout, |_| {});
    let entries = vec![0xFF; (image.header.journal_offset - image.header.table_offset) as usize];
    image.put(image.header.table_offset, &entries);
    frugally(|| {
        image.use_at(1 << 61);
        assert_eq!(image.check(Repair::All).expect("can be checked").corruptions, 0);
        assert_eq!(dump(&image.path), (1, 0, 1));
        assert!(image.extents(0, None) <= 5);
        let open = image.open(true).expect("opens");
        block_on(open.write_zeroes(0, 1 << 62)).expect("zeroes");
        block_on(open.discard(0, 1 << 62)).expect("discards");
        block_on(open.close()).expect("closes");
    });
}

#[test]
fn terabytes_of_holes_are_no_image() {
    let folder = tempfile::tempdir().expect("a place for files");
    let path = folder.path().join("image.fvd");
    File::create(&path).expect("a file").set_len(15 * TIB).expect("a hole");
    frugally(|| {
        let error = block_on(open_image(&path, &ChainOptions::default()))
            .err()
            .expect("no image");
        assert!(error.to_string().contains("magic is 0x00000000"), "{error}");
        assert_eq!(virtual_size_of(&path), 15 * TIB);
    });
}

#[test]
fn an_image_followed_by_terabytes_of_holes_can_be_used() {
    let layout = LayoutOptions {
        virtual_size: GIB,
        compact: true,
        ..LayoutOptions::default()
    };
    let image = Subject::new(&layout, |_| {});
    image.put(image.header.table_offset, &[0xFF; 4096]);
    File::options()
        .write(true)
        .open(&image.path)
        .expect("there")
        .set_len(15 * TIB)
        .expect("a hole");
    frugally(|| {
        image.use_at(MIB);
        assert_eq!(image.check(Repair::Leaks).expect("can be checked").corruptions, 0);
    });
    let len = fs::metadata(&image.path).expect("there").len();
    assert!(len < GIB, "{len}");
}

fn overlay_with_a_bitmap_of_60_gib() -> Subject {
    let layout = LayoutOptions {
        virtual_size: 60 * GIB * 8 * 512,
        base_size: Some(u64::MAX),
        block_size: Some(512),
        ..LayoutOptions::default()
    };
    Subject::new(&layout, |header| assert_eq!(header.bitmap_size, 60 * GIB))
}

#[test]
fn a_bitmap_of_60_gib_that_is_a_hole_costs_nothing() {
    let image = overlay_with_a_bitmap_of_60_gib();
    frugally(|| {
        let report = image.check(Repair::None).expect("can be checked");
        assert_eq!((report.corruptions, report.local_blocks), (0, 0));
        assert_eq!(dump(&image.path), (0, 0, 0));
    });
    // 24 MiB of the memory are for the pointers to parts of the bitmap.
    frugally(|| {
        // Its base has become shorter: the missing part must not read as zeros.
        let source = block_on(open_source(&image.path, None, &ChainOptions::default())).expect("opens");
        let error = block_on(map(&*source, 0, None, |_| ())).expect_err("the base is too short");
        assert!(error.reason().contains("cannot be read"), "{error}");
    });
    frugally(|| {
        // The disk is larger than a file can be, but its front can be used.
        let open = image.open(true).expect("opens");
        assert_eq!(read(&open, 0).expect("can be read")[..4096], [7; 4096]);
        block_on(open.write(Bytes::from_static(&[1; 512]), 0)).expect("there is room");
        let last = open.size() - 512;
        let error = block_on(open.write(Bytes::from_static(&[1; 512]), last)).expect_err("too large");
        assert!(error.reason().contains("File too large"), "{error}");
    });
}

#[test]
fn a_journal_that_would_fill_gigabytes_of_bitmap_is_refused() {
    let image = overlay_with_a_bitmap_of_60_gib();
    let header = Header {
        clean_shutdown: false,
        ..image.header.clone()
    };
    image.put(0, &header.encode().expect("valid"));
    for sector in 0..8_u64 {
        let record = BitmapRecord {
            first_sector: sector << 32,
            sectors: u32::MAX,
        };
        let bytes = journal::encode_sector(None, Some(&record));
        image.put(image.header.journal_offset + sector * 512, &bytes);
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
    let error = image.open(false).err().expect("too much");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("The journal changes more metadata than"),
        "{error}"
    );
    // One record is within the limit.
    assert!(status("VmHWM:") < 700 << 10);
}

#[test]
fn a_small_write_to_a_huge_block_copies_only_its_data() {
    let layout = LayoutOptions {
        virtual_size: 4 * GIB,
        base_size: Some(4 * GIB),
        block_size: Some((1 << 31) - 512),
        ..LayoutOptions::default()
    };
    for compact in [false, true] {
        let image = Subject::new(&LayoutOptions { compact, ..layout }, |_| {});
        if compact {
            let size = image.header.journal_offset - image.header.table_offset;
            image.put(image.header.table_offset, &vec![0xFF; size as usize]);
        }
        frugally(|| image.use_at(GIB));
        let open = image.open(false).expect("opens");
        let first = read(&open, 0).expect("can be read");
        assert_eq!((&first[..4096], &first[4096..]), (&[7; 4096][..], &[0; 4096][..]));
        let file = open.file();
        assert!(file.allocated_bytes().expect("a file").expect("a local one") < 32 * MIB);
    }
}

#[test]
fn a_giant_sparse_journal_is_replayed_at_once() {
    let layout = LayoutOptions {
        virtual_size: GIB,
        compact: true,
        journal_size: Some(8 << 40),
        ..LayoutOptions::default()
    };
    let image = Subject::new(&layout, |header| header.clean_shutdown = false);
    image.put(image.header.table_offset, &[0xFF; 4096]);
    let record = TableRecord {
        first: 5,
        entries: vec![Entry::allocated(StorageChunk::FIRST)],
    };
    let last = image.header.journal_offset + image.header.journal_size - 512;
    image.put(last, &journal::encode_sector(Some(&record), None));
    image.put(image.header.metadata_size, &[3; 8192]);
    frugally(|| {
        let open = image.open(false).expect("opens");
        assert_eq!(read(&open, 5 * MIB).expect("can be read"), [3; 8192]);
        assert_eq!(dump(&image.path), (0, 0, 1));
        drop(open);
        assert!(image.check(Repair::None).expect("can be checked").needs_recovery);
        image.use_at(7 * MIB);
        assert_eq!(image.check(Repair::All).expect("can be checked").corruptions, 0);
    });
}

/// Every entry except the first two names the first storage chunk.
#[test]
fn a_table_that_is_one_hole_is_refused_at_lookup() {
    let layout = LayoutOptions {
        virtual_size: 4 * TIB,
        compact: true,
        chunk_size: Some(4096),
        ..LayoutOptions::default()
    };
    let image = Subject::new(&layout, |_| {});
    assert_eq!(image.header.journal_offset - image.header.table_offset, 4 * GIB);
    image.put(image.header.table_offset, &[0xFF; 8]);
    image.put(image.header.metadata_size, &[3; 4096]);
    frugally(|| {
        let open = image.open(false).expect("opens");
        let error = read(&open, TIB).expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::InvalidImage);
        drop(open);
        assert_eq!(dump(&image.path), (1, 0, 0));
        let report = image.check(Repair::None).expect("can be checked");
        assert_eq!(report.counts[&FindingKind::Lost], (1 << 30) - 2);
    });
}

#[test]
fn a_journal_entry_with_an_impossible_chunk_is_ignored() {
    let layout = LayoutOptions {
        virtual_size: GIB,
        compact: true,
        chunk_size: Some(4096),
        ..LayoutOptions::default()
    };
    let image = Subject::new(&layout, |header| header.clean_shutdown = false);
    image.put(image.header.table_offset, &vec![0xFF; 1 << 20]);
    let record = TableRecord {
        first: 1,
        entries: vec![Entry::from_disk(0x7FFF_FFFF)],
    };
    image.put(
        image.header.journal_offset,
        &journal::encode_sector(Some(&record), None),
    );
    for writable in [false, true] {
        let open = image.open(writable).expect("opens");
        assert_eq!(read(&open, 4096).expect("nothing is there"), [0; 8192]);
    }
    assert_eq!(image.check(Repair::All).expect("can be checked").corruptions, 0);
}

#[test]
fn impossible_sizes_are_refused_by_the_name_of_the_field() {
    let layout = LayoutOptions {
        virtual_size: GIB,
        base_size: Some(GIB),
        compact: true,
        ..LayoutOptions::default()
    };
    let cases: [(&str, Change); 8] = [
        ("bitmap_offset", |header| header.bitmap_size = 1 << 40),
        ("bitmap_size", |header| header.bitmap_size = i64::MAX as u64 - 4095),
        ("the journal ends at", |header| header.journal_size = 1 << 30),
        ("metadata_size", |header| header.journal_offset = 1 << 40),
        ("table_offset", |header| header.chunk_size = 4096),
        ("virtual_disk_size", |header| header.virtual_disk_size = 1 << 62),
        ("metadata_size", |header| header.metadata_size = 4096),
        ("block_size", |header| header.block_size = 511),
    ];
    for (name, change) in cases {
        let image = Subject::new(&layout, |_| {});
        let mut header = image.header.clone();
        change(&mut header);
        if name == "the journal ends at" {
            header.metadata_size += 1 << 30;
        }
        image.put(0, &header.encode().expect("fits its fields"));
        frugally(|| {
            let error = image.open(true).err().expect("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidImage, "{error}");
            assert!(error.to_string().contains(name), "{name}: {error}");
            let info = block_on(tool::info(&image.path, None, true, &ChainOptions::default()));
            assert_eq!(info.expect_err("refused").to_string(), error.to_string());
            let check = image.check(Repair::All).expect_err("refused");
            assert_eq!(check.to_string(), error.to_string());
        });
        drop(image.folder);
    }
}

#[test]
fn reads_far_beyond_the_end_of_a_file_give_zeros() {
    let folder = tempfile::tempdir().expect("a place for files");
    let file = FileStorage::create(folder.path().join("file"), false).expect("a file");
    for offset in [1 << 40, i64::MAX as u64 - 100, u64::MAX - 10] {
        let buf = frugally(|| block_on(file.read(IoBufMut::zeroed(4096), offset)));
        assert_eq!(buf.expect("zeros").as_slice(), [0; 4096]);
    }
}
