use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::format::{Layout, LayoutOptions};

const MIB: u64 = 1 << 20;

/// A compact disk of 24 MiB on a base of 16 MiB: header, bitmap, table and journal, then data at byte
/// 16793600.
fn header() -> Header {
    let options = LayoutOptions {
        virtual_size: 24 * MIB,
        base_size: Some(16 * MIB),
        block_size: Some(65536),
        compact: true,
        ..LayoutOptions::default()
    };
    let mut header = Layout::compute(&options).expect("legal").header();
    header.base_img = "base.raw".into();
    header
}

fn with(change: impl FnOnce(&mut Header)) -> Result<Geometry> {
    let mut header = header();
    change(&mut header);
    Geometry::new(&header, 1 << 40)
}

/// Asserts that the changed header is refused, and that the message contains each of `words`.
fn refused(words: &[&str], change: impl FnOnce(&mut Header)) {
    let error = with(change).expect_err(words[0]);
    assert_eq!(error.kind(), ErrorKind::InvalidImage);
    for word in words {
        assert!(error.to_string().contains(word), "{error} does not say {word}");
    }
}

fn accepted(change: impl FnOnce(&mut Header)) -> Geometry {
    with(change).expect("legal")
}

#[test]
fn a_geometry_holds_what_the_header_says() {
    let expected = Geometry {
        virtual_size: 25_165_824,
        base_size: 16_777_216,
        block_size: 65536,
        blocks: 256,
        bitmap: Some(Region {
            offset: 8192,
            size: 4096,
        }),
        chunk_size: 1_048_576,
        chunks: 24,
        table: Some(Region {
            offset: 12288,
            size: 4096,
        }),
        journal: Some(Region {
            offset: 16384,
            size: 16_777_216,
        }),
        profile: None,
        profile_unit: 0,
        profile_entries: 0,
        data_offset: 16_793_600,
        metadata_end: 16_793_600,
    };
    assert_eq!(Geometry::new(&header(), 16_793_600).expect("legal"), expected);
}

#[test]
fn sizes_that_are_no_multiple_of_their_unit_are_refused() {
    refused(&["virtual_disk_size is 25165825", "512"], |h| {
        h.virtual_disk_size += 1;
    });
    refused(&["base_img_size is 16776705", "512"], |h| {
        h.base_img_size -= 511;
    });
    refused(&["block_size is 65537", "512"], |h| h.block_size += 1);
    refused(&["block_size is 0"], |h| h.block_size = 0);
    refused(&["chunk_size is 1049088", "4096"], |h| h.chunk_size += 512);
    refused(&["chunk_size is 0"], |h| h.chunk_size = 0);
    refused(&["bitmap_size is 4608", "4096"], |h| h.bitmap_size += 512);
    refused(&["journal_size is 16776704", "4096"], |h| {
        h.journal_size -= 512;
    });
}

#[test]
fn regions_not_aligned_to_a_page_are_refused() {
    refused(&["bitmap_offset is 8704", "4096"], |h| {
        h.bitmap_offset += 512;
    });
    refused(&["table_offset is 12800", "4096"], |h| {
        h.table_offset += 512;
    });
    refused(&["journal_offset is 16896", "4096"], |h| {
        h.journal_offset += 512;
    });
}

#[test]
fn regions_inside_the_header_are_refused() {
    refused(&["bitmap_offset is 4096", "header"], |h| {
        h.bitmap_offset = 4096;
    });
    refused(&["table_offset is 0", "header"], |h| h.table_offset = 0);
    refused(&["journal_offset is 4096", "header"], |h| {
        h.journal_offset = 4096;
    });
}

#[test]
fn regions_that_overlap_are_refused() {
    refused(&["bitmap_offset is 8192", "table_offset 12288"], |h| {
        h.bitmap_size = 8192;
    });
    refused(&["bitmap_offset is 8192", "table_offset 8192"], |h| {
        h.table_offset = 8192;
    });
    refused(&["table_offset is 12288", "journal_offset 12288"], |h| {
        h.journal_offset = 12288;
    });
    refused(&["bitmap_offset is 16384", "journal"], |h| {
        h.bitmap_offset = 16384;
    });
}

#[test]
fn a_disk_too_large_for_its_table_is_refused() {
    accepted(|h| h.virtual_disk_size = 1024 * MIB);
    refused(&["table_offset is 12288", "needs 8192 bytes", "journal"], |h| {
        h.virtual_disk_size = 1024 * MIB + 512;
    });
}

#[test]
fn metadata_that_reaches_into_the_data_is_refused() {
    refused(&["metadata_size is 16793599", "journal", "16793600"], |h| {
        h.metadata_size -= 1;
    });
    refused(&["metadata_size is 0"], |h| h.metadata_size = 0);
    refused(&["metadata_size is 8191", "header", "8192"], |h| {
        (h.bitmap_size, h.journal_size, h.compact_image) = (0, 0, false);
        (h.all_data_in_fvd_img, h.metadata_size) = (true, 8191);
    });
}

#[test]
fn data_starts_at_metadata_size_rounded_down_to_a_sector() {
    let geometry = accepted(|h| h.metadata_size += 1023);
    assert_eq!(geometry.data_offset, 16_794_112);
    assert_eq!(geometry.metadata_end, 16_793_600);
}

#[test]
fn data_in_a_separate_file_starts_at_0() {
    assert_eq!(accepted(|h| h.data_file = "data.raw".into()).data_offset, 0);
    refused(&["metadata_size"], |h| {
        h.data_file = "data.raw".into();
        h.metadata_size = 8192;
    });
}

#[test]
fn a_file_that_ends_within_the_metadata_is_refused() {
    for (file_len, region) in [(16_793_599, "journal"), (8192, "journal"), (0, "journal")] {
        let error = Geometry::new(&header(), file_len).expect_err("truncated");
        assert_eq!(error.kind(), ErrorKind::InvalidImage);
        assert!(
            error.to_string().contains(&format!("the {region} ends at 16793600")),
            "{error}"
        );
    }
    let options = LayoutOptions {
        virtual_size: MIB,
        ..LayoutOptions::default()
    };
    let plain = Layout::compute(&options).expect("legal").header();
    assert!(Geometry::new(&plain, 8192).is_ok());
    let error = Geometry::new(&plain, 8191).expect_err("truncated");
    assert!(
        error.to_string().contains("the header ends at 8192, the file at 8191"),
        "{error}"
    );
}

#[test]
fn a_base_larger_than_the_disk_is_refused() {
    accepted(|h| h.base_img_size = h.virtual_disk_size);
    refused(&["base_img_size is 25166336", "virtual_disk_size, 25165824"], |h| {
        h.base_img_size = h.virtual_disk_size + 512;
    });
}

#[test]
fn a_bitmap_too_small_for_the_base_is_refused() {
    accepted(|h| h.block_size = 512);
    refused(&["bitmap_size is 4096", "base_img_size 16777728", "needs 4097"], |h| {
        (h.block_size, h.base_img_size) = (512, 16 * MIB + 512);
    });
}

#[test]
fn a_base_in_use_without_a_bitmap_is_refused() {
    refused(&["bitmap_size is 0", "all_data_in_fvd_img"], |h| {
        h.bitmap_size = 0;
    });
    let geometry = accepted(|h| (h.bitmap_size, h.all_data_in_fvd_img) = (0, true));
    assert_eq!((geometry.bitmap, geometry.block_size, geometry.blocks), (None, 0, 0));
    assert_eq!(geometry.base_size, 16 * MIB);
    accepted(|h| (h.bitmap_size, h.base_img_size) = (0, 0));
}

#[test]
fn a_bitmap_without_a_base_only_takes_room() {
    let geometry = accepted(|h| (h.base_img, h.all_data_in_fvd_img) = ("".into(), true));
    assert_eq!((geometry.bitmap, geometry.block_size, geometry.blocks), (None, 0, 0));
    assert_eq!(geometry.base_size, 0);
    refused(&["bitmap_offset is 12288", "table"], |h| {
        (h.base_img, h.all_data_in_fvd_img, h.bitmap_offset) = ("".into(), true, 12288);
    });
}

#[test]
fn a_base_in_use_must_have_a_name() {
    refused(&["base_img_size is 16777216", "base_img is empty"], |h| {
        h.base_img = "".into();
    });
    accepted(|h| (h.base_img, h.base_img_size) = ("".into(), 0));
}

#[test]
fn the_bitmap_stays_when_all_data_is_local() {
    let geometry = accepted(|h| h.all_data_in_fvd_img = true);
    assert_eq!((geometry.block_size, geometry.blocks), (65536, 256));
    assert!(geometry.bitmap.is_some());
}

#[test]
fn unused_fields_may_hold_any_value() {
    let geometry = accepted(|h| {
        h.compact_image = false;
        (h.table_offset, h.chunk_size, h.storage_grow_unit) = (1, 1, 0);
        (h.journal_offset, h.journal_size) = (3, 0);
    });
    assert_eq!((geometry.table, geometry.chunk_size, geometry.chunks), (None, 0, 0));
    assert_eq!(geometry.journal, None);
}

#[test]
fn an_empty_disk_has_an_empty_table() {
    let geometry = accepted(|h| (h.virtual_disk_size, h.base_img_size) = (0, 0));
    assert_eq!(geometry.table, Some(Region { offset: 12288, size: 0 }));
    assert_eq!((geometry.chunks, geometry.blocks), (0, 0));
}

/// The header with one page for a profile after the journal, at byte 16793600.
fn with_profile(change: impl FnOnce(&mut Header)) -> Result<Geometry> {
    with(|h| {
        h.prefetch_profile_offset = h.metadata_size;
        h.metadata_size += 4096;
        change(h);
    })
}

fn profile_refused(words: &[&str], change: impl FnOnce(&mut Header)) {
    refused(words, |h| {
        h.prefetch_profile_offset = h.metadata_size;
        h.metadata_size += 4096;
        change(h);
    });
}

#[test]
fn a_profile_ends_at_the_next_region_or_with_the_metadata() {
    let geometry = with_profile(|h| h.metadata_size += 4095).expect("legal");
    let region = Region {
        offset: 16_793_600,
        size: 4096,
    };
    assert_eq!((geometry.profile, geometry.profile_unit), (Some(region), 4096));
    assert_eq!(geometry.metadata_end, 16_797_696);
    let geometry = with_profile(|h| {
        (h.prefetch_profile_offset, h.journal_offset) = (h.journal_offset, h.journal_offset + 8192);
        h.metadata_size += 8192;
    });
    let region = Region {
        offset: 16384,
        size: 8192,
    };
    assert_eq!(geometry.expect("legal").profile, Some(region));
}

#[test]
fn a_profile_inside_or_outside_other_metadata_is_refused() {
    profile_refused(&["prefetch_profile_offset is 16794112", "4096"], |h| {
        h.prefetch_profile_offset += 512;
    });
    profile_refused(&["prefetch_profile_offset is 4096", "header"], |h| {
        h.prefetch_profile_offset = 4096;
    });
    profile_refused(&["prefetch_profile_offset is 12288", "table"], |h| {
        h.prefetch_profile_offset = 12288;
    });
    profile_refused(&["journal_offset is 16384", "prefetch_profile_offset 20480"], |h| {
        h.prefetch_profile_offset = 20480;
    });
    profile_refused(&["prefetch_profile_offset is 16797696", "metadata_size"], |h| {
        h.prefetch_profile_offset += 4096;
    });
    profile_refused(&["prefetch_profile_offset is 16793600", "metadata_size"], |h| {
        h.metadata_size -= 1;
    });
    profile_refused(&["prefetch_profile_offset is 9223372036854771712"], |h| {
        h.prefetch_profile_offset = i64::MAX as u64 - 4095;
    });
    let header = {
        let mut header = header();
        header.prefetch_profile_offset = header.metadata_size;
        header.metadata_size += 4096;
        header
    };
    let error = Geometry::new(&header, 16_797_695).expect_err("truncated");
    assert!(error.to_string().contains("the prefetch_profile ends at"), "{error}");
}

#[test]
fn more_entries_than_the_profile_region_holds_are_refused() {
    let geometry = with_profile(|h| h.prefetch_profile_entries = 341).expect("legal");
    assert_eq!(geometry.profile_entries, 341);
    profile_refused(&["prefetch_profile_entries is 342", "4096 bytes"], |h| {
        h.prefetch_profile_entries = 342;
    });
    profile_refused(&["prefetch_profile_entries is 9223372036854775807"], |h| {
        h.prefetch_profile_entries = i64::MAX as u64;
    });
    refused(
        &["prefetch_profile_entries is 1", "prefetch_profile_offset is 0"],
        |h| {
            h.prefetch_profile_entries = 1;
        },
    );
    // A huge region does not allow a huge profile: 16 MiB is the limit.
    let most = (16 << 20) / 12;
    assert!(
        with_profile(|h| {
            h.metadata_size += 1 << 30;
            h.prefetch_profile_entries = most;
        })
        .is_ok()
    );
    profile_refused(&["prefetch_profile_entries is 1398102"], |h| {
        h.metadata_size += 1 << 30;
        h.prefetch_profile_entries = most + 1;
    });
}

#[test]
fn an_invalid_unit_of_profile_lengths_is_refused() {
    for unit in [0, -1, i32::MIN, 4097] {
        let words = format!("unit_of_PrefetchProfileEntry_len is {unit}");
        profile_refused(&[&words], |h| h.unit_of_prefetch_profile_entry_len = unit);
        accepted(|h| h.unit_of_prefetch_profile_entry_len = unit);
    }
}

#[test]
fn a_profile_without_a_base_only_takes_room() {
    let geometry = with_profile(|h| (h.base_img, h.all_data_in_fvd_img) = ("".into(), true));
    let geometry = geometry.expect("legal");
    assert_eq!((geometry.profile, geometry.profile_unit), (None, 0));
    assert_eq!(geometry.metadata_end, 16_797_696);
}

#[test]
fn more_chunks_than_a_u32_counts_are_refused() {
    const CHUNKS: u64 = u32::MAX as u64;
    let large = |chunks: u64| {
        with(|h| {
            h.virtual_disk_size = chunks * 4096;
            h.chunk_size = 4096;
            h.table_offset = h.metadata_size;
            h.metadata_size += 16 << 30;
        })
    };
    assert_eq!(large(CHUNKS).expect("legal").chunks, CHUNKS);
    let error = large(CHUNKS + 1).expect_err("too many");
    assert!(
        error.to_string().contains("virtual_disk_size is 17592186044416"),
        "{error}"
    );
    assert!(error.to_string().contains("chunk_size 4096"), "{error}");
}

#[test]
fn sizes_near_the_largest_number_do_not_overflow() {
    const TOP: u64 = i64::MAX as u64;
    const PAGE_TOP: u64 = TOP - TOP % PAGE;
    refused(&["bitmap_size is 9223372036854771712"], |h| {
        h.bitmap_size = PAGE_TOP;
    });
    refused(&["bitmap_size is 4096"], |h| h.bitmap_offset = PAGE_TOP);
    refused(&["journal_size is 9223372036854771712"], |h| {
        h.journal_size = PAGE_TOP;
    });
    refused(&["table_offset is 9223372036854771712"], |h| {
        h.table_offset = PAGE_TOP;
    });
    refused(&["virtual_disk_size is 9223372036854775296"], |h| {
        (h.compact_image, h.virtual_disk_size) = (false, TOP - 511);
    });
    refused(&["virtual_disk_size is 25165824", "metadata_size"], |h| {
        h.metadata_size = TOP;
    });
    refused(&["virtual_disk_size", "metadata_size"], |h| {
        (h.chunk_size, h.virtual_disk_size) = (PAGE_TOP, TOP - 511);
    });
    let geometry = accepted(|h| {
        (h.compact_image, h.virtual_disk_size) = (false, TOP - 511);
        h.data_file = "data.raw".into();
    });
    assert_eq!(geometry.virtual_size, TOP - 511);
}

#[test]
fn a_bitmap_beyond_the_limit_of_memory_is_unsupported() {
    let change = |size: u64| {
        with(|h| {
            (h.bitmap_offset, h.bitmap_size) = (h.metadata_size, size);
            h.metadata_size += size;
        })
    };
    assert!(change(64 << 30).is_ok());
    let error = change((64 << 30) + 4096).expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("bitmap_size is 68719480832"), "{error}");
}

proptest! {
    #[test]
    fn every_layout_makes_a_header_that_is_accepted(
        virtual_size in 0_u64..1 << 44,
        base_size in prop::option::of(0_u64..1 << 44),
        block_size in prop::option::of(4096_u64..1 << 31),
        compact in any::<bool>(),
        chunk_size in prop::option::of((1_u64 << 14)..1 << 40),
        journal_size in prop::option::of(-4096_i64..1 << 30),
        prefetch_profile_size in prop::option::of(0_u64..1 << 20),
        data_file in any::<bool>(),
    ) {
        let options = LayoutOptions {
            virtual_size, base_size, block_size, compact, chunk_size, journal_size,
            storage_grow_unit: None, prefetch_profile_size,
        };
        let Ok(layout) = Layout::compute(&options) else {
            prop_assert!(block_size.is_some_and(|size| size > i32::MAX as u64 - 511));
            return Ok(());
        };
        let mut header = layout.header();
        if base_size.is_some() {
            header.base_img = "base.raw".into();
        }
        if data_file {
            header.data_file = "data.raw".into();
        }
        let geometry = Geometry::new(&header, layout.metadata_size).expect("our own layout");
        prop_assert_eq!(geometry.bitmap, layout.bitmap);
        prop_assert_eq!(geometry.table, layout.table);
        prop_assert_eq!(geometry.journal, layout.journal);
        prop_assert_eq!(geometry.profile, layout.profile);
        prop_assert_eq!(geometry.base_size, layout.base_img_size);
        prop_assert_eq!(geometry.data_offset % 512, 0);
        let metadata_end = if data_file { 0 } else { geometry.metadata_end };
        prop_assert!(geometry.data_offset >= metadata_end);
    }
}
