//! qcow2 images made by `qemu-img`, read as base images.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use fvd::gate::Gate;
use fvd::source::{BaseSource, Content, Qcow2Options, Qcow2Source};
use fvd::storage::{FileOptions, FileStorage, IoBufMut, LockMode};
use fvd::{ErrorKind, Result};
use pollster::block_on;
use tempfile::TempDir;

const LEN: usize = 4 << 20;

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn qemu_img(directory: &TempDir, line: &str) {
    let command = Command::new("qemu-img")
        .args(line.split_whitespace())
        .current_dir(directory.path())
        .output();
    let output = command.unwrap();
    assert!(output.status.success(), "qemu-img {line}: {output:?}");
}

/// Data at the beginning and in the middle, holes between.
fn content() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(9);
    let mut bytes = vec![0; LEN];
    random.fill(&mut bytes[..300_000]);
    random.fill(&mut bytes[2_000_000..2_200_000]);
    bytes
}

fn raw_file(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read(source: &Qcow2Source, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut buf = IoBufMut::zeroed(len);
    buf.as_mut_slice().fill(0xee);
    block_on(source.read(buf, offset)).map(|buf| buf.as_slice().to_vec())
}

fn open(path: &Path) -> Result<Qcow2Source> {
    Qcow2Source::open(path, &Qcow2Options::default())
}

fn open_with_backing(path: &Path) -> Result<Qcow2Source> {
    let gate = Gate::new(&[]).unwrap();
    let options = Qcow2Options {
        gate: Some(&gate),
        ..Qcow2Options::default()
    };
    Qcow2Source::open(path, &options)
}

#[test]
fn images_of_every_kind_read_as_their_source() {
    let directory = directory();
    let expected = content();
    raw_file(&directory, "raw", &expected);
    for options in ["compat=1.1", "compat=0.10", "cluster_size=512", "cluster_size=2M"] {
        for compressed in ["", "-c"] {
            qemu_img(
                &directory,
                &format!("convert {compressed} -O qcow2 -o {options} raw image"),
            );
            let source = open(&directory.path().join("image")).unwrap();
            assert_eq!((source.len(), source.format()), (LEN as u64, "qcow2"));
            assert!(read(&source, 0, LEN).unwrap() == expected, "{options} {compressed}");
            let direct = Qcow2Options {
                direct: true,
                ..Qcow2Options::default()
            };
            let direct = Qcow2Source::open(source.path(), &direct).unwrap();
            assert!(
                read(&direct, 0, LEN).unwrap() == expected,
                "{options} {compressed} direct"
            );
            assert!(read(&direct, 77, 1001).unwrap() == expected[77..1078]);
            assert!(read(&source, 12_345, 250_001).unwrap() == expected[12_345..262_346]);
            let mut tail = vec![0; 3000];
            tail[..1000].copy_from_slice(&expected[LEN - 1000..]);
            assert_eq!(read(&source, LEN as u64 - 1000, 3000).unwrap(), tail);
            assert_eq!(read(&source, u64::MAX - 5, 3).unwrap(), [0; 3]);
        }
    }
}

#[test]
fn unwritten_ranges_are_known_zeros() {
    let directory = directory();
    raw_file(&directory, "raw", &content());
    qemu_img(&directory, "convert -O qcow2 raw image");
    let source = open(&directory.path().join("image")).unwrap();
    let ask = |offset, len| {
        let run = block_on(source.status(offset, len)).unwrap();
        (run.content, run.len)
    };
    assert_eq!(ask(0, 4096), (Content::Data, 4096));
    assert_eq!(ask(1 << 20, 4096), (Content::Zero, 4096));
    assert_eq!(ask(LEN as u64, 77), (Content::Zero, 77));
    let (mut offset, mut zeros) = (0, 0);
    while offset < LEN as u64 {
        let (content, len) = ask(offset, LEN as u64 - offset);
        assert!(len > 0);
        zeros += if content == Content::Zero { len } else { 0 };
        offset += len;
    }
    assert_eq!(offset, LEN as u64);
    assert!(zeros > 3 << 20, "{zeros}");
}

#[test]
fn backing_files_are_read_where_the_gate_permits() {
    let directory = directory();
    let expected = content();
    raw_file(&directory, "raw", &expected[..LEN - 100_000]);
    qemu_img(&directory, "create -q -f qcow2 -b raw -F raw middle 4M");
    qemu_img(
        &directory,
        "create -q -f qcow2 -o compat=0.10 -b middle -F qcow2 top 5M",
    );
    let path = directory.path().join("top");
    let source = open_with_backing(&path).unwrap();
    assert_eq!(source.identities().count(), 3);
    assert!(read(&source, 0, LEN).unwrap() == expected);
    assert!(
        read(&source, LEN as u64 - 10, 1 << 20)
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    // The chain is locked.
    let write = FileOptions {
        writable: true,
        lock: LockMode::Exclusive,
        ..FileOptions::default()
    };
    for name in ["raw", "middle", "top"] {
        let error = FileStorage::open(directory.path().join(name), &write).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{name}");
    }
    let error = open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
}

#[test]
fn the_gate_refuses_a_backing_file_outside_the_directory() {
    let (directory, elsewhere) = (directory(), directory());
    let secret = raw_file(&elsewhere, "secret", &vec![1; 65536]);
    let line = format!("create -q -f qcow2 -b {} -F raw image", secret.display());
    qemu_img(&directory, &line);
    let error = open_with_backing(&directory.path().join("image")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    assert!(error.reason().contains("is not trusted"), "{error}");
}

#[test]
fn an_external_data_file_goes_through_the_gate_too() {
    let directory = directory();
    let expected = content();
    raw_file(&directory, "raw", &expected);
    qemu_img(&directory, "convert -O qcow2 -o data_file=data raw image");
    let path = directory.path().join("image");
    assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::NotPermitted);
    assert!(read(&open_with_backing(&path).unwrap(), 0, LEN).unwrap() == expected);
}

#[test]
fn an_unnamed_backing_format_is_guessed_only_when_asked() {
    let directory = directory();
    raw_file(&directory, "raw", &content());
    for compat in ["1.1", "0.10"] {
        qemu_img(
            &directory,
            &format!("create -q -f qcow2 -o compat={compat} -b raw -F raw image"),
        );
        // Destroy the extension that names the format.
        let path = directory.path().join("image");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|w| w == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
        bytes[at..at + 4].copy_from_slice(&[1, 2, 3, 4]);
        std::fs::write(&path, bytes).unwrap();
        let error = open_with_backing(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
        let gate = Gate::new(&[]).unwrap();
        let options = Qcow2Options {
            gate: Some(&gate),
            probe_backing: true,
            ..Qcow2Options::default()
        };
        let source = Qcow2Source::open(&path, &options).unwrap();
        assert!(read(&source, 0, LEN).unwrap() == content(), "{compat}");
    }
}

#[test]
fn a_circular_chain_is_refused() {
    let directory = directory();
    raw_file(&directory, "a", &[0; 512]);
    qemu_img(&directory, "create -q -u -f qcow2 -b b -F qcow2 a 1M");
    qemu_img(&directory, "create -q -u -f qcow2 -b a -F qcow2 b 1M");
    let error = open_with_backing(&directory.path().join("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidImage, "{error}");
    assert!(error.reason().contains("own backing chain"), "{error}");
}

#[test]
fn encrypted_images_are_refused() {
    let directory = directory();
    qemu_img(&directory, "create -q -f qcow2 image 1M");
    let path = directory.path().join("image");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[35] = 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn damaged_images_give_errors_or_data_and_never_panic() {
    let directory = directory();
    raw_file(&directory, "raw", &content());
    qemu_img(&directory, "convert -c -O qcow2 -o cluster_size=4096 raw image");
    let good = std::fs::read(directory.path().join("image")).unwrap();
    let path = directory.path().join("damaged");
    let mut random = fastrand::Rng::with_seed(11);
    let (mut refused, mut failed) = (0, 0);
    for _ in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..6) {
            // Mostly the header and the tables, which come first.
            let limit = if random.bool() { 112 } else { 32 << 10 };
            bytes[random.usize(..limit)] = random.u8(..);
        }
        if random.u8(..8) == 0 {
            bytes.truncate(random.usize(..good.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        match open_with_backing(&path) {
            Err(_) => refused += 1,
            Ok(source) => {
                let len = source.len().min(LEN as u64) as usize;
                if read(&source, 0, len).is_err() {
                    failed += 1;
                }
                let mut offset = 0;
                while offset < len as u64 {
                    match block_on(source.status(offset, len as u64 - offset)) {
                        Ok(run) => offset += run.len,
                        Err(_) => break,
                    }
                }
            }
        }
    }
    assert!(refused > 20 && failed > 20, "{refused} refused, {failed} failed");
}
