//! Ways to break an image.

use std::ops::Range;

use fastrand::Rng;
use fvd::format::header::RAW_SIZE;
use fvd::format::{HEADER_SIZE, Header, fence, redo};

use super::super::format::place;
use super::sample::Sample;

/// The fields for offsets and sizes. Half of all changes of the header go to these.
const SIZES: [&str; 12] = [
    "virtual_disk_size",
    "metadata_size",
    "base_img_size",
    "bitmap_offset",
    "bitmap_size",
    "block_size",
    "table_offset",
    "chunk_size",
    "compact_image",
    "storage_grow_unit",
    "journal_offset",
    "journal_size",
];

/// The bytes of any number in the header.
fn any_number(rng: &mut Rng) -> Range<usize> {
    let numbers: Vec<_> = Header::places()
        .map(|(_, place)| place)
        .filter(|place| place.len() <= 8)
        .collect();
    numbers[rng.usize(..numbers.len())].clone()
}

/// Breaks the bytes of an image in one to four places. Returns the length that the file must have.
pub(crate) fn mutate(rng: &mut Rng, sample: &mut Sample) -> u64 {
    let regions = Regions::of(&sample.file);
    let whole = sample.file[..redo::END].to_vec();
    let mut len = sample.file.len() as u64;
    for _ in 0..rng.usize(1..=4) {
        match rng.u32(..16) {
            0..=5 => header_field(rng, &mut sample.file),
            6 | 7 => words(rng, &mut sample.file, regions.table),
            8 => bits(rng, &mut sample.file, regions.bitmap),
            9 | 10 => journal(rng, &mut sample.file, regions.journal),
            11 => any_byte(rng, &mut sample.file),
            12 => swap(rng, &mut sample.file),
            13 => names(rng, &mut sample.file),
            14 => len = length(rng, len),
            _ => cut_others(rng, sample),
        }
    }
    if rng.u32(..4) == 0 {
        put(&mut sample.file, place("clean_shutdown").start, &0_u32.to_le_bytes());
    }
    if rng.u32(..8) == 0 {
        interrupt(&mut sample.file, &whole);
    }
    sample.file.truncate(len.min(sample.file.len() as u64) as usize);
    len
}

/// Puts the new values of the fields into a redo copy, and the old header, `old`, in place, with the fence.
fn interrupt(file: &mut [u8], old: &[u8]) {
    let Some(region) = file.get_mut(..HEADER_SIZE as usize) else {
        return;
    };
    if let Ok(copy) = redo::encode(old, &region[..redo::END]) {
        region[..RAW_SIZE].copy_from_slice(&old[..RAW_SIZE]);
        fence::put_into(region);
        region[redo::OFFSET as usize..][..redo::SIZE].copy_from_slice(&copy);
    }
}

/// The metadata of a sample: offset and size of each region.
struct Regions {
    bitmap: (usize, usize),
    table: (usize, usize),
    journal: (usize, usize),
}

impl Regions {
    fn of(file: &[u8]) -> Self {
        let number = |name| read_number(file, place(name)) as usize;
        let table = number("table_offset");
        Self {
            bitmap: (number("bitmap_offset"), number("bitmap_size")),
            table: (table, if table > 0 { 4096 } else { 0 }),
            journal: (number("journal_offset"), number("journal_size")),
        }
    }
}

/// A number of at most 8 bytes; 0 where the file ends before.
fn read_number(file: &[u8], place: Range<usize>) -> u64 {
    let mut word = [0; 8];
    if let Some(bytes) = file.get(place) {
        word[..bytes.len()].copy_from_slice(bytes);
    }
    u64::from_le_bytes(word)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn number(rng: &mut Rng) -> u64 {
    let power = 1_u64 << rng.u32(..64);
    match rng.u32(..10) {
        0 => 0,
        1 => 1,
        2 => u64::MAX >> rng.u32(..4),
        3 => power,
        4 => power - 1,
        5 => power.wrapping_add(512),
        6 => (1 << 31) - rng.u64(..3),
        7 => rng.u64(..64) * 4096,
        8 => rng.u64(..512) * 512,
        _ => rng.u64(..),
    }
}

fn header_field(rng: &mut Rng, file: &mut [u8]) {
    let field = if rng.bool() {
        place(SIZES[rng.usize(..SIZES.len())])
    } else {
        any_number(rng)
    };
    let old = read_number(file, field.clone());
    let value = match rng.u32(..8) {
        0 => old.wrapping_add(4096),
        1 => old.wrapping_sub(4096),
        2 => old.wrapping_mul(2),
        3 => {
            let other = any_number(rng);
            read_number(file, other)
        }
        _ => number(rng),
    };
    put(file, field.start, &value.to_le_bytes()[..field.len()]);
}

/// Table entries, also those after the last chunk.
fn words(rng: &mut Rng, file: &mut [u8], (offset, size): (usize, usize)) {
    if size == 0 {
        return;
    }
    let entries = if rng.u32(..4) == 0 { size / 4 } else { 40 };
    for _ in 0..rng.usize(1..6) {
        let value = match rng.u32(..6) {
            0 => u32::MAX,
            1 => number(rng) as u32,
            // With the flag that must be ignored.
            2 => rng.u32(..40) | 1 << 31,
            _ => rng.u32(..40),
        };
        let first = rng.usize(..entries);
        for entry in first..first + if rng.u32(..4) == 0 { 8 } else { 1 } {
            put(file, offset + entry * 4, &value.to_le_bytes());
        }
    }
}

fn bits(rng: &mut Rng, file: &mut [u8], (offset, size): (usize, usize)) {
    if size > 0 {
        let at = if rng.bool() { rng.usize(..6) } else { rng.usize(..size) };
        put(file, offset + at, &[rng.u8(..)]);
    }
}

/// Heads of records, entries, and whole new records.
fn journal(rng: &mut Rng, file: &mut [u8], (offset, size): (usize, usize)) {
    if size == 0 {
        return;
    }
    let sector = offset + rng.usize(..size / 512).min(rng.usize(..size / 512)) * 512;
    match rng.u32(..4) {
        0 => {
            let count = rng.u32(..130);
            let mut record = Vec::new();
            let first = if rng.bool() { rng.u32(..40) } else { number(rng) as u32 };
            for word in [0xB4E6_F7AC, first, count] {
                record.extend(u32::to_le_bytes(word));
            }
            for _ in 0..count {
                let entry = if rng.u32(..8) == 0 {
                    number(rng) as u32
                } else {
                    rng.u32(..60)
                };
                record.extend(entry.to_le_bytes());
            }
            record.truncate(512);
            put(file, sector, &record);
        }
        1 => {
            let mut record = [0x3F2A_B8ED_u32, number(rng) as u32].map(u32::to_le_bytes).concat();
            let first = if rng.bool() { rng.u64(..320) } else { number(rng) };
            record.extend(first.to_le_bytes());
            put(file, sector, &record);
        }
        2 => put(file, sector + rng.usize(..5) * 4, &(number(rng) as u32).to_le_bytes()),
        _ => put(file, sector + rng.usize(..512), &[rng.u8(..)]),
    }
}

fn any_byte(rng: &mut Rng, file: &mut [u8]) {
    let len = if rng.bool() { 32 << 10 } else { file.len() };
    let at = rng.usize(..len.min(file.len()));
    file[at] ^= 1 << rng.u32(..8);
}

/// Exchanges two pages, or copies one over the other.
fn swap(rng: &mut Rng, file: &mut [u8]) {
    let mut page = || rng.usize(1..8) * 4096;
    let (one, other) = (page(), page());
    if one.max(other) + 4096 > file.len() {
        return;
    }
    let copy = file[one..one + 4096].to_vec();
    if rng.bool() {
        file.copy_within(other..other + 4096, one);
    }
    file[other..other + 4096].copy_from_slice(&copy);
}

fn names(rng: &mut Rng, file: &mut [u8]) {
    let at = place(if rng.bool() { "base_img" } else { "data_file" }).start;
    let format = at + 1024;
    match rng.u32(..5) {
        0 => put(file, at, &[0]),
        1 => put(file, at, b"name\0"),
        2 => put(file, at, &[0xFF; 1024]),
        3 => put(file, format, &[rng.u8(..); 16]),
        _ => put(file, at, &[rng.u8(..)]),
    }
}

/// A shorter file, or one that ends in a hole of any size.
fn length(rng: &mut Rng, len: u64) -> u64 {
    match rng.u32(..4) {
        0 => rng.u64(..=len),
        1 => rng.u64(..=len / 512) * 512,
        2 => len + number(rng) % (1 << 20),
        _ => len + number(rng) % (1 << 60),
    }
}

/// Shortens the data file or the base.
fn cut_others(rng: &mut Rng, sample: &mut Sample) {
    if rng.bool() {
        sample.data.truncate(rng.usize(..=sample.data.len()));
    } else {
        sample.base.truncate(rng.usize(..=sample.base.len()));
    }
}
