use proptest::prelude::*;

use super::*;
use crate::format::StorageChunk;

/// A sector that the original driver wrote: two table entries, then the bitmap range of the same write.
const TABLE_THEN_BITMAP: [u8; 36] = [
    0xAC, 0xF7, 0xE6, 0xB4, 0xD3, 0x02, 0, 0, 2, 0, 0, 0, // entries 723 and 724
    0, 0, 0, 0x80, 1, 0, 0, 0x80, // storage chunks 0 and 1, dirty
    0xED, 0xB8, 0x2A, 0x3F, 0x13, 0, 0, 0, // 19 sectors
    0x79, 0x5A, 0, 0, 0, 0, 0, 0, // from sector 23161 on
];

fn sector(bytes: &[u8]) -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..bytes.len()].copy_from_slice(bytes);
    sector
}

fn table(first: u32, count: usize) -> TableRecord {
    TableRecord {
        first,
        entries: vec![Entry::allocated(StorageChunk::new(7)); count],
    }
}

const BITMAP: BitmapRecord = BitmapRecord {
    first_sector: 23161,
    sectors: 19,
};

#[test]
fn a_sector_of_the_original_driver_is_understood() {
    let entries = vec![
        Entry::allocated(StorageChunk::new(0)),
        Entry::allocated(StorageChunk::new(1)),
    ];
    assert_eq!(
        decode_sector(&sector(&TABLE_THEN_BITMAP)),
        [
            Record::Table(TableRecord { first: 723, entries }),
            Record::Bitmap(BITMAP)
        ]
    );
}

#[test]
fn a_sector_is_written_as_the_original_driver_lays_it_out() {
    let record = TableRecord {
        first: 723,
        entries: vec![
            Entry::allocated(StorageChunk::new(0)),
            Entry::allocated(StorageChunk::new(1)),
        ],
    };
    let mut clean = sector(&TABLE_THEN_BITMAP);
    clean[15] = 0;
    clean[19] = 0;
    assert_eq!(encode_sector(Some(&record), Some(&BITMAP)), clean);
}

#[test]
fn an_empty_sector_holds_nothing() {
    assert_eq!(encode_sector(None, None), [0; 512]);
    assert_eq!(decode_sector(&[0; 512]), []);
    assert_eq!(decode_sector(&[0xFF; 512]), []);
}

#[test]
fn a_bitmap_record_ends_its_sector() {
    let mut bytes = encode_sector(None, Some(&BITMAP));
    let another = encode_sector(Some(&table(0, 3)), None);
    bytes[16..].copy_from_slice(&another[..496]);
    assert_eq!(decode_sector(&bytes), [Record::Bitmap(BITMAP)]);
}

#[test]
fn garbage_after_a_table_record_is_ignored() {
    let mut bytes = encode_sector(Some(&table(9, 2)), None);
    bytes[20..].fill(0x6B);
    assert_eq!(decode_sector(&bytes), [Record::Table(table(9, 2))]);
}

#[test]
fn an_exactly_full_sector_needs_no_terminator() {
    let full = table(u32::MAX, MAX_ENTRIES);
    let bytes = encode_sector(Some(&full), None);
    assert_ne!(bytes[508..], [0; 4]);
    assert_eq!(decode_sector(&bytes), [Record::Table(full)]);

    let full = table(0, MAX_ENTRIES_WITH_BITMAP);
    let bytes = encode_sector(Some(&full), Some(&BITMAP));
    assert_eq!(bytes[496..500], BITMAP_MAGIC.to_le_bytes());
    assert_eq!(decode_sector(&bytes), [Record::Table(full), Record::Bitmap(BITMAP)]);
}

#[test]
fn a_count_beyond_the_sector_ends_it() {
    for count in [126_u32, 0x4000_0000, u32::MAX] {
        let mut bytes = encode_sector(Some(&table(0, MAX_ENTRIES)), None);
        bytes[8..12].copy_from_slice(&count.to_le_bytes());
        assert_eq!(decode_sector(&bytes), [], "{count}");
    }
}

#[test]
fn a_bitmap_record_that_does_not_fit_is_ignored() {
    let full = table(0, MAX_ENTRIES_WITH_BITMAP + 1);
    let mut bytes = encode_sector(Some(&full), None);
    bytes[500..504].copy_from_slice(&BITMAP_MAGIC.to_le_bytes());
    assert_eq!(decode_sector(&bytes), [Record::Table(full)]);
}

#[test]
fn a_negative_first_sector_ends_the_sector() {
    let mut bytes = encode_sector(None, Some(&BITMAP));
    bytes[15] = 0x80;
    assert_eq!(decode_sector(&bytes), []);
}

#[test]
#[should_panic(expected = "room for 125 entries")]
fn more_entries_than_a_sector_holds_panic() {
    let _ = encode_sector(Some(&table(0, MAX_ENTRIES + 1)), None);
}

#[test]
#[should_panic(expected = "room for 121 entries")]
fn a_bitmap_record_takes_the_room_of_four_entries() {
    let _ = encode_sector(Some(&table(0, MAX_ENTRIES_WITH_BITMAP + 1)), Some(&BITMAP));
}

#[test]
#[should_panic(expected = "at most 2^63 bytes")]
fn a_first_sector_beyond_i64_panics() {
    let _ = encode_sector(
        None,
        Some(&BitmapRecord {
            first_sector: 1 << 63,
            sectors: 1,
        }),
    );
}

prop_compose! {
    fn tables(max: usize)(
        first in any::<u32>(),
        entries in prop::collection::vec(any::<u32>().prop_map(Entry::from_disk), 0..=max),
    ) -> TableRecord {
        TableRecord { first, entries }
    }
}

prop_compose! {
    fn bitmaps()(first_sector in 0..=i64::MAX as u64, sectors in any::<u32>()) -> BitmapRecord {
        BitmapRecord { first_sector, sectors }
    }
}

proptest! {
    #[test]
    fn records_come_back_as_they_were_written(
        table in prop::option::of(tables(MAX_ENTRIES_WITH_BITMAP)),
        bitmap in prop::option::of(bitmaps()),
    ) {
        let bytes = encode_sector(table.as_ref(), bitmap.as_ref());
        let expected: Vec<_> = table.map(Record::Table).into_iter()
            .chain(bitmap.map(Record::Bitmap))
            .collect();
        prop_assert_eq!(decode_sector(&bytes), expected);
    }

    #[test]
    fn a_table_record_alone_may_fill_the_sector(table in tables(MAX_ENTRIES)) {
        let bytes = encode_sector(Some(&table), None);
        prop_assert_eq!(decode_sector(&bytes), [Record::Table(table)]);
    }

    #[test]
    fn arbitrary_sectors_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 512),
                                     magic in prop::option::of(any::<bool>())) {
        if let Some(table) = magic {
            let magic = if table { TABLE_MAGIC } else { BITMAP_MAGIC };
            bytes[..4].copy_from_slice(&magic.to_le_bytes());
            bytes[9..12].fill(0);
        }
        let sector: [u8; 512] = bytes.try_into().expect("512 bytes");
        prop_assert!(decode_sector(&sector).len() <= 512 / TABLE_HEAD_LEN);
    }
}
