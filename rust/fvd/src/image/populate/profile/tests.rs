use bytes::Bytes;
use pollster::block_on;

use super::*;
use crate::format::LayoutOptions;
use crate::image::{CreateOptions, OpenOptions, create, read_head};
use crate::source::{BaseSource, RawSource};
use crate::storage::MemoryStorage;

const KIB: u64 = 1024;
const DISK: u64 = 4096 * KIB;

/// An image of 4 MiB on a base of 3 MiB of random bytes, with blocks of 16 KiB. Its sessions record a profile
/// into a region of `size` bytes.
fn recording(size: u64) -> MemoryStorage {
    recording_with(size, 16 * KIB, false)
}

fn recording_with(size: u64, block_size: u64, copy_on_read: bool) -> MemoryStorage {
    let file = MemoryStorage::new();
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: DISK,
            base_size: Some(3072 * KIB),
            block_size: Some(block_size),
            journal_size: Some(4096),
            prefetch_profile_size: Some(size),
            ..LayoutOptions::default()
        },
        base_img: "base".into(),
        generate_prefetch_profile: true,
        copy_on_read,
        ..CreateOptions::default()
    };
    block_on(create(&file, None, &options, None)).expect("created");
    file
}

fn base() -> Box<dyn BaseSource> {
    let mut bytes = vec![0; (3072 * KIB) as usize];
    fastrand::Rng::with_seed(3).fill(&mut bytes);
    Box::new(block_on(RawSource::new(MemoryStorage::from_bytes(&bytes))).expect("memory"))
}

fn open(file: &MemoryStorage, writable: bool) -> Image<MemoryStorage> {
    let options = OpenOptions {
        writable,
        ..OpenOptions::default()
    };
    block_on(async {
        let head = read_head(file).await?;
        Image::open(file.clone(), head, None, Some(base()), options).await
    })
    .expect("opens")
}

fn read(image: &Image<MemoryStorage>, offset: u64, len: u64) {
    block_on(image.read(IoBufMut::zeroed(len as usize), offset)).expect("reads");
}

fn write(image: &Image<MemoryStorage>, offset: u64, len: u64) {
    block_on(image.write(Bytes::from(vec![7; len as usize]), offset)).expect("writes");
}

fn close(image: &Image<MemoryStorage>) {
    block_on(image.close()).expect("closes");
}

/// The profile that a new session reads.
fn stored(file: &MemoryStorage) -> Vec<Range<u64>> {
    block_on(open(file, false).profile()).expect("reads")
}

#[test]
fn a_session_records_its_reads_of_the_base_in_order() {
    let file = recording(4096);
    let image = open(&file, true);
    read(&image, 512 * KIB, 8 * KIB);
    read(&image, 100, 1);
    read(&image, 520 * KIB, 5 * KIB);
    // A partial write of a block reads the rest of the block from the base. After that the block is local.
    write(&image, 160 * KIB + 4 * KIB, 4 * KIB);
    read(&image, 160 * KIB, 16 * KIB);
    // A write of a whole block reads nothing from the base.
    write(&image, 256 * KIB, 16 * KIB);
    // The part after the end of the base is not recorded.
    read(&image, 3070 * KIB, 100 * KIB);
    close(&image);
    let expected = [(512, 520), (0, 4), (520, 528), (160, 164), (168, 176), (3068, 3072)];
    assert_eq!(stored(&file), expected.map(|(start, end)| start * KIB..end * KIB));
}

#[test]
fn what_copies_of_earlier_reads_made_local_was_read_by_the_guest() {
    let file = recording_with(4096, 4 * KIB, true);
    let image = open(&file, true);
    for start in [512, 0, 520] {
        read(&image, start * KIB, 8 * KIB);
        while block_on(image.store_next_copy()).expect("stored") {}
    }
    close(&image);
    let expected = [(512, 520), (0, 8), (520, 528)];
    assert_eq!(stored(&file), expected.map(|(start, end)| start * KIB..end * KIB));
}

#[test]
fn a_profile_does_not_change_until_it_is_cleared() {
    let file = recording(4096);
    for (cleared, offset, expected) in [(false, 0, 0), (false, 64 * KIB, 0), (true, 128 * KIB, 128 * KIB)] {
        let head = block_on(read_head(&file)).expect("reads");
        if cleared {
            let empty = empty_profile(&head.geometry).expect("room");
            block_on(write_profile(&file, &head.geometry, &empty)).expect("written");
            assert_eq!(stored(&file), []);
        }
        let image = open(&file, true);
        read(&image, offset, 4096);
        close(&image);
        let expected = expected..expected + 4096;
        assert_eq!(stored(&file), [expected]);
    }
}

#[test]
fn a_session_without_reads_of_the_base_changes_no_byte() {
    let file = recording(4096);
    let before = file.to_vec();
    let image = open(&file, true);
    read(&image, 3072 * KIB, 4096);
    close(&image);
    assert!(file.to_vec() == before);
}

#[test]
fn a_read_only_or_not_recording_session_records_nothing() {
    let file = recording(4096);
    let image = open(&file, false);
    read(&image, 0, 4096);
    close(&image);
    assert_eq!(stored(&file), []);
    let mut header = block_on(read_head(&file)).expect("reads").header;
    header.generate_prefetch_profile = false;
    let bytes = header.encode().expect("fits");
    block_on(file.write(Bytes::from(bytes), 0)).expect("writes");
    let image = open(&file, true);
    read(&image, 0, 4096);
    close(&image);
    assert_eq!(stored(&file), []);
}

#[test]
fn a_full_profile_keeps_the_first_ranges() {
    let file = recording(4096);
    let image = open(&file, true);
    for number in 0..370 {
        read(&image, number * 8 * KIB, 512);
    }
    close(&image);
    let expected: Vec<_> = (0..341).map(|n| n * 8 * KIB..n * 8 * KIB + 4096).collect();
    assert_eq!(stored(&file), expected);
}

#[test]
fn a_second_close_writes_no_profile() {
    let file = recording(4096);
    let image = open(&file, true);
    read(&image, 0, 4096);
    close(&image);
    let before = file.to_vec();
    read(&image, 64 * KIB, 4096);
    close(&image);
    assert!(file.to_vec() == before);
}

#[test]
fn a_profile_of_many_entries_is_read_in_pieces() {
    let file = recording(1 << 20);
    let head = block_on(read_head(&file)).expect("reads");
    // Every second unit of the disk, in descending order, then empty entries up to the end of the region.
    let mut bytes = Vec::new();
    for number in (0..DISK / 8192).rev() {
        let entry = crate::format::ProfileEntry {
            offset: (number * 8192).cast_signed(),
            len: 1,
        };
        bytes.extend(entry.encode());
    }
    let count = head.geometry.profile.expect("room").size / ENTRY_SIZE;
    let offset = head.geometry.profile.expect("room").offset;
    block_on(file.write(Bytes::from(bytes), offset)).expect("writes");
    block_on(patch::write_profile_entries(&file, count)).expect("writes");
    let expected: Vec<_> = (0..DISK / 8192).rev().map(|n| n * 8192..n * 8192 + 4096).collect();
    assert_eq!(stored(&file), expected);
}
