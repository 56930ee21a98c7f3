//! Ways to break an image.

use fastrand::Rng;
use fvd::format::header::RAW_SIZE;
use fvd::format::{HEADER_SIZE, fence, redo};

use super::sample::Sample;

/// Offset and length of every number in the header.
const FIELDS: [(usize, usize); 33] = [
    (0, 4),
    (4, 4),
    (8, 4),
    (12, 8),
    (20, 8),
    (1068, 8),
    (1076, 8),
    (1084, 8),
    (1092, 4),
    (1096, 4),
    (1100, 8),
    (2148, 4),
    (2152, 8),
    (2160, 8),
    (2168, 4),
    (2172, 4),
    (2176, 4),
    (2180, 4),
    (2184, 4),
    (2188, 4),
    (2192, 4),
    (2196, 4),
    (2200, 4),
    (2204, 4),
    (2208, 4),
    (2212, 8),
    (2220, 8),
    (2228, 8),
    (4284, 8),
    (4292, 8),
    (4300, 4),
    (4304, 4),
    (4316, 4),
];

/// Indices of the fields for offsets and sizes. Half of all changes go to these.
const SIZES: [usize; 12] = [3, 4, 5, 6, 7, 8, 24, 25, 26, 27, 28, 29];

/// Offsets of `base_img`, `data_file` and `clean_shutdown`.
const BASE_IMG: usize = 28;
const DATA_FILE: usize = 1108;
const CLEAN: usize = 4300;

/// Breaks the bytes of an image in one to four places. Returns the length that the file must have.
pub(crate) fn mutate(rng: &mut Rng, sample: &mut Sample) -> u64 {
    let regions = Regions::of(&sample.file);
    let whole = sample.file[..RAW_SIZE].to_vec();
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
        put(&mut sample.file, CLEAN, &0_u32.to_le_bytes());
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
    if let Ok(copy) = redo::encode(old, &region[..RAW_SIZE]) {
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
        let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("8 bytes")) as usize;
        Self {
            bitmap: (number(1076), number(1084)),
            table: (number(2212), if number(2212) > 0 { 4096 } else { 0 }),
            journal: (number(4284), number(4292)),
        }
    }
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
    let any = if rng.bool() {
        SIZES[rng.usize(..SIZES.len())]
    } else {
        rng.usize(..FIELDS.len())
    };
    let (at, len) = FIELDS[any];
    let old = file.get(at..at + len).map_or(0, |bytes| {
        let mut word = [0; 8];
        word[..len].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    });
    let value = match rng.u32(..8) {
        0 => old.wrapping_add(4096),
        1 => old.wrapping_sub(4096),
        2 => old.wrapping_mul(2),
        3 => {
            // The value of another field.
            let (other, len) = FIELDS[rng.usize(..FIELDS.len())];
            let mut word = [0; 8];
            if let Some(bytes) = file.get(other..other + len) {
                word[..len].copy_from_slice(bytes);
            }
            u64::from_le_bytes(word)
        }
        _ => number(rng),
    };
    put(file, at, &value.to_le_bytes()[..len]);
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
    let at = if rng.bool() { BASE_IMG } else { DATA_FILE };
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
