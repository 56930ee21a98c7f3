//! Zeros that the base stores as data.

use std::os::unix::fs::MetadataExt;

use fvd::copy::{Control, Prefetch, PrefetchOptions, copy_on_read, fetch};
use fvd::format::LayoutOptions;
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::BaseSource;
use fvd::storage::{Allocation, FileOptions, FileStorage, IoBufMut, MemoryStorage, Storage};

use super::support::{Disk, FakeClock, TestBase, both, layout, run, within};
use super::{KIB, MIB};

/// Bytes of data in the base, in pages all over it.
const USED: u64 = 328 * KIB;

/// A base that does not report holes.
fn sparse(clock: &FakeClock) -> TestBase {
    let mut content = vec![0; 8 * MIB as usize];
    for page in 0..USED / (4 * KIB) {
        let at = (page * 100 * KIB) as usize / 4096 * 4096;
        content[at..at + 4096].fill(7);
    }
    TestBase::of(clock, content)
}

fn shapes() -> [LayoutOptions; 4] {
    let plain = layout(8 * MIB);
    [
        plain,
        LayoutOptions { compact: true, ..plain },
        // With blocks in parts, and with chunks that several blocks share.
        LayoutOptions {
            block_size: Some(2 * MIB),
            ..plain
        },
        LayoutOptions {
            block_size: Some(7680),
            chunk_size: Some(100 * KIB),
            compact: true,
            ..plain
        },
    ]
}

/// Bytes of the file that are not in holes.
fn stored(clock: &FakeClock, file: &MemoryStorage) -> u64 {
    run(clock, async {
        let (mut at, mut stored, end) = (0, 0, file.len().await.expect("memory"));
        while at < end {
            let (allocation, len) = file.allocation(at, end - at).await.expect("memory");
            stored += if allocation == Allocation::Data { len } else { 0 };
            at += len;
        }
        stored
    })
}

#[test]
fn an_image_stores_no_more_than_its_sparse_base() {
    for shape in shapes() {
        let clock = FakeClock::default();
        let disk = Disk::new(&clock, sparse(&clock), shape);
        let image = disk.open();
        let before = stored(&clock, &disk.file);
        let options = PrefetchOptions::default();
        run(&clock, disk.prefetch(&image, options, &Control::new()).run()).expect("finishes");
        assert!(disk.read_all(&image) == disk.base.content(), "{shape:?}");
        run(&clock, image.close()).expect("closes");
        // In addition, metadata: a page of the bitmap, one of the table, the journal.
        let took = stored(&clock, &disk.file) - before;
        assert!(took <= USED + 80 * KIB, "{took} bytes for {USED}, {shape:?}");
        let image = disk.open_with(None, OpenOptions::default());
        assert!(disk.read_all(&image) == disk.base.content(), "{shape:?}");
    }
}

#[test]
fn copies_of_readers_and_fetches_store_no_more_either() {
    for shape in shapes() {
        let clock = FakeClock::default();
        let disk = Disk::new(&clock, sparse(&clock), shape);
        let options = OpenOptions {
            copy_on_read: Some(true),
            ..OpenOptions::default()
        };
        let image = disk.open_with(Some(Box::new(disk.base.clone())), options);
        let before = stored(&clock, &disk.file);
        let second = std::time::Duration::from_secs(1);
        let reader = async {
            let read = image.read(IoBufMut::zeroed(4 * MIB as usize), 0).await.expect("reads");
            fetch(&image, 4 * MIB..8 * MIB).await.expect("fetches");
            read
        };
        let (read, _) = run(&clock, both(reader, within(&clock, second, copy_on_read(&image))));
        assert!(read.as_slice() == &disk.base.content()[..4 * MIB as usize]);
        run(&clock, image.close()).expect("closes");
        let took = stored(&clock, &disk.file) - before;
        assert!(took <= USED + 80 * KIB, "{took} bytes for {USED}, {shape:?}");
    }
}

#[test]
fn zeros_replace_data_that_a_crash_has_left() {
    for shape in shapes() {
        let clock = FakeClock::default();
        let disk = Disk::new(&clock, sparse(&clock), shape);
        let image = disk.open();
        let start = image.geometry().data_offset;
        drop(image);
        // Where bits are 0 there may be any data. (A compact image is cut before it allocates.)
        let garbage = vec![0xEE; 8 * MIB as usize];
        run(&clock, disk.file.write(garbage.into(), start)).expect("memory");
        let image = disk.open();
        let options = PrefetchOptions::default();
        run(&clock, disk.prefetch(&image, options, &Control::new()).run()).expect("finishes");
        assert!(disk.read_all(&image) == disk.base.content(), "{shape:?}");
        run(&clock, image.close()).expect("closes");
        let image = disk.open_with(None, OpenOptions::default());
        assert!(disk.read_all(&image) == disk.base.content(), "{shape:?}");
    }
}

#[test]
fn the_file_of_an_image_takes_no_more_space_than_its_base() {
    let folder = tempfile::tempdir().expect("a folder");
    for (number, shape) in shapes().into_iter().enumerate() {
        let path = folder.path().join(number.to_string());
        let clock = FakeClock::default();
        let base = sparse(&clock);
        let options = CreateOptions {
            layout: shape,
            base_img: "base".into(),
            ..CreateOptions::default()
        };
        let source: Box<dyn BaseSource> = Box::new(base.clone());
        let image = run(&clock, async {
            create(&FileStorage::create(&path, false)?, None, &options, None).await?;
            let writable = FileOptions {
                writable: true,
                ..FileOptions::default()
            };
            let file = FileStorage::open(&path, &writable)?;
            let head = read_head(&file).await?;
            let options = OpenOptions {
                writable: true,
                ..OpenOptions::default()
            };
            Image::open(file, head, None, Some(source), options).await
        });
        let image = image.expect("a sound image");
        let options = PrefetchOptions::default();
        let prefetch = Prefetch::new(&image, options, Vec::new(), Control::new(), &clock, 1);
        run(&clock, prefetch.run()).expect("finishes");
        run(&clock, image.close()).expect("closes");
        let took = std::fs::metadata(&path).expect("it is there").blocks() * 512;
        assert!(took <= USED + 128 * KIB, "{took} bytes for {USED}, {shape:?}");
    }
}
