//! Mutates valid headers and journal sectors: nothing panics, and accepted ones are sound.

use std::ops::Range;

use fastrand::Rng;
use fvd::format::journal::{self, decode_sector, encode_sector};
use fvd::format::{BitmapRecord, Entry, Geometry, HEADER_SIZE, Header, Layout, LayoutOptions, Record, TableRecord};

use super::seeds;

/// The fields that decide where regions are and how large they are, and whether there is a base.
const SIZE_FIELDS: [&str; 16] = [
    "all_data_in_fvd_img",
    "virtual_disk_size",
    "metadata_size",
    "base_img_size",
    "bitmap_offset",
    "bitmap_size",
    "block_size",
    "compact_image",
    "table_offset",
    "chunk_size",
    "journal_offset",
    "journal_size",
    "prefetch_profile_offset",
    "prefetch_profile_entries",
    "unit_of_PrefetchProfileEntry_len",
    "base_img",
];

/// The bytes of an image that the field takes.
pub(crate) fn place(name: &str) -> Range<usize> {
    let mut places = Header::places();
    let found = places.find(|(field, _)| *field == name);
    found.expect("a name of the format").1
}

/// Calls `run` once per iteration.
fn fuzz(run: impl Fn(&mut Rng)) {
    seeds::fuzz(20_000, run);
}

/// A number. 0, the largest one and neighbours of powers of two are as likely as all others.
fn number(rng: &mut Rng) -> u64 {
    let power = 1_u64 << rng.u32(..64);
    match rng.u32(..8) {
        0 => 0,
        1 => u64::MAX >> rng.u32(..3),
        2 => power,
        3 => power - 1,
        4 => power.wrapping_add(512),
        5 => rng.u64(..1 << 20) * 4096,
        6 => rng.u64(..1 << 16) * 512,
        _ => rng.u64(..),
    }
}

fn valid_header(rng: &mut Rng) -> (Header, u64) {
    let most = 1 << rng.u32(10..44);
    let options = LayoutOptions {
        virtual_size: rng.u64(..most),
        base_size: rng.bool().then(|| rng.u64(..1 << 40)),
        block_size: rng.bool().then(|| rng.u64(4096..1 << 22)),
        compact: rng.bool(),
        chunk_size: rng.bool().then(|| rng.u64(1 << 14..1 << 30)),
        storage_grow_unit: None,
        journal_size: rng.bool().then(|| rng.i64(-1..1 << 24)),
        prefetch_profile_size: rng.bool().then(|| rng.u64(..1 << 20)),
    };
    let layout = Layout::compute(&options).expect("within every limit");
    let mut header = layout.header();
    if layout.has_base {
        header.base_img = "base.raw".into();
    }
    if rng.bool() {
        header.data_file = "data.raw".into();
    }
    (header, layout.metadata_size)
}

fn mutate(rng: &mut Rng, bytes: &mut [u8]) {
    for _ in 0..rng.usize(..4) {
        match rng.u32(..4) {
            0 => {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            1 => {
                let at = rng.usize(..bytes.len());
                bytes[at] ^= 1 << rng.u32(..8);
            }
            _ => {
                let place = place(SIZE_FIELDS[rng.usize(..SIZE_FIELDS.len())]);
                let value = number(rng).to_le_bytes();
                let len = place.len().min(value.len());
                bytes[place.start..][..len].copy_from_slice(&value[..len]);
            }
        }
    }
}

#[test]
fn a_mutated_header_is_refused_or_sound() {
    fuzz(|rng| {
        let (header, metadata_size) = valid_header(rng);
        let mut bytes = header.encode().expect("valid");
        mutate(rng, &mut bytes);
        if rng.u32(..16) == 0 {
            bytes.truncate(rng.usize(..bytes.len()));
        }
        let file_len = if rng.bool() { metadata_size } else { number(rng) };
        any_header(&[&file_len.to_le_bytes()[..], &bytes].concat());
    });
}

/// Decodes a header that comes after the length of its file, a number of 8 bytes.
pub(crate) fn any_header(data: &[u8]) {
    let Some((file_len, bytes)) = data.split_first_chunk() else {
        return;
    };
    let file_len = u64::from_le_bytes(*file_len);
    let Ok(header) = Header::decode(bytes) else {
        return;
    };
    let again = header.encode().expect("it came from bytes");
    assert_eq!(Header::decode(&again).expect("it was just encoded"), header);
    if let Ok(geometry) = Geometry::new(&header, file_len) {
        assert_sound(&header, &geometry, file_len);
    }
}

fn assert_sound(header: &Header, geometry: &Geometry, file_len: u64) {
    let top = i64::MAX.unsigned_abs();
    let regions = [geometry.bitmap, geometry.table, geometry.journal, geometry.profile];
    let mut regions: Vec<_> = regions.into_iter().flatten().collect();
    regions.sort_by_key(|region| (region.offset, region.size));
    let mut end = HEADER_SIZE;
    for region in regions {
        assert!(region.offset.is_multiple_of(4096) && region.size.is_multiple_of(4096));
        assert!(region.offset >= end, "regions overlap: {geometry:?}");
        end = region.offset.checked_add(region.size).expect("ends inside the file");
    }
    assert!(end <= geometry.metadata_end && geometry.metadata_end <= file_len);
    assert!(geometry.metadata_end <= header.metadata_size);

    assert!(geometry.virtual_size.is_multiple_of(512));
    assert!(geometry.base_size.is_multiple_of(512) && geometry.base_size <= geometry.virtual_size);
    assert_eq!(geometry.bitmap.is_some(), geometry.block_size > 0);
    match geometry.bitmap {
        Some(region) => {
            assert!(geometry.blocks.div_ceil(8) <= region.size && region.size <= 64 << 30);
            assert_eq!(geometry.blocks, geometry.base_size.div_ceil(geometry.block_size));
        }
        None => assert!(header.all_data_in_fvd_img || geometry.base_size == 0),
    }
    assert_eq!(geometry.profile.is_some(), geometry.profile_unit > 0);
    let profile_size = geometry.profile.map_or(0, |region| region.size);
    assert!(geometry.profile_entries <= profile_size / 12);
    assert_eq!(geometry.table.is_some(), header.compact_image);
    let mut data_size = geometry.virtual_size;
    if let Some(region) = geometry.table {
        assert!(geometry.chunk_size > 0 && geometry.chunk_size.is_multiple_of(4096));
        assert!(u32::try_from(geometry.chunks).is_ok() && geometry.chunks * 4 <= region.size);
        data_size = geometry.chunks.checked_mul(geometry.chunk_size).expect("checked");
        assert!(data_size >= geometry.virtual_size);
    }
    if header.data_file.is_empty() {
        assert!(geometry.data_offset >= geometry.metadata_end);
        assert!(geometry.data_offset.is_multiple_of(512));
    } else {
        assert_eq!(geometry.data_offset, 0);
    }
    assert!(
        geometry
            .data_offset
            .checked_add(data_size)
            .is_some_and(|data_end| data_end <= top)
    );
}

#[test]
fn a_valid_header_that_was_not_mutated_is_accepted() {
    fuzz(|rng| {
        let (header, metadata_size) = valid_header(rng);
        let geometry = Geometry::new(&header, metadata_size).expect("valid");
        assert_sound(&header, &geometry, metadata_size);
    });
}

#[test]
fn a_mutated_journal_sector_gives_only_records_that_fit() {
    fuzz(|rng| {
        let count = rng.usize(..=journal::MAX_ENTRIES_WITH_BITMAP);
        let entries = (0..count).map(|_| Entry::from_disk(rng.u32(..))).collect();
        let table = TableRecord {
            first: rng.u32(..),
            entries,
        };
        let bitmap = BitmapRecord {
            first_sector: rng.u64(..1 << 54),
            sectors: rng.u32(..),
        };
        let table = rng.bool().then_some(&table);
        let bitmap = rng.bool().then_some(&bitmap);
        let mut sector = encode_sector(table, bitmap);
        for _ in 0..rng.usize(..4) {
            // The heads of the records matter most.
            let at = if rng.bool() {
                rng.usize(..16)
            } else {
                rng.usize(..sector.len())
            };
            sector[at] = rng.u8(..);
        }
        any_journal_sector(&sector);
    });
}

/// Decodes a sector of a journal.
pub(crate) fn any_journal_sector(data: &[u8]) {
    let Some(sector) = data.first_chunk() else {
        return;
    };
    let mut len = 0;
    let records = decode_sector(sector);
    for (n, record) in records.iter().enumerate() {
        len += match record {
            Record::Table(record) => 12 + 4 * record.entries.len(),
            Record::Bitmap(record) => {
                assert!(i64::try_from(record.first_sector).is_ok());
                assert_eq!(n + 1, records.len(), "a bitmap record is the last");
                16
            }
        };
    }
    assert!(len <= sector.len());
}
