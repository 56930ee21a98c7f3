//! qcow2 images that claim what is not so. None of them takes long, or much memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

use fvd::source::{BaseSource, Content, Qcow2Options, Qcow2Source};
use fvd::storage::IoBufMut;
use fvd::tool::map::map;
use fvd::{ErrorKind, Result};
use pollster::block_on;
use tempfile::{TempDir, tempdir};

const CLUSTER: u64 = 65536;
/// Bytes of the disk for which one L2 table stands.
const SPAN: u64 = CLUSTER * CLUSTER / 8;

/// An image of version 3, put together by hand.
struct Image {
    folder: TempDir,
    bytes: Vec<u8>,
    /// Of the file, which is sparse behind `bytes`.
    len: u64,
}

impl Image {
    /// A disk of `size` bytes whose L1 table of `l1_entries` entries begins at the second cluster.
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
fn an_l1_table_that_is_not_there_is_refused() {
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
fn a_walk_over_nothing_is_short_however_large_the_disk_is() {
    // 2 PiB, as far as QEMU permits; the file takes no more than a few blocks.
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
fn tables_that_are_not_there_are_errors_and_no_zeros() {
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
fn entries_that_contradict_the_format_are_errors_where_they_are_met() {
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
    // Not at the start of a cluster; zeros before there was a bit for it; compressed bytes that are none.
    for (version, entry) in [
        (3, CLUSTER * 3 + 512),
        (2, CLUSTER * 3 + 1),
        (3, 1 << 62 | (CLUSTER * 3)),
    ] {
        let source = with_entry(version, entry);
        read(&source, CLUSTER, 200).unwrap_err();
        assert_eq!(read(&source, 0, 512).unwrap(), [0; 512], "its neighbours are read");
    }
    // Allocated and never written, when the power went: QEMU sees zeros.
    assert_eq!(read(&with_entry(3, CLUSTER << 20), CLUSTER, 16).unwrap(), [0; 16]);
}

#[test]
fn a_subcluster_that_is_both_data_and_zeros_is_an_error() {
    let l2 = CLUSTER as usize * 2;
    let mut image = Image::new(SPAN / 2, 1);
    image.put64(72, 1 << 4).put64(CLUSTER as usize, CLUSTER * 2);
    image.put64(l2, CLUSTER * 3).put64(l2 + 8, 0b0101 | 0b0110 << 32);
    image.put(CLUSTER as usize * 3, &[7; 2048 * 5]);
    image.len = CLUSTER * 4;
    let source = image.open().unwrap();
    assert_eq!(read(&source, 0, 2048).unwrap(), [7; 2048]);
    assert_eq!(read(&source, 2048, 2048).unwrap(), [0; 2048]);
    read(&source, 4096, 1).unwrap_err();
    assert!(!block_on(source.status(2048 * 3, 512)).unwrap().present);
}

#[test]
fn what_cannot_be_read_is_refused_with_the_way_out() {
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
    // A refcount may be wrong, which a reader does not look at.
    assert_eq!(read(&with(79, &[1]).open().unwrap(), 0, 16).unwrap(), [0; 16]);
}

/// A small image with something of everything, made by `qemu-img` and `qemu-io`.
fn sample(folder: &TempDir, options: &str) -> Vec<u8> {
    let run = |program: &str, words: &[&str]| {
        let done = Command::new(program)
            .args(words)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{program} {words:?}: {done:?}");
    };
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", options, "image", "2M"],
    );
    let commands = [
        "write -P 5 0 200k",
        "write -c -P 6 512k 64k",
        "write -c -P 7 640k 128k",
        "write -z 1M 100k",
    ];
    let words: Vec<_> = commands.iter().flat_map(|command| ["-c", command]).collect();
    run("qemu-io", &[&["-f", "qcow2"], &words[..], &["image"]].concat());
    run("qemu-img", &["snapshot", "-c", "before", "image"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 8 100k 100k", "image"]);
    std::fs::read(folder.path().join("image")).unwrap()
}

#[test]
fn mutated_images_give_errors_or_data_within_bounded_time() {
    let mut random = fastrand::Rng::with_seed(11);
    let (mut refused, mut failed, mut read_all) = (0, 0, 0);
    for options in [
        "cluster_size=4k",
        "cluster_size=64k,compression_type=zstd,extended_l2=on",
    ] {
        let folder = tempdir().unwrap();
        let good = sample(&folder, options);
        let path = folder.path().join("damaged");
        for _ in 0..300 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..8) {
                let limit = if random.bool() { 112 } else { bytes.len() };
                let at = random.usize(..limit);
                bytes[at] = if random.bool() {
                    random.u8(..)
                } else {
                    bytes[at] ^ 1 << random.u8(..8)
                };
            }
            if random.u8(..8) == 0 {
                bytes.truncate(random.usize(..good.len()));
            }
            std::fs::write(&path, bytes).unwrap();
            let Ok(source) = Qcow2Source::open(&path, &Qcow2Options::default()) else {
                refused += 1;
                continue;
            };
            // What there are tables for is less than this.
            let len = source.len().min(4 << 20) as usize;
            if read(&source, 0, len).is_err() {
                failed += 1;
            } else {
                read_all += 1;
            }
            let mut entries = 0;
            let _ = block_on(map(&source, 0, None, |_| entries += 1));
            assert!(entries < 100_000, "{entries}");
        }
    }
    assert!(
        refused > 20 && failed > 20 && read_all > 20,
        "{refused} refused, {failed} failed, {read_all} read"
    );
}
