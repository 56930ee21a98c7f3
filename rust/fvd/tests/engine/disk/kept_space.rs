//! Zeros that keep or allocate space, in every layout. (On file systems:
//! `tests/robustness/test_kept_space.py`.)

use bytes::Bytes;
use fvd::format::LayoutOptions;
use fvd::image::{CreateOptions, DetectZeroes, Discard, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, RawSource};
use fvd::storage::{Allocation, IoBufMut, MemoryStorage, Storage};
use pollster::block_on;

const CHUNK: u64 = 64 << 10;
const SIZE: u64 = 16 * CHUNK;
/// Does not divide a chunk.
const BLOCK: u64 = 24 << 10;

const WRITABLE: OpenOptions = OpenOptions {
    writable: true,
    cache: fvd::image::CacheMode::Writeback,
    copy_on_read: None,
    discard: Discard::Unmap,
    detect_zeroes: DetectZeroes::Off,
};
const IGNORING: OpenOptions = OpenOptions {
    discard: Discard::Ignore,
    ..WRITABLE
};

/// An image with its data in a memory of its own, with or without a base of zeros.
fn image(compact: bool, has_base: bool, is_device: bool, open: OpenOptions) -> (Image<MemoryStorage>, MemoryStorage) {
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: SIZE,
            base_size: has_base.then_some(SIZE),
            block_size: has_base.then_some(BLOCK),
            compact,
            chunk_size: Some(CHUNK),
            storage_grow_unit: Some(CHUNK),
            ..LayoutOptions::default()
        },
        base_img: if has_base { "base".into() } else { "".into() },
        data_file: "data".into(),
        ..CreateOptions::default()
    };
    let file = MemoryStorage::new();
    let data = if is_device {
        MemoryStorage::device(SIZE)
    } else {
        MemoryStorage::new()
    };
    block_on(create(&file, Some(&data), &options, None)).expect("created");
    let head = block_on(read_head(&file)).expect("valid");
    let base = has_base.then(|| {
        let zeros = block_on(RawSource::new(MemoryStorage::device(SIZE)));
        Box::new(zeros.expect("memory")) as Box<dyn BaseSource>
    });
    let image = block_on(Image::open(file, head, Some(data.clone()), base, open)).expect("opens");
    (image, data)
}

/// Bytes of the memory that are not in holes.
fn space(data: &MemoryStorage) -> u64 {
    let len = block_on(data.len()).expect("memory");
    let (mut at, mut space) = (0, 0);
    while at < len {
        let (allocation, run) = block_on(data.allocation(at, len - at)).expect("memory");
        if allocation == Allocation::Data {
            space += run;
        }
        at += run;
    }
    space
}

fn write(image: &Image<MemoryStorage>, fill: u8, offset: u64, len: u64) {
    block_on(image.write(Bytes::from(vec![fill; len as usize]), offset)).expect("written");
}

fn assert_zeros(image: &Image<MemoryStorage>) {
    let read = block_on(image.read(IoBufMut::zeroed(SIZE as usize), 0)).expect("read");
    assert!(read.as_slice().iter().all(|byte| *byte == 0));
}

/// Runs `test` for every layout, also on a device.
fn each_layout(test: impl Fn(bool, bool, bool)) {
    for compact in [false, true] {
        for has_base in [false, true] {
            for is_device in [false, true] {
                test(compact, has_base, is_device);
            }
        }
    }
}

#[test]
fn zeros_keep_space_with_ignored_discards_or_on_request() {
    let detecting = |detect_zeroes, discard| OpenOptions {
        detect_zeroes,
        discard,
        ..WRITABLE
    };
    each_layout(|compact, has_base, is_device| {
        for open in [
            IGNORING,
            detecting(DetectZeroes::On, Discard::Unmap),
            detecting(DetectZeroes::Unmap, Discard::Ignore),
        ] {
            let (image, data) = image(compact, has_base, is_device, open);
            write(&image, 1, 0, SIZE);
            if open.detect_zeroes == DetectZeroes::Off {
                block_on(image.write_zeroes(0, SIZE)).expect("zeroed");
            } else {
                write(&image, 0, 0, SIZE);
            }
            assert_zeros(&image);
            assert_eq!(space(&data), SIZE, "compact {compact}, base {has_base}, {open:?}");
        }
    });
}

#[test]
fn zeros_without_holes_are_allocated_whatever_was_there() {
    each_layout(|compact, has_base, is_device| {
        for (start, end) in [(0, SIZE), (512, SIZE - 512), (5 * BLOCK, 7 * BLOCK + 512)] {
            for written in [0..0, 0..SIZE, BLOCK + 512..7 * CHUNK] {
                let (image, data) = image(compact, has_base, is_device, WRITABLE);
                if !written.is_empty() {
                    write(&image, 0, written.start, written.end - written.start);
                }
                block_on(image.write_zeroes_no_hole(start, end - start)).expect("zeroed");
                let now = space(&data);
                assert!(
                    now >= end - start,
                    "{now}: {start}..{end}, compact {compact}, base {has_base}"
                );
                // A write allocates no more.
                write(&image, 1, start, end - start);
                assert_eq!(space(&data), now);
            }
        }
    });
}

#[test]
fn zeroing_allocates_nothing_with_ignored_discards() {
    each_layout(|compact, has_base, is_device| {
        let (image, data) = image(compact, has_base, is_device, IGNORING);
        block_on(image.write_zeroes(0, SIZE)).expect("zeroed");
        assert_zeros(&image);
        assert_eq!(space(&data), 0);
    });
}

#[test]
fn zeros_free_space_by_default() {
    each_layout(|compact, has_base, is_device| {
        let (image, data) = image(compact, has_base, is_device, WRITABLE);
        write(&image, 1, 0, SIZE);
        block_on(image.write_zeroes(0, SIZE)).expect("zeroed");
        assert_zeros(&image);
        assert_eq!(space(&data), 0);
    });
}
