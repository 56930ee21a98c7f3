//! The target has the content of the source, for all formats, and holes stay holes.

use std::fs;
use std::path::Path;

use fvd::chain::{ChainOptions, open_source};
use fvd::tool::convert::{Cache, ConvertRequest, Format};
use pollster::block_on;
use tempfile::tempdir;

use super::support::{
    KINDS, Kind, allocated, content, data_of, make, make_used, random, read_all, request, run, write_raw,
};

/// The content of `bytes` in a disk of whole sectors, if `format` has whole sectors.
fn padded(bytes: &[u8], format: Format) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if format == Format::Fvd {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

fn check_closed_clean(target: &Path, kind: Kind) {
    if kind != Kind::Raw {
        let storage = fvd::storage::FileStorage::open(target, &fvd::storage::FileOptions::default());
        let head = block_on(fvd::image::read_head(&storage.expect("the image"))).expect("a header");
        assert!(head.header.clean_shutdown);
    }
}

fn convert_every_way(from: Kind, to: Kind, change: impl Fn(&mut ConvertRequest)) {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    for len in [1_500_000, 1_500_001, 3_000_513, 511, 0] {
        let bytes = content(len);
        make(from, &source, &bytes);
        // The disk of an image has whole sectors.
        let bytes = padded(&bytes, from.format());
        for (sparse_size, out_of_order) in [(4096, false), (0, false), (512, true), (1 << 20, true)] {
            let mut request = request(&source, &target, to.format());
            request.create = to.options(&target);
            request.sparse_size = sparse_size;
            request.out_of_order = out_of_order;
            change(&mut request);
            let converted = run(&request).expect("a conversion");
            let what = format!("{from:?} to {to:?}, {len} bytes, -S {sparse_size}");
            assert_eq!(converted.size, bytes.len() as u64, "{what}");
            let expected = padded(&bytes, to.format());
            assert!(read_all(&target, to.format()) == expected, "{what}");
            check_closed_clean(&target, to);
        }
    }
}

#[test]
fn every_kind_converts_into_every_kind() {
    for from in KINDS {
        for to in KINDS {
            convert_every_way(from, to, |_| {});
        }
    }
}

#[test]
fn every_cache_mode_gives_the_same_content() {
    for cache in [Cache::Writeback, Cache::Writethrough, Cache::None, Cache::DirectSync] {
        for to in [Kind::Raw, Kind::Compact, Kind::Overlay] {
            convert_every_way(Kind::Raw, to, |request| {
                request.cache = cache;
                request.source_cache = Cache::None;
            });
        }
    }
}

#[test]
fn an_existing_target_keeps_the_data_after_the_source() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    for to in KINDS {
        for (sparse_size, out_of_order) in [(4096, false), (4096, true), (0, false)] {
            let bytes = content(1_234_567);
            write_raw(&source, &bytes);
            make_used(to, &target, bytes.len());
            let before = read_all(&target, to.format());
            let mut request = request(&source, &target, to.format());
            request.no_create = true;
            request.sparse_size = sparse_size;
            request.out_of_order = out_of_order;
            run(&request).expect("a conversion");
            let after = read_all(&target, to.format());
            assert!(after[..bytes.len()] == bytes, "{to:?}");
            assert!(after[bytes.len()..] == before[bytes.len()..], "{to:?}");
            check_closed_clean(&target, to);
        }
    }
}

#[test]
fn zeros_take_no_space_in_the_target() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    // Half of the zeros are stored in the source.
    let mut bytes = vec![0; 16 << 20];
    fs::write(&source, &bytes[..8 << 20]).expect("a source");
    let file = fs::File::options().write(true).open(&source).expect("the source");
    file.set_len(bytes.len() as u64).expect("a length");
    let data = random(64 << 10);
    std::os::unix::fs::FileExt::write_all_at(&file, &data, 3 << 20).expect("room");
    bytes[3 << 20..][..data.len()].copy_from_slice(&data);
    for to in [Kind::Raw, Kind::Plain, Kind::Compact] {
        let mut request = request(&source, &target, to.format());
        request.create = to.options(&target);
        run(&request).expect("a conversion");
        let most = (64 << 10) + (128 << 10);
        assert!(allocated(&target) < most, "{to:?}: {}", allocated(&target));
        assert!(read_all(&target, to.format()) == bytes, "{to:?}");
    }
}

#[test]
fn a_sparse_size_of_0_allocates_everything() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    let mut bytes = vec![0; 5 << 20];
    bytes[1 << 20..][..5000].fill(7);
    write_raw(&source, &bytes);
    for to in [Kind::Raw, Kind::Plain, Kind::Compact] {
        let mut request = request(&source, &target, to.format());
        request.create = to.options(&target);
        request.sparse_size = 0;
        run(&request).expect("a conversion");
        assert!(allocated(&target) >= bytes.len() as u64, "{to:?}");
        assert!(read_all(&target, to.format()) == bytes, "{to:?}");
    }
}

#[test]
fn chunks_of_a_compact_image_lie_in_the_order_of_the_disk() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    write_raw(&source, &random(20 << 20));
    let mut request = request(&source, &target, Format::Fvd);
    request.create = Kind::Compact.options(&target);
    run(&request).expect("a conversion");
    let image = block_on(open_source(&target, Some("fvd"), &ChainOptions::default())).expect("an image");
    let run = block_on(image.status(0, image.len())).expect("a status");
    assert_eq!(run.len, image.len(), "one stretch of storage");
}

#[test]
fn a_separate_data_file_is_a_raw_disk() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    let mut bytes = content(2_000_000);
    bytes.resize(2_100_000, 0);
    write_raw(&source, &bytes);
    let mut request = request(&source, &target, Format::Fvd);
    request.create = Kind::Separate.options(&target);
    run(&request).expect("a conversion");
    let data = fs::read(data_of(&target)).expect("the data file");
    assert!(data == padded(&bytes, Format::Fvd));
}
