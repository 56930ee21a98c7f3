//! Compares disks as exports with a model: random operations of a client, and what it reads afterwards.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use fvd::ErrorKind;
use fvd::copy::Control;
use fvd::format::LayoutOptions;
use fvd::image::{CreateOptions, Discard, Image, OpenOptions, create, read_head};
use fvd::remote::AnyFile;
use fvd::source::{BaseSource, RawSource};
use fvd::storage::{FileStorage, IoBufMut, MemoryStorage, Storage};
use fvd_nbd::disk::{Content, DiskExport, Lease, RawDisk, ThreadedImage};
use fvd_nbd::protocol::meta::Status;
use fvd_nbd::server::{Export, Zeroing};
use pollster::block_on;

const SIZE: u64 = 1 << 20;
const BASE: u64 = 700_416;
const STEPS: usize = 400;

type Disk = DiskExport<MemoryStorage>;

/// An image with a shorter base that is filled with 7.
fn image(block_size: u64, trim: Discard) -> Disk {
    let image = image_on(MemoryStorage::new(), block_size, trim);
    DiskExport::new("", "", Content::Image(image))
}

/// The same image on a file, used from threads.
fn threaded(block_size: u64, trim: Discard) -> Disk {
    let folder = tempfile::tempdir().expect("a folder");
    let file = AnyFile::Local(FileStorage::create(folder.path().join("disk"), false).expect("a file"));
    let image = ThreadedImage::new(image_on(file, block_size, trim), Arc::new(()));
    DiskExport::new("", "", Content::Threaded(image))
}

fn image_on<S: Storage>(file: S, block_size: u64, trim: Discard) -> Arc<Image<S>> {
    let layout = LayoutOptions {
        virtual_size: SIZE,
        base_size: Some(BASE),
        block_size: Some(block_size),
        ..LayoutOptions::default()
    };
    open_new(file, layout, trim)
}

/// Creates and opens an image of this layout. If the layout has a base, the base is filled with 7.
fn open_new<S: Storage>(file: S, layout: LayoutOptions, discard: Discard) -> Arc<Image<S>> {
    let base = layout.base_size.map(|size| {
        let bytes = MemoryStorage::from_bytes(&vec![7; size as usize]);
        let base = block_on(RawSource::new(bytes)).expect("memory does not fail");
        Box::new(base) as Box<dyn BaseSource>
    });
    let options = CreateOptions {
        base_img: base.as_ref().map_or_else(Default::default, |_| "base".into()),
        layout,
        ..CreateOptions::default()
    };
    block_on(create(&file, None, &options, None)).expect("created");
    let head = block_on(read_head(&file)).expect("valid");
    let options = OpenOptions {
        writable: true,
        discard,
        ..OpenOptions::default()
    };
    Arc::new(block_on(Image::open(file, head, None, base, options)).expect("opens"))
}

fn raw(trim: Discard) -> Disk {
    let storage = MemoryStorage::from_bytes(&vec![7; SIZE as usize]);
    let options = OpenOptions {
        writable: true,
        discard: trim,
        ..OpenOptions::default()
    };
    let disk = RawDisk::new(storage, options);
    DiskExport::new("", "", Content::Raw(block_on(disk).expect("memory does not fail")))
}

fn read(disk: &Disk, offset: u64, length: u64) -> Vec<u8> {
    let buf = block_on(disk.read(IoBufMut::zeroed(length as usize), offset)).expect("memory does not fail");
    buf.as_slice().to_vec()
}

fn status(disk: &Disk, offset: u64, length: u64) -> Vec<(u64, Status)> {
    let mut pieces = Vec::new();
    let mut piece = |length, status| {
        pieces.push((length, status));
        true
    };
    block_on(disk.status(offset, length, &mut piece)).expect("memory does not fail");
    pieces
}

/// Applies one random operation to the disk and to the model.
fn step(disk: &Disk, model: &mut [u8], trim: Discard, rng: &mut Rng) {
    let offset = rng.u64(..SIZE - 1);
    let length = rng.u64(1..=(SIZE - offset).min(100_000));
    let range = offset as usize..(offset + length) as usize;
    let done = match rng.u32(..7) {
        0 | 1 => {
            let data = vec![rng.u8(..); length as usize];
            model[range].copy_from_slice(&data);
            block_on(disk.write(Bytes::from(data), offset))
        }
        2 => {
            let no_hole = rng.bool();
            model[range].fill(0);
            block_on(disk.write_zeroes(offset, length, Zeroing { no_hole, fast: false }))
        }
        3 => block_on(disk.cache(offset, length)),
        4 => block_on(disk.flush()),
        5 => {
            let done = block_on(disk.trim(offset, length));
            // A trimmed range may read as anything. If trims are ignored, it must not change.
            if trim == Discard::Unmap {
                model[range.clone()].copy_from_slice(&read(disk, offset, length));
            }
            done
        }
        _ => {
            assert!(read(disk, offset, length) == model[range], "{length} bytes at {offset}");
            Ok(())
        }
    };
    done.expect("memory does not fail");
}

fn check_status(disk: &Disk, model: &[u8], rng: &mut Rng) {
    let offset = rng.u64(..SIZE - 1);
    let length = rng.u64(1..=SIZE - offset);
    let mut at = offset as usize;
    for (length, status) in status(disk, offset, length) {
        let bytes = &model[at..at + length as usize];
        assert!(
            !status.zero || bytes.iter().all(|&byte| byte == 0),
            "{status:?} at {at}"
        );
        at += length as usize;
    }
    assert_eq!(at as u64, offset + length, "memory has few pieces");
}

#[test]
fn reads_and_status_match_the_model() {
    for (number, block_size) in [512, 4096, 65_536].into_iter().enumerate() {
        for trim in [Discard::Unmap, Discard::Ignore] {
            let disks = [
                (image(block_size, trim), BASE),
                (threaded(block_size, trim), BASE),
                (raw(trim), SIZE),
            ];
            for (disk, base) in disks {
                let mut rng = Rng::with_seed(number as u64);
                let mut model = vec![0; SIZE as usize];
                model[..base as usize].fill(7);
                for _ in 0..STEPS {
                    step(&disk, &mut model, trim, &mut rng);
                    check_status(&disk, &model, &mut rng);
                }
                assert!(read(&disk, 0, SIZE) == model);
            }
        }
    }
}

#[test]
fn fast_zeroing_is_refused_where_zeroes_would_be_stored() {
    let all = [
        image(4096, Discard::Unmap),
        threaded(4096, Discard::Unmap),
        raw(Discard::Unmap),
    ];
    for disk in all {
        let zero = |no_hole| block_on(disk.write_zeroes(0, 4096, Zeroing { no_hole, fast: true }));
        let refused = zero(true).expect_err("they would be stored");
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert_eq!(read(&disk, 0, 4096), [7; 4096], "nothing has changed");
        zero(false).expect("a hole");
        assert_eq!(read(&disk, 0, 4096), [0; 4096]);
    }
}

#[test]
fn depth_counts_the_images_of_the_chain() {
    for disk in [image(4096, Discard::Unmap), threaded(4096, Discard::Unmap)] {
        block_on(disk.write(Bytes::from_static(&[1; 4096]), 4096)).expect("memory does not fail");
        block_on(disk.cache(10_000, 1)).expect("memory does not fail");
        let depths: Vec<_> = status(&disk, 0, 16_384)
            .into_iter()
            .map(|(length, s)| (length, s.depth))
            .collect();
        assert_eq!(depths, [(4096, 2), (8192, 1), (4096, 2)]);
    }
}

#[test]
fn with_a_base_the_preferred_size_is_the_block_size() {
    let preferred = |disk: Disk| disk.info().block_sizes.preferred;
    assert_eq!(preferred(image(65_536, Discard::Unmap)), 65_536);
    assert_eq!(preferred(image(512, Discard::Unmap)), 4096);
    assert_eq!(preferred(image(1536, Discard::Unmap)), 4096, "a power of two");
    assert_eq!(preferred(raw(Discard::Unmap)), 4096);
}

#[test]
fn a_threaded_image_has_the_same_properties_as_any_image() {
    for trim in [Discard::Unmap, Discard::Ignore] {
        assert_eq!(threaded(65_536, trim).info(), image(65_536, trim).info());
    }
}

#[test]
fn a_leased_image_is_not_closed_and_can_be_read_only() {
    struct Leased;
    impl Lease for Leased {
        fn served_at(&self, _: Vec<String>) {}
        fn ending(&self) {}
        fn prefetch(&self) -> Option<Control> {
            None
        }
    }
    let file = MemoryStorage::new();
    let image = image_on(file.clone(), 4096, Discard::Unmap);
    let disk = DiskExport::new("", "", Content::Image(Arc::clone(&image)))
        .leased(Arc::new(Leased))
        .read_only();
    assert!(disk.info().read_only);
    let write = |value| block_on(image.write(Bytes::from(vec![value; 512]), 0)).expect("memory does not fail");
    write(1);
    block_on(image.flush()).expect("memory does not fail");
    block_on(disk.close()).expect("nothing to do");
    let head = || block_on(read_head(&file)).expect("valid");
    assert!(!head().header.clean_shutdown, "it is still in use");
    write(2);
    block_on(image.close()).expect("memory does not fail");
    assert!(head().header.clean_shutdown);
}

#[test]
fn a_source_that_cannot_be_written_is_read_only() {
    let source = block_on(RawSource::new(MemoryStorage::from_bytes(&[7; 1000]))).expect("memory does not fail");
    let disk: Disk = DiskExport::new("name", "words", Content::Source(Box::new(source)));
    let info = disk.info();
    assert!(info.read_only && !info.trim);
    assert_eq!((info.size, &*info.name, &*info.description), (1000, "name", "words"));
    let refused = block_on(disk.write(Bytes::from_static(b"x"), 0)).expect_err("read-only");
    assert_eq!(refused.kind(), ErrorKind::NotPermitted);
    assert!(
        !image(512, Discard::Ignore).info().trim,
        "a trim that does nothing is not offered"
    );
}

/// Plain and compact images on files, with and without a base. Their status also depends on the file system.
fn on_files() -> impl Iterator<Item = DiskExport<AnyFile<FileStorage>>> {
    [(false, None), (true, None), (false, Some(BASE)), (true, Some(BASE))]
        .into_iter()
        .map(|(compact, base_size)| {
            let folder = tempfile::tempdir().expect("a folder");
            let file = AnyFile::Local(FileStorage::create(folder.path().join("disk"), false).expect("a file"));
            let layout = LayoutOptions {
                virtual_size: SIZE,
                base_size,
                block_size: Some(4096),
                compact,
                chunk_size: Some(65_536),
                storage_grow_unit: Some(131_072),
                ..LayoutOptions::default()
            };
            DiskExport::new("", "", Content::Image(open_new(file, layout, Discard::Unmap)))
        })
}

/// Some(true) if the status reports a hole for the whole range, Some(false) if it reports data for the whole
/// range, otherwise None.
fn is_hole(disk: &impl Export, offset: u64, length: u64) -> Option<bool> {
    let (mut holes, mut all) = (0, 0);
    let mut piece = |length, status: Status| {
        holes += if status.zero { length } else { 0 };
        all += length;
        true
    };
    block_on(disk.status(offset, length, &mut piece)).expect("the disk is sound");
    assert_eq!(all, length, "it has few pieces");
    [(0, false), (length, true)]
        .iter()
        .find_map(|&(sum, hole)| (holes == sum).then_some(hole))
}

#[test]
fn discarded_ranges_are_reported_as_holes_neighbours_are_not() {
    for disk in on_files() {
        let data = Bytes::from(vec![1; SIZE as usize]);
        block_on(disk.write(data, 0)).expect("written");
        assert_eq!(is_hole(&disk, 0, SIZE), Some(false));
        // Part of a chunk, a whole chunk, and ranges that are neither.
        for (offset, length) in [(8192, 4096), (65_536, 65_536), (200_704, 131_072), (SIZE - 4096, 4096)] {
            block_on(disk.trim(offset, length)).expect("trimmed");
            let check_holes = || {
                assert_eq!(is_hole(&disk, offset, length), Some(true), "{length} bytes at {offset}");
                assert_eq!(is_hole(&disk, offset - 4096, 4096), Some(false), "before {offset}");
            };
            check_holes();
            block_on(disk.flush()).expect("flushed");
            check_holes();
        }
        block_on(disk.write(Bytes::from(vec![2; 4096]), 69_632)).expect("written");
        assert_eq!(is_hole(&disk, 69_632, 4096), Some(false), "written again");
        assert_eq!(is_hole(&disk, 73_728, 4096), Some(true), "the rest of the chunk");
    }
}

#[test]
fn holes_are_reported_correctly_during_neighbouring_writes() {
    // Some slots contain whole chunks, which are freed. Their ends share chunks with slots of other threads.
    const SLOT: u64 = 81_920;
    const ROUNDS: u64 = 200;
    for disk in on_files() {
        // Each thread uses every fourth slot.
        std::thread::scope(|scope| {
            for mine in 0..4 {
                let disk = &disk;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let offset = (round % 3 * 4 + mine) * SLOT;
                        let data = Bytes::from(vec![mine as u8 + 1; SLOT as usize]);
                        block_on(disk.write(data, offset)).expect("written");
                        assert_eq!(is_hole(disk, offset, SLOT), Some(false), "data at {offset}");
                        if round % 5 == 0 {
                            block_on(disk.flush()).expect("flushed");
                        }
                        block_on(disk.trim(offset, SLOT)).expect("trimmed");
                        assert_eq!(is_hole(disk, offset, SLOT), Some(true), "a hole at {offset}");
                    }
                });
            }
            // Another thread queries the whole disk concurrently.
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    is_hole(&disk, 0, SIZE);
                }
            });
        });
        assert_eq!(is_hole(&disk, 0, SIZE), Some(true));
    }
}

#[test]
fn a_racing_discard_and_write_never_report_data_as_a_hole() {
    for disk in on_files() {
        for round in 0..50 {
            let data = Bytes::from(vec![1; 131_072]);
            block_on(disk.write(data.clone(), 0)).expect("written");
            std::thread::scope(|scope| {
                scope.spawn(|| block_on(disk.trim(0, 131_072)).expect("trimmed"));
                if round % 2 == 0 {
                    scope.spawn(|| block_on(disk.write(data.slice(..32_768), 65_536)).expect("written"));
                }
                for _ in 0..10 {
                    is_hole(&disk, 0, 131_072);
                }
            });
            for offset in (0..131_072).step_by(4096) {
                let buf = block_on(disk.read(IoBufMut::zeroed(4096), offset)).expect("read");
                let zeros = buf.as_slice().iter().all(|&byte| byte == 0);
                assert!(zeros || is_hole(&disk, offset, 4096) == Some(false), "data at {offset}");
            }
        }
    }
}
