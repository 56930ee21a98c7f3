//! What a conversion refuses, and what it leaves after a failure.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use fvd::ErrorKind;
use fvd::chain::{ChainOptions, open_source};
use fvd::tool::convert::{ConvertRequest, Format, Source, Target, convert};
use pollster::block_on;
use tempfile::{TempDir, tempdir};

use super::support::{Kind, content, data_of, make, make_empty, random, read_all, request, run, write_raw};

fn directory_with_source() -> (TempDir, Vec<u8>) {
    let directory = tempdir().expect("a directory");
    let bytes = content(2_000_000);
    write_raw(&directory.path().join("source"), &bytes);
    (directory, bytes)
}

/// A qcow2 image of random data whose second half cannot be read.
fn broken_qcow2(path: &Path) {
    const CLUSTER: u64 = 64 << 10;
    const CLUSTERS: u64 = 128;
    const IN_USE: u64 = 1 << 63;
    let file = File::create(path).expect("a file");
    let write = |bytes: &[u8], offset| file.write_all_at(bytes, offset).expect("room");
    let mut header = b"QFI\xfb".to_vec();
    // Version, no backing file, cluster bits.
    for field in [2_u32, 0, 0, 0, 16] {
        header.extend(field.to_be_bytes());
    }
    header.extend((CLUSTERS * CLUSTER).to_be_bytes());
    // No encryption, entries of the L1 table and its offset.
    header.extend([0_u32, 1].map(u32::to_be_bytes).concat());
    header.extend([CLUSTER, 2 * CLUSTER].map(u64::to_be_bytes).concat());
    // Clusters of refcount tables, no snapshots.
    header.extend([1_u32, 0, 0, 0].map(u32::to_be_bytes).concat());
    write(&header, 0);
    write(&((3 * CLUSTER) | IN_USE).to_be_bytes(), CLUSTER);
    for number in 0..CLUSTERS {
        let misaligned = if number == CLUSTERS / 2 { 512 } else { 0 };
        let entry = ((4 + number) * CLUSTER) | misaligned | IN_USE;
        write(&entry.to_be_bytes(), 3 * CLUSTER + number * 8);
    }
    write(&random((CLUSTERS * CLUSTER) as usize), 4 * CLUSTER);
}

#[test]
fn a_cancelled_conversion_removes_its_target() {
    let (directory, _) = directory_with_source();
    let target = directory.path().join("target");
    for kind in [Kind::Raw, Kind::Separate, Kind::Compact] {
        let mut request = request(&directory.path().join("source"), &target, kind.format());
        request.create = kind.options(&target);
        let error = convert(&request, &mut |_| ControlFlow::Break(())).expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(!target.exists());
        assert!(!data_of(&target).exists());
    }
}

#[test]
fn a_source_that_fails_in_the_middle_leaves_no_target() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    broken_qcow2(&source);
    for kind in [Kind::Raw, Kind::Plain, Kind::Compact] {
        // Also if the target existed: its content is lost already.
        fs::write(&target, "an old file").expect("a file");
        let mut request = request(&source, &target, kind.format());
        request.create = kind.options(&target);
        for out_of_order in [false, true] {
            request.out_of_order = out_of_order;
            let error = run(&request).expect_err("the source is broken");
            assert_eq!(error.path(), Some(source.as_path()), "{error}");
            assert!(!target.exists());
        }
    }
}

#[test]
fn a_failed_conversion_leaves_an_existing_target_unfinished() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    let (good, whole) = (directory.path().join("good"), random(7 << 20));
    write_raw(&good, &whole);
    for kind in [Kind::Raw, Kind::Plain, Kind::Compact] {
        broken_qcow2(&source);
        let before = random(8 << 20);
        make(kind, &target, &before);
        let mut request = request(&source, &target, kind.format());
        request.no_create = true;
        for _ in 0..2 {
            run(&request).expect_err("the source is broken");
            let refused = block_on(open_source(&target, None, &ChainOptions::default())).err();
            assert!(refused.expect("half written").to_string().contains("not finished"));
        }
        // Unlocked, and usable for another attempt.
        request.source = Source::File {
            path: good.clone(),
            format: Some("raw".to_owned()),
        };
        run(&request).expect("nothing is broken now");
        let after = read_all(&target, kind.format());
        assert!(after[..7 << 20] == whole);
        assert!(after[7 << 20..] == before[7 << 20..]);
    }
}

#[test]
fn a_raw_target_gets_its_first_bytes_last() {
    let directory = tempdir().expect("a directory");
    let (source, target) = (directory.path().join("source"), directory.path().join("target"));
    let long = content(9_000_000);
    for (len, sparse_size) in [
        (9_000_000, 4096),
        (9_000_000, 0),
        (4097, 4096),
        (700, 4096),
        (12, 4096),
        (0, 4096),
    ] {
        for zeros in [0, 4096.min(len)] {
            let mut bytes = long[..len].to_vec();
            bytes[..zeros].fill(0);
            write_raw(&source, &bytes);
            for exists in [false, true] {
                let mut request = request(&source, &target, Format::Raw);
                request.sparse_size = sparse_size;
                request.no_create = exists;
                if exists {
                    write_raw(&target, &vec![1; 9_500_000]);
                }
                let mut looks = 0;
                convert(&request, &mut |_| {
                    looks += 1;
                    ControlFlow::Continue(())
                })
                .expect("nothing fails");
                let mut expected = if exists { vec![1; 9_500_000] } else { vec![0; len] };
                expected[..len].copy_from_slice(&bytes);
                assert!(looks > 0);
                assert!(
                    fs::read(&target).expect("a file") == expected,
                    "{len}, {zeros}, {exists}"
                );
                fs::remove_file(&target).expect("it is there");
            }
        }
    }
}

#[test]
fn a_failure_removes_the_target_of_a_link_not_the_link() {
    let directory = tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    broken_qcow2(&path("source"));
    symlink("real", path("target")).expect("a link");
    run(&request(&path("source"), &path("target"), Format::Raw)).expect_err("the source is broken");
    assert!(!path("real").exists());
    assert!(path("target").is_symlink());
}

#[test]
fn a_full_device_is_reported_as_full() {
    let (directory, _) = directory_with_source();
    let mut request = request(&directory.path().join("source"), Path::new(""), Format::Raw);
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    request.target = Target::Stream(full);
    let error = run(&request).expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::NoSpace);
}

#[test]
fn a_disk_is_not_converted_into_itself() {
    let (directory, bytes) = directory_with_source();
    let path = |name: &str| directory.path().join(name);
    let source = path("source");
    fs::hard_link(&source, path("hard")).expect("a hard link");
    symlink(&source, path("soft")).expect("a link");
    for target in ["source", "hard", "soft"] {
        for format in [Format::Raw, Format::Fvd] {
            for force_share in [false, true] {
                let mut request = request(&source, &path(target), format);
                request.force_share = force_share;
                let error = run(&request).expect_err("the same file");
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            }
        }
        let stream = Source::Stream(File::open(&source).expect("the source"));
        let request = ConvertRequest::new(stream, Target::File(path(target)), Format::Raw);
        run(&request).expect_err("the same file");
    }
    assert!(fs::read(&source).expect("the source") == bytes, "untouched");
}

#[test]
fn the_target_cannot_be_the_base_or_data_file_of_the_source() {
    let directory = tempdir().expect("a directory");
    let source = directory.path().join("source");
    for (kind, extension) in [(Kind::Overlay, "base"), (Kind::Separate, "data")] {
        make_empty(kind, &source, 100_000);
        let target = source.with_extension(extension);
        let before = fs::metadata(&target).expect("a file").len();
        for force_share in [false, true] {
            let mut request = request(&source, &target, Format::Raw);
            request.force_share = force_share;
            let error = run(&request).expect_err("a part of the source");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        }
        assert_eq!(fs::metadata(&target).expect("a file").len(), before);
    }
}

#[test]
fn a_file_that_is_no_disk_is_refused_without_a_target() {
    let (directory, _) = directory_with_source();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("directory")).expect("a directory");
    let cases = [
        (path("directory"), path("new")),
        (path("missing"), path("new")),
        (path("source"), path("directory")),
        (path("source"), path("missing/new")),
        (path("/dev/zero"), path("new")),
        (path("source"), path("/dev/null")),
    ];
    for (source, target) in cases {
        for format in [Format::Raw, Format::Fvd] {
            run(&request(&source, &target, format)).expect_err("no disk");
            assert!(!path("new").exists());
        }
    }
}

#[test]
fn contradictory_options_are_refused_before_any_change() {
    let (directory, _) = directory_with_source();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("target"), "precious").expect("a file");
    let source = path("source");
    let mut cases = Vec::new();
    let mut case = |format, change: &dyn Fn(&mut ConvertRequest)| {
        let mut request = request(&source, &path("target"), format);
        change(&mut request);
        cases.push(request);
    };
    case(Format::Raw, &|r| r.sparse_size = 100);
    case(Format::Raw, &|r| r.sparse_size = 32 << 20);
    case(Format::Fvd, &|r| r.create.detect_sparse_hole = Some(4096));
    case(Format::Fvd, &|r| r.create.base_img = "missing".into());
    case(Format::Fvd, &|r| r.create.data_file = "target".into());
    case(Format::Raw, &|r| r.no_create = true);
    case(Format::Fvd, &|r| {
        r.target = Target::Stream(File::open("/dev/null").expect("Linux has it"));
    });
    for request in cases {
        run(&request).expect_err("a contradiction");
        assert_eq!(fs::read(path("target")).expect("the file"), b"precious");
    }
}
