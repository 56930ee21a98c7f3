use super::*;
use crate::error::ErrorKind;

const MIB: u64 = 1 << 20;
const BASE: u64 = 16 * MIB;

/// The header of an image that the original driver made with `options`.
struct Original {
    name: &'static str,
    options: LayoutOptions,
    metadata_size: u64,
    base_img_size: u64,
    /// Size, block size.
    bitmap: (u64, u64),
    table_offset: u64,
    /// Chunk size, grow unit.
    chunk: (u64, u64),
    /// Offset, size.
    journal: (u64, u64),
    bytes_per_prefetch: i32,
}

fn plain(virtual_size: u64) -> LayoutOptions {
    LayoutOptions {
        virtual_size,
        ..LayoutOptions::default()
    }
}

fn cow(virtual_size: u64, base_size: u64, block_size: u64) -> LayoutOptions {
    LayoutOptions {
        base_size: Some(base_size),
        block_size: Some(block_size).filter(|size| *size > 0),
        ..plain(virtual_size)
    }
}

fn compact(options: LayoutOptions, chunk_size: u64, grow_unit: u64, journal: i64) -> LayoutOptions {
    LayoutOptions {
        compact: true,
        chunk_size: Some(chunk_size).filter(|size| *size > 0),
        storage_grow_unit: Some(grow_unit),
        journal_size: Some(journal).filter(|size| *size != 0),
        ..options
    }
}

fn journal(options: LayoutOptions, size: i64) -> LayoutOptions {
    LayoutOptions {
        journal_size: Some(size),
        ..options
    }
}

/// The layouts of images that the original driver made.
#[rustfmt::skip]
fn originals() -> Vec<Original> {
    let row = |name, options, metadata_size, base_img_size, bitmap, table_offset, chunk, journal, bytes_per_prefetch| Original {
        name, options, metadata_size, base_img_size, bitmap, table_offset, chunk, journal, bytes_per_prefetch,
    };
    vec![
        row("plain", plain(24 * MIB), 8192, 0, (0, 0), 0, (0, 0), (0, 0), 0),
        row("empty plain", plain(64 * MIB), 8192, 0, (0, 0), 0, (0, 0), (0, 0), 0),
        row("compact", compact(plain(40 * MIB), 0, MIB, 0),
            16_789_504, 0, (0, 0), 8192, (MIB, MIB), (12288, 16 * MIB), 0),
        row("compact without a journal", compact(plain(20 * MIB), 0, 4 * MIB, -1),
            12288, 0, (0, 0), 8192, (MIB, 4 * MIB), (0, 0), 0),
        row("chunks of three pages", compact(plain(20 * MIB), 12288, 12288, 4096),
            24576, 0, (0, 0), 8192, (12288, 12288), (16384, 8192), 0),
        row("small chunks", compact(plain(24 * MIB), 65536, MIB, 65536),
            77824, 0, (0, 0), 8192, (65536, MIB), (12288, 65536), 0),
        row("4 TiB", compact(plain(4 << 40), 0, MIB, 0),
            34_533_376, 0, (0, 0), 8192, (MIB, MIB), (16_785_408, 17_747_968), 0),
        row("base", cow(24 * MIB, BASE, 0),
            16_789_504, BASE, (4096, 512), 0, (0, 0), (12288, 16 * MIB), 1 << 20),
        row("base with 64 KiB blocks", cow(24 * MIB, BASE, 65536),
            16_789_504, BASE, (4096, 65536), 0, (0, 0), (12288, 16 * MIB), 1 << 20),
        row("base larger than the disk", cow(8 * MIB, 12 * MIB, 4096),
            16_789_504, 8 * MIB, (4096, 4096), 0, (0, 0), (12288, 16 * MIB), 1 << 20),
        row("blocks of 15 sectors", journal(cow(24 * MIB, 15_729_152, 7680), 8192),
            20480, 15_729_152, (4096, 7680), 0, (0, 0), (12288, 8192), 1_052_160),
        row("base with a small journal", journal(cow(24 * MIB, BASE, 4096), 65536),
            77824, BASE, (4096, 4096), 0, (0, 0), (12288, 65536), 1 << 20),
        row("base, compact", compact(cow(24 * MIB, BASE, 65536), 262_144, MIB, 0),
            16_793_600, BASE, (4096, 65536), 12288, (262_144, MIB), (16384, 16 * MIB), 1 << 20),
        row("base, compact, small chunks", compact(cow(24 * MIB, BASE, 4096), 16384, MIB, 65536),
            86016, BASE, (4096, 4096), 12288, (16384, MIB), (20480, 65536), 1 << 20),
        row("base, compact, chunks of a page", compact(cow(24 * MIB, BASE, 512), 4096, MIB, 28672),
            65536, BASE, (4096, 512), 12288, (4096, MIB), (36864, 28672), 1 << 20),
    ]
}

#[test]
fn layouts_are_those_of_the_original_driver() {
    for case in originals() {
        // Our default block size is another one.
        let theirs = (case.bitmap.1 > 0).then_some(case.bitmap.1);
        let options = LayoutOptions {
            block_size: case.options.block_size.or(theirs),
            ..case.options
        };
        let header = Layout::compute(&options).expect(case.name).header();
        let name = case.name;
        let bitmap_offset = if case.bitmap.0 > 0 { 8192 } else { 0 };
        assert_eq!(header.virtual_disk_size, case.options.virtual_size, "{name}");
        assert_eq!(header.metadata_size, case.metadata_size, "{name}");
        assert_eq!(header.base_img_size, case.base_img_size, "{name}");
        assert_eq!(header.bitmap_offset, bitmap_offset, "{name}");
        assert_eq!((header.bitmap_size, header.block_size), case.bitmap, "{name}");
        assert_eq!(header.compact_image, case.table_offset > 0, "{name}");
        assert_eq!(header.table_offset, case.table_offset, "{name}");
        assert_eq!((header.chunk_size, header.storage_grow_unit), case.chunk, "{name}");
        assert_eq!((header.journal_offset, header.journal_size), case.journal, "{name}");
        assert_eq!(header.bytes_per_prefetch, case.bytes_per_prefetch, "{name}");
        assert_eq!(header.all_data_in_fvd_img, case.base_img_size == 0, "{name}");
        assert!(header.clean_shutdown, "{name}");
    }
}

#[test]
fn a_base_brings_the_defaults_of_prefetch_and_copy_on_read() {
    let header = Layout::compute(&cow(24 * MIB, BASE, 0)).expect("legal").header();
    assert_eq!(header.max_outstanding_copy_on_read_data, 2_000_000);
    assert_eq!(header.prefetch_start_delay, -1);
    assert_eq!(header.num_prefetch_slots, 2);
    assert_eq!(header.prefetch_read_throughput_measure_time, 100);
    assert_eq!(header.prefetch_write_throughput_measure_time, 100);
    assert_eq!(header.prefetch_perf_calc_alpha, 80);
    assert_eq!(header.prefetch_min_read_throughput, 5120);
    assert_eq!(header.prefetch_min_write_throughput, 5120);
    assert_eq!(header.prefetch_max_read_throughput, 1_000_000_000);
    assert_eq!(header.prefetch_max_write_throughput, 1_000_000_000);
    assert_eq!(header.prefetch_throttle_time, 30_000);
    assert_eq!(header.unit_of_prefetch_profile_entry_len, 4096);
    assert_eq!(header.profile_directed_prefetch_start_delay, -1);
}

#[test]
fn a_plain_image_has_nothing_but_its_size() {
    let encoded = Layout::compute(&plain(24 * MIB)).expect("legal").header().encode();
    let mut expected = vec![0; 8192];
    expected[..4].copy_from_slice(&[0xA9, 0xF5, 0x43, 0x51]);
    expected[4] = 1;
    expected[8] = 1;
    expected[12..20].copy_from_slice(&(24 * MIB).to_le_bytes());
    expected[20..28].copy_from_slice(&8192_u64.to_le_bytes());
    expected[4300] = 1;
    assert_eq!(encoded.expect("fits"), expected);
}

#[test]
fn an_odd_disk_and_an_odd_base_are_rounded_up() {
    let layout = Layout::compute(&cow(24 * MIB - 511, BASE + 1, 513)).expect("legal");
    assert_eq!(layout.virtual_size, 24 * MIB);
    assert_eq!(layout.base_img_size, BASE + 512);
    assert_eq!(layout.block_size, 1024);
    let layout = Layout::compute(&cow(1, u64::MAX, 0)).expect("legal");
    assert_eq!((layout.virtual_size, layout.base_img_size), (512, 512));
}

#[test]
fn chunks_and_the_journal_are_rounded_up_to_pages() {
    let layout = Layout::compute(&compact(plain(MIB), 4097, 1, 1)).expect("legal");
    assert_eq!((layout.chunk_size, layout.storage_grow_unit), (8192, 8192));
    assert_eq!(
        layout.journal,
        Some(Region {
            offset: 12288,
            size: 4096
        })
    );
}

#[test]
fn chunk_options_are_kept_as_given_in_an_image_without_a_table() {
    let options = LayoutOptions {
        chunk_size: Some(1000),
        storage_grow_unit: Some(7),
        ..plain(MIB)
    };
    let header = Layout::compute(&options).expect("legal").header();
    assert_eq!((header.chunk_size, header.storage_grow_unit), (1000, 7));
    assert!(!header.compact_image);
}

#[test]
fn an_unused_journal_size_still_takes_its_room() {
    let layout = Layout::compute(&journal(plain(MIB), 1000)).expect("legal");
    assert_eq!((layout.journal, layout.metadata_size), (None, 9192));
    let header = layout.header();
    assert_eq!((header.journal_offset, header.journal_size), (0, 0));
    for none in [0, -1, i64::MIN] {
        let layout = Layout::compute(&journal(plain(MIB), none)).expect("legal");
        assert_eq!((layout.journal, layout.metadata_size), (None, 8192));
    }
}

#[test]
fn the_profile_region_is_last_and_has_whole_pages() {
    let sized = |size, options| LayoutOptions {
        prefetch_profile_size: Some(size),
        ..options
    };
    let layout = Layout::compute(&sized(4097, journal(cow(24 * MIB, BASE, 4096), 65536))).expect("legal");
    let region = Region {
        offset: 77824,
        size: 8192,
    };
    assert_eq!((layout.profile, layout.metadata_size), (Some(region), 77824 + 8192));
    let header = layout.header();
    assert_eq!(
        (header.prefetch_profile_offset, header.prefetch_profile_entries),
        (77824, 0)
    );
    for none in [
        sized(0, cow(MIB, MIB, 0)),
        sized(4096, cow(MIB, 0, 0)),
        sized(4096, plain(MIB)),
    ] {
        assert_eq!(Layout::compute(&none).expect("legal").profile, None);
    }
    assert!(Layout::compute(&sized(16 << 20, cow(MIB, MIB, 0))).is_ok());
    refused(
        &["prefetch_profile_size is 16777217", "16777216"],
        &sized((16 << 20) + 1, cow(MIB, MIB, 0)),
    );
}

#[test]
fn an_empty_disk_is_legal() {
    let layout = Layout::compute(&plain(0)).expect("legal");
    assert_eq!((layout.virtual_size, layout.metadata_size), (0, 8192));
    let layout = Layout::compute(&compact(plain(0), 0, MIB, -1)).expect("legal");
    assert_eq!(layout.table, Some(Region { offset: 8192, size: 0 }));
    assert!(layout.header().compact_image);
    for empty in [cow(0, BASE, 0), cow(MIB, 0, 0)] {
        let layout = Layout::compute(&empty).expect("legal");
        assert_eq!((layout.bitmap, layout.journal, layout.block_size), (None, None, 4096));
        assert!(layout.header().all_data_in_fvd_img);
    }
}

fn refused(words: &[&str], options: &LayoutOptions) {
    let error = Layout::compute(options).expect_err(words[0]);
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    for word in words {
        assert!(error.to_string().contains(word), "{error} does not say {word}");
    }
}

#[test]
fn sizes_of_zero_are_refused_by_name() {
    let options = cow(MIB, MIB, 0);
    refused(
        &["block_size is 0"],
        &LayoutOptions {
            block_size: Some(0),
            ..options
        },
    );
    let options = compact(plain(MIB), 0, MIB, 0);
    refused(
        &["chunk_size is 0"],
        &LayoutOptions {
            chunk_size: Some(0),
            ..options
        },
    );
    refused(
        &["storage_grow_unit is 0"],
        &LayoutOptions {
            storage_grow_unit: Some(0),
            ..options
        },
    );
}

#[test]
fn sizes_too_large_for_their_field_are_refused_by_name() {
    const TOP: u64 = i64::MAX as u64;
    refused(&["size is 18446744073709551615"], &plain(u64::MAX));
    refused(&["size is 9223372036854775807"], &plain(TOP));
    refused(&["size", "larger than a file"], &plain(TOP - 511));
    refused(&["block_size is 2147483648"], &cow(MIB, MIB, 1 << 31));
    refused(&["block_size is 2147483137"], &cow(MIB, MIB, (1 << 31) - 511));
    assert!(Layout::compute(&cow(MIB, MIB, (1 << 31) - 512)).is_ok());
    refused(
        &["chunk_size is 9223372036854775807"],
        &compact(plain(MIB), TOP, MIB, 0),
    );
    refused(
        &["storage_grow_unit is 18446744073709551615"],
        &compact(plain(MIB), 0, u64::MAX, 0),
    );
    refused(
        &["journal_size is 9223372036854775807"],
        &journal(cow(MIB, MIB, 0), i64::MAX),
    );
    refused(&["journal_size"], &journal(plain(MIB), i64::MAX));
    let kept = LayoutOptions {
        chunk_size: Some(1 << 63),
        ..plain(MIB)
    };
    refused(&["chunk_size is 9223372036854775808"], &kept);
    let kept = LayoutOptions {
        storage_grow_unit: Some(1 << 63),
        ..plain(MIB)
    };
    refused(&["storage_grow_unit is 9223372036854775808"], &kept);
}

#[test]
fn too_many_chunks_are_refused_with_a_chunk_size_that_works() {
    const MOST: u64 = 0x7FFF_FFFF;
    let at = |chunks: u64| compact(plain(chunks * 4096), 4096, MIB, 0);
    assert_eq!(
        Layout::compute(&at(MOST)).expect("legal").table.map(|t| t.size),
        Some(8 << 30)
    );
    refused(
        &["chunk_size is 4096", "2147483648 chunks", "larger chunk_size, 8192"],
        &at(MOST + 1),
    );
    assert!(Layout::compute(&compact(plain((MOST + 1) * 4096), 8192, MIB, 0)).is_ok());
}

#[test]
fn a_bitmap_too_large_to_open_is_refused() {
    let size = 512 * 8 * (64 << 30);
    assert!(Layout::compute(&cow(size, size, 512)).is_ok());
    refused(
        &["block_size is 512", "larger block_size"],
        &cow(size + 512, size + 512, 512),
    );
}
