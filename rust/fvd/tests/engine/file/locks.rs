//! Locks shared with QEMU in both directions, and what `open` and `create` refuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fvd::ErrorKind;
use fvd::storage::{FileOptions, FileStorage, LockMode};
use tempfile::TempDir;

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A qcow2 image: QEMU's readers accept writers of raw images, but not of formats with metadata. Readers of
/// this crate accept no writers at all.
fn image_in(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("disk.qcow2");
    let mut command = Command::new("qemu-img");
    let command = command.args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("64K");
    assert!(command.status().unwrap().success());
    path
}

fn options(lock: LockMode) -> FileOptions {
    FileOptions {
        writable: lock == LockMode::Exclusive,
        lock,
        ..FileOptions::default()
    }
}

fn open(path: &Path, lock: LockMode) -> fvd::Result<FileStorage> {
    FileStorage::open(path, &options(lock))
}

/// A running `qemu-io` that has the image open.
struct QemuIo(Child);

impl QemuIo {
    fn open(path: &Path, read_only: bool) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(["-f", "qcow2"]);
        if read_only {
            command.arg("-r");
        }
        let mut child = command
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        // The answer proves that the image is open.
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("64 KiB"), "{line}");
        Self(child)
    }
}

impl Drop for QemuIo {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn qemu_io(path: &Path, command: &str, read_only: bool) -> String {
    let mut process = Command::new("qemu-io");
    process.args(["-f", "qcow2", "-c", command]);
    if read_only {
        process.arg("-r");
    }
    let output = process.arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn qemu_refuses_what_is_locked_here() {
    let directory = directory();
    let path = image_in(&directory);
    let writer = open(&path, LockMode::Exclusive).unwrap();
    let answer = qemu_io(&path, "read 0 512", true);
    assert!(answer.contains("Failed to get shared \"write\" lock"), "{answer}");
    let answer = qemu_io(&path, "write 0 512", false);
    assert!(answer.contains("lock"), "{answer}");
    drop(writer);

    let reader = open(&path, LockMode::Shared).unwrap();
    let answer = qemu_io(&path, "write 0 512", false);
    assert!(answer.contains("Failed to get \"write\" lock"), "{answer}");
    let answer = qemu_io(&path, "read 0 512", true);
    assert!(answer.contains("read 512/512"), "{answer}");
    drop(reader);

    let answer = qemu_io(&path, "write 0 512", false);
    assert!(answer.contains("wrote 512/512"), "{answer}");
}

#[test]
fn an_image_with_a_qemu_writer_is_refused_in_qemus_words() {
    let directory = directory();
    let path = image_in(&directory);
    let _qemu = QemuIo::open(&path, false);
    let advice = format!("Is another process using the image [{}]?", path.display());

    let error = open(&path, LockMode::Shared).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert_eq!(error.reason(), format!("Failed to get shared \"write\" lock. {advice}"));
    assert_eq!(error.path(), Some(&*path));
    let error = open(&path, LockMode::Exclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.reason().contains(&advice), "{error}");
    open(&path, LockMode::None).unwrap();
}

#[test]
fn an_image_with_a_qemu_reader_can_be_read_but_not_written() {
    let directory = directory();
    let path = image_in(&directory);
    let _qemu = QemuIo::open(&path, true);
    open(&path, LockMode::Shared).unwrap();
    let error = open(&path, LockMode::Exclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.reason().starts_with("Failed to get \"write\" lock. "), "{error}");
}

#[test]
fn two_users_in_this_process_conflict() {
    let directory = directory();
    let path = image_in(&directory);
    let first = open(&path, LockMode::Shared).unwrap();
    let second = open(&path, LockMode::Shared).unwrap();
    assert_eq!(open(&path, LockMode::Exclusive).unwrap_err().kind(), ErrorKind::InUse);
    drop((first, second));
    let writer = open(&path, LockMode::Exclusive).unwrap();
    for lock in [LockMode::Shared, LockMode::Exclusive] {
        assert_eq!(open(&path, lock).unwrap_err().kind(), ErrorKind::InUse);
    }
    drop(writer);
    open(&path, LockMode::Exclusive).unwrap();
}

#[test]
fn creating_does_not_empty_a_file_in_use() {
    let directory = directory();
    let path = image_in(&directory);
    let len = std::fs::metadata(&path).unwrap().len();
    let qemu = QemuIo::open(&path, false);
    let error = FileStorage::create(&path, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    drop(qemu);
    drop(FileStorage::create(&path, false).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn only_files_and_block_devices_open_and_nothing_blocks() {
    let directory = directory();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let cases = [
        (directory.path(), "a directory"),
        (&fifo, "a FIFO"),
        (&socket, "a socket"),
        (Path::new("/dev/zero"), "a character device"),
    ];
    for (path, name) in cases {
        let create = FileStorage::create(path, false);
        for result in [open(path, LockMode::Shared), open(path, LockMode::Exclusive), create] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.reason().contains(name), "{error}");
        }
    }
    let error = open(&directory.path().join("none"), LockMode::Shared).unwrap_err();
    assert!(error.reason().ends_with("No such file or directory"), "{error}");
}

#[test]
fn the_error_names_a_file_system_without_direct_io() {
    let direct = FileOptions {
        direct: true,
        lock: LockMode::None,
        ..FileOptions::default()
    };
    let error = FileStorage::open("/proc/version", &direct).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.reason().contains("drop `direct`"), "{error}");
}

#[test]
fn no_follow_refuses_a_link_in_place_of_the_file() {
    let directory = directory();
    let path = image_in(&directory);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    open(&link, LockMode::Shared).unwrap();
    let no_follow = FileOptions {
        no_follow: true,
        ..FileOptions::default()
    };
    FileStorage::open(&path, &no_follow).unwrap();
    let error = FileStorage::open(&link, &no_follow).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted, "{error}");
}

#[test]
fn creating_through_a_dangling_link_makes_its_target() {
    let directory = directory();
    let target = directory.path().join("target");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let storage = FileStorage::create(&link, false).unwrap();
    assert!(target.exists());
    let error = open(&target, LockMode::Shared).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    drop(storage);
    assert_eq!(
        open(&target, LockMode::Shared).unwrap().identity(),
        open(&link, LockMode::Shared).unwrap().identity()
    );
}
