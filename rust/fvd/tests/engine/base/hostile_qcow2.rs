//! qcow2 images with false claims. None of them takes long, or much memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use fvd::chain::ChainOptions;
use fvd::source::{BaseSource, Content, Qcow2Options, Qcow2Source};
use fvd::storage::IoBufMut;
use fvd::tool::map::map;
use fvd::{ErrorKind, Result};
use pollster::block_on;
use tempfile::{TempDir, tempdir};

const CLUSTER: u64 = 65536;
/// Bytes of the disk that one L2 table covers.
const SPAN: u64 = CLUSTER * CLUSTER / 8;

/// A hand-made image of version 3.
struct Image {
    folder: TempDir,
    bytes: Vec<u8>,
    /// Length of the file, which is sparse after `bytes`.
    len: u64,
}

impl Image {
    /// A disk of `size` bytes. Its L1 table with `l1_entries` entries begins at the second cluster.
    fn new(size: u64, l1_entries: u32) -> Self {
        let mut image = Self {
            folder: tempdir().unwrap(),
            bytes: vec![0; CLUSTER as usize],
            len: CLUSTER * 2 + u64::from(l1_entries) * 8,
        };
        image.put32(0, 0x5146_49fb).put32(4, 3).put32(20, 16).put64(24, size);
        image.put32(36, l1_entries).put64(40, CLUSTER);
        image.put32(96, 4).put32(100, 104);
        image
    }

    fn put32(&mut self, at: usize, value: u32) -> &mut Self {
        self.put(at, &value.to_be_bytes())
    }

    fn put64(&mut self, at: usize, value: u64) -> &mut Self {
        self.put(at, &value.to_be_bytes())
    }

    fn put(&mut self, at: usize, value: &[u8]) -> &mut Self {
        let end = at + value.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(value);
        self
    }

    fn path(&self) -> PathBuf {
        let path = self.folder.path().join("image");
        std::fs::write(&path, &self.bytes).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(self.len).unwrap();
        path
    }

    fn open(&self) -> Result<Qcow2Source> {
        Qcow2Source::open(self.path(), &Qcow2Options::default())
    }

    fn refused(&self, kind: ErrorKind, words: &[&str]) {
        let Err(error) = self.open() else {
            panic!("it is opened, in spite of {words:?}");
        };
        assert_eq!(error.kind(), kind, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error} lacks '{word}'");
        }
    }
}

fn read(source: &Qcow2Source, offset: u64, len: usize) -> Result<Vec<u8>> {
    block_on(source.read(IoBufMut::zeroed(len), offset)).map(|buf| buf.as_slice().to_vec())
}

#[test]
fn a_disk_larger_than_its_l1_table_is_refused() {
    for size in [1 << 62, 1 << 40, SPAN + 1] {
        Image::new(size, 1).refused(ErrorKind::InvalidImage, &["L1 table is too small"]);
    }
    Image::new(SPAN, 1).open().unwrap();
    Image::new(u64::MAX, 1).refused(ErrorKind::InvalidImage, &["more than a disk can have"]);
    Image::new(SPAN, u32::MAX).refused(ErrorKind::InvalidImage, &["more than QEMU permits"]);
}

#[test]
fn an_l1_table_beyond_the_end_of_the_file_is_refused() {
    let mut image = Image::new(SPAN * 1000, 1000);
    image.len = CLUSTER + 7999;
    image.refused(ErrorKind::InvalidImage, &["cut short"]);
    image.len = CLUSTER + 8000;
    image.open().unwrap();
    image.put64(40, u64::MAX / CLUSTER * CLUSTER);
    image.refused(ErrorKind::InvalidImage, &["cut short"]);
    image.put64(40, CLUSTER + 512);
    image.refused(ErrorKind::InvalidImage, &["not the start of a cluster"]);
}

#[test]
fn a_walk_over_a_huge_empty_disk_is_short() {
    // 2 PiB, the limit of QEMU. The file takes only a few blocks.
    let entries = 4 << 20;
    let source = Image::new(SPAN * u64::from(entries), entries).open().unwrap();
    let (mut at, mut steps) = (0, 0);
    while at < source.len() {
        let run = block_on(source.status(at, source.len() - at)).unwrap();
        assert_eq!((run.content, run.present), (Content::Zero, false));
        (at, steps) = (at + run.len, steps + 1);
    }
    assert!(steps <= entries / 2048, "{steps}");
    let mut found = Vec::new();
    block_on(map(&source, 0, None, |entry| found.push(entry.length))).unwrap();
    assert_eq!(found, [source.len()]);
}

#[test]
fn l1_entries_that_share_an_l2_table_are_refused() {
    let mut image = Image::new(SPAN * 3, 3);
    let l1 = CLUSTER as usize;
    image.put64(l1, CLUSTER * 2).put64(l1 + 16, CLUSTER * 3);
    image.len = CLUSTER * 4;
    image.open().unwrap();
    image.put64(l1 + 8, CLUSTER * 2);
    image.refused(ErrorKind::InvalidImage, &["in use twice"]);
}

#[test]
fn overlapping_tables_are_read_according_to_their_use() {
    // The L1 table with one entry is also an L2 table with many entries.
    let mut image = Image::new(SPAN, 1);
    image.put64(CLUSTER as usize, CLUSTER | 1 << 63);
    let source = image.open().unwrap();
    assert_eq!(read(&source, CLUSTER * 5, 512).unwrap(), [0; 512]);
    let run = block_on(source.status(CLUSTER * 5, SPAN - CLUSTER * 5)).unwrap();
    assert_eq!((run.content, run.present), (Content::Zero, false));
    assert_eq!(
        read(&source, 8, 8).unwrap(),
        [0; 8],
        "the table is the first cluster, too"
    );
}

#[test]
fn tables_beyond_the_end_are_errors_and_no_zeros() {
    let mut image = Image::new(SPAN * 2, 2);
    image.put64(CLUSTER as usize, CLUSTER * 100);
    let source = image.open().unwrap();
    let error = read(&source, 5, 100).unwrap_err();
    assert!(error.to_string().contains("beyond the end of the file"), "{error}");
    block_on(source.status(0, SPAN)).unwrap_err();
    assert_eq!(read(&source, SPAN, 512).unwrap(), [0; 512]);
    image.put64(CLUSTER as usize, CLUSTER + 512);
    let error = read(&image.open().unwrap(), 0, 1).unwrap_err();
    assert!(error.to_string().contains("not aligned"), "{error}");
}

#[test]
fn invalid_entries_are_errors_where_they_are_read() {
    let l2 = CLUSTER as usize * 2;
    let with_entry = |version: u32, entry: u64| {
        let mut image = Image::new(SPAN, 1);
        image
            .put64(CLUSTER as usize, CLUSTER * 2)
            .put64(l2 + 8, entry)
            .put32(4, version);
        image.len = CLUSTER * 4;
        image.put(CLUSTER as usize * 3, &[7; 100]);
        image.open().unwrap()
    };
    let good = with_entry(3, CLUSTER * 3);
    assert_eq!(read(&good, CLUSTER, 200).unwrap(), [[7; 100], [0; 100]].concat());
    // Not at the start of a cluster; marked as zeros in version 2; compressed data that is invalid.
    for (version, entry) in [
        (3, CLUSTER * 3 + 512),
        (2, CLUSTER * 3 + 1),
        (3, 1 << 62 | (CLUSTER * 3)),
    ] {
        let source = with_entry(version, entry);
        read(&source, CLUSTER, 200).unwrap_err();
        assert_eq!(read(&source, 0, 512).unwrap(), [0; 512], "its neighbours are read");
    }
    // Allocated but not written before a power cut: QEMU sees zeros.
    assert_eq!(read(&with_entry(3, CLUSTER << 20), CLUSTER, 16).unwrap(), [0; 16]);
}

#[test]
fn invalid_data_subclusters_are_errors() {
    let l2 = CLUSTER as usize * 2;
    let with_bitmap = |host: u64, bitmap: u64| {
        let mut image = Image::new(SPAN / 2, 1);
        image.put64(72, 1 << 4).put64(CLUSTER as usize, CLUSTER * 2);
        image.put64(l2, host).put64(l2 + 8, bitmap);
        image.put(CLUSTER as usize * 3, &[7; 2048 * 5]);
        image.len = CLUSTER * 4;
        image.open().unwrap()
    };
    let good = with_bitmap(CLUSTER * 3, 0b0101 | 0b0010 << 32);
    assert_eq!(read(&good, 0, 2048).unwrap(), [7; 2048]);
    assert_eq!(read(&good, 2048, 2048).unwrap(), [0; 2048]);
    assert_eq!(read(&good, 4096, 2048).unwrap(), [7; 2048]);
    assert!(!block_on(good.status(2048 * 3, 512)).unwrap().present);
    // Data and zeros at once; data without an offset. QEMU also refuses the whole cluster.
    for bad in [with_bitmap(CLUSTER * 3, 0b0101 | 0b0110 << 32), with_bitmap(0, 0b0001)] {
        for subcluster in 0..5 {
            read(&bad, 2048 * subcluster, 1).unwrap_err();
        }
        assert_eq!(read(&bad, CLUSTER, 512).unwrap(), [0; 512], "its neighbours are read");
    }
}

#[test]
fn unsupported_images_are_refused_with_advice() {
    let with = |at: usize, value: &[u8]| {
        let mut image = Image::new(SPAN, 1);
        image.put(at, value);
        image
    };
    let convert = "qemu-img convert";
    with(79, &[2]).refused(ErrorKind::InvalidImage, &["marked corrupt", convert]);
    with(72, &[0x80]).refused(ErrorKind::Unsupported, &["not known here: 63", convert]);
    with(35, &[1]).refused(ErrorKind::Unsupported, &["encrypted (aes)", convert]);
    with(35, &[2]).refused(ErrorKind::Unsupported, &["encrypted (luks)", convert]);
    let mut image = with(79, &[8]);
    image.put32(100, 112).put(104, &[2]);
    image.refused(ErrorKind::Unsupported, &["compression type 2", convert]);
    image.put(79, &[0]);
    image.refused(ErrorKind::InvalidImage, &["do not go with the compression type 2"]);
    with(79, &[8]).refused(ErrorKind::InvalidImage, &["do not go with the compression type 0"]);
    // A refcount may be wrong, because a reader does not use it.
    assert_eq!(read(&with(79, &[1]).open().unwrap(), 0, 16).unwrap(), [0; 16]);
}

#[test]
fn names_that_are_too_long_are_refused() {
    let extension = |kind: u32, len: u32| {
        let mut image = Image::new(SPAN, 1);
        image.put32(104, kind).put32(108, len);
        image
    };
    let (backing_format, data_file) = (0xe279_2aca, 0x4441_5441);
    extension(backing_format, 15).open().unwrap();
    extension(backing_format, 16).refused(ErrorKind::InvalidImage, &["has 16 bytes"]);
    extension(data_file, 4095).open().unwrap();
    extension(data_file, 4096).refused(ErrorKind::InvalidImage, &["has 4096 bytes"]);
    extension(7, CLUSTER as u32 - 112).open().unwrap();
    extension(7, CLUSTER as u32 - 111).refused(ErrorKind::InvalidImage, &["longer than the header"]);
    extension(7, u32::MAX).refused(ErrorKind::InvalidImage, &["longer than the header"]);
}

#[test]
fn oversized_lists_of_snapshots_and_bitmaps_are_refused() {
    let info = |image: &Image| {
        block_on(fvd::tool::info(
            &image.path(),
            Some("qcow2"),
            false,
            &ChainOptions::default(),
        ))
    };
    let snapshots = |count: u32, at: u64| {
        let mut image = Image::new(SPAN, 1);
        image.put32(60, count).put64(64, at);
        image
    };
    info(&snapshots(65_537, CLUSTER)).unwrap_err();
    info(&snapshots(1, u64::MAX - 7)).unwrap_err();
    // Each has an identifier and a name of 64 KiB: together more than QEMU permits.
    let mut image = snapshots(600, CLUSTER);
    for at in (0..600).map(|number| CLUSTER as usize + number * 131_112) {
        image.put32(at + 12, u32::MAX);
    }
    image.len = image.bytes.len() as u64;
    let error = info(&image).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("longer than it may be"), "{error}");
    let mut bitmaps = Image::new(SPAN, 1);
    bitmaps.put64(88, 1).put32(104, 0x2385_2875).put32(108, 24);
    bitmaps.put32(112, 1000).put64(120, 1 << 40).put64(128, CLUSTER);
    let error = info(&bitmaps).unwrap_err().to_string();
    assert!(error.contains("directory is corrupt"), "{error}");
    bitmaps.put64(120, 24_000).put64(128, u64::MAX - 100);
    info(&bitmaps).unwrap_err();
}
