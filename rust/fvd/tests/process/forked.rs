//! What a process has open does not belong to its children (docs/design/async-io.md, "Fork"). Each test
//! forks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fvd::ErrorKind;
use fvd::chain::{ChainOptions, OpenedFile, open_image, open_source};
use fvd::copy::{Control, PrefetchState};
use fvd::image::{CreateOptions, Image, create, read_head};
use fvd::process::PerProcess;
use fvd::source::{BaseSource, BoxFuture, Run};
use fvd::storage::{AsyncFile, Backend, FileOptions, FileStorage, IoBufMut, LockMode, Space, Storage};
use fvd::tool::compare::{Comparison, compare};
use pollster::block_on;
use tempfile::TempDir;

/// Forks. A timer ends a child that hangs.
#[expect(unsafe_code, reason = "fork")]
fn fork() -> i32 {
    // SAFETY: the child ends with `_exit`, so no code of the parent is unwound or run twice.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no process");
    if child == 0 {
        // SAFETY: sets a timer of this process.
        unsafe { libc::alarm(60) };
    }
    child
}

/// Ends a child, with an exit status that says whether `work` panicked.
#[expect(unsafe_code, reason = "the end of a child")]
fn end(work: impl FnOnce()) -> ! {
    let done = catch_unwind(AssertUnwindSafe(work));
    // SAFETY: see `fork`.
    unsafe { libc::_exit(i32::from(done.is_err())) };
}

/// Waits for the child. Fails if it has panicked or hung.
#[expect(unsafe_code, reason = "the end of a child")]
fn reap(child: i32) {
    let mut status = 0;
    // SAFETY: waits for the child, and writes to one integer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "see what the child has said; 14: it has hung");
}

fn in_child(work: impl FnOnce()) {
    match fork() {
        0 => end(work),
        child => reap(child),
    }
}

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn assert_refused<T>(what: &str, result: fvd::Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} has worked in a child"));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error}");
    assert!(error.to_string().contains("open after forking"), "{what}: {error}");
}

fn open(path: &Path) -> fvd::Result<FileStorage> {
    let options = FileOptions {
        writable: true,
        lock: LockMode::Exclusive,
        ..FileOptions::default()
    };
    FileStorage::open(path, &options)
}

/// A compact image of 64 MiB.
fn new_image(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("disk.fvd");
    let file = FileStorage::create(&path, false).unwrap();
    let mut options = CreateOptions::default();
    options.layout.virtual_size = 64 << 20;
    options.layout.compact = true;
    block_on(create(&file, None, &options, None)).unwrap();
    path
}

fn open_for_writing(path: &Path) -> Image<OpenedFile> {
    let options = ChainOptions {
        writable: true,
        ..ChainOptions::default()
    };
    block_on(open_image(path, &options)).unwrap()
}

fn write(image: &Image<OpenedFile>, offset: u64) -> fvd::Result<()> {
    block_on(image.write(Bytes::from_static(&[7; 4096]), offset))
}

fn is_clean(path: &Path) -> bool {
    let options = ChainOptions {
        force_share: true,
        ..ChainOptions::default()
    };
    let file = fvd::chain::open_file(path, &options).unwrap();
    block_on(read_head(&file)).unwrap().header.clean_shutdown
}

fn assert_all_refused(image: &Image<OpenedFile>) {
    assert_refused("read", block_on(image.read(IoBufMut::zeroed(512), 0)));
    assert_refused("an empty read", block_on(image.read(IoBufMut::zeroed(0), 0)));
    assert_refused("write", write(image, 0));
    assert_refused("zero", block_on(image.write_zeroes(1 << 20, 1 << 20)));
    assert_refused("discard", block_on(image.discard(1 << 20, 1 << 20)));
    assert_refused("flush", block_on(image.flush()));
    assert_refused("status", block_on(image.block_status(0, 512)));
    assert_refused("fetch", block_on(fvd::copy::fetch(image, 0..4096)));
    assert_refused("copy on read", block_on(fvd::copy::copy_on_read(image)));
    assert_refused("push to base", block_on(fvd::copy::write_back_base(image)));
    assert_refused(
        "the end of copy on read",
        image.copy_on_read_error().map_or(Ok(()), Err),
    );
    block_on(image.close()).expect("it does nothing");
}

#[test]
fn a_child_cannot_use_a_file_and_keeps_its_lock() {
    let directory = directory();
    for direct in [false, true] {
        let path = directory.path().join(format!("file {direct}"));
        let file = FileStorage::create(&path, direct).unwrap();
        block_on(file.write(Bytes::from_static(&[1; 4096]), 0)).unwrap();
        in_child(|| {
            assert_refused("read", block_on(file.read(IoBufMut::zeroed(512), 0)));
            assert_refused("write", block_on(file.write(Bytes::from_static(&[2; 512]), 0)));
            let pieces = vec![Bytes::from_static(&[2; 512]); 2];
            assert_refused("vectored write", block_on(file.write_vectored(pieces, 0)));
            assert_refused("zero", block_on(file.write_zeroes(0, 512, Space::Free)));
            assert_refused("discard", block_on(file.discard(0, 512)));
            assert_refused("sync", block_on(file.sync()));
            assert_refused("length", block_on(file.len()));
            assert_refused("change of length", block_on(file.set_len(0)));
            assert_refused("allocation", block_on(file.allocation(0, 512)));
            assert_refused("empty", file.empty());
            drop(file);
        });
        let file = FileStorage::claim(&path, direct).unwrap();
        assert_eq!(block_on(file.len()).unwrap(), 4096);
    }
}

#[test]
fn the_parent_keeps_its_lock_whatever_a_child_drops() {
    let directory = directory();
    let path = directory.path().join("file");
    let mut file = Some(FileStorage::create(&path, false).unwrap());
    in_child(|| drop(file.take()));
    assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::InUse);
    drop(file);
    open(&path).unwrap();
}

/// How many descriptors of this process lead to the file.
fn descriptors_of(path: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter(|link| fs::read_link(link.as_ref().unwrap().path()).is_ok_and(|target| target == path))
        .count()
}

#[test]
fn a_child_inherits_no_usable_descriptor() {
    let directory = directory();
    let path = directory.path().canonicalize().unwrap().join("file");
    fs::write(&path, [1; 4096]).unwrap();
    let file = open(&path).unwrap();
    assert_eq!(descriptors_of(&path), 1);
    in_child(|| assert_eq!(descriptors_of(&path), 0));
    assert_eq!(descriptors_of(&path), 1);
    drop(file);
    // By now the number may belong to another file.
    let other = fs::File::open(&path).unwrap();
    in_child(|| assert_eq!(descriptors_of(&path), 1));
    drop(other);
    for backend in [Backend::Threads, Backend::Uring] {
        let file = AsyncFile::new(open(&path).unwrap(), backend);
        block_on(file.sync()).unwrap();
        in_child(|| {
            assert_eq!(descriptors_of(&path), 0);
            assert_refused("read", block_on(file.read(IoBufMut::zeroed(512), 0)));
            assert_refused("write", block_on(file.write(Bytes::from_static(&[2; 4096]), 0)));
            // A file that a child opens belongs to the child, and not to its own children.
            let own = FileStorage::open(
                &path,
                &FileOptions {
                    lock: LockMode::None,
                    ..FileOptions::default()
                },
            )
            .unwrap();
            assert_eq!(descriptors_of(&path), 1);
            in_child(|| assert_eq!(descriptors_of(&path), 0));
            block_on(own.read(IoBufMut::zeroed(512), 0)).unwrap();
        });
        drop(file);
    }
    assert_eq!(fs::read(&path).unwrap(), [1; 4096]);
}

#[test]
fn a_child_cannot_use_a_qcow2_base() {
    let directory = directory();
    let path = directory.path().canonicalize().unwrap().join("disk.qcow2");
    let mut command = std::process::Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("1M");
    assert!(command.status().unwrap().success());
    let source = block_on(open_source(&path, Some("qcow2"), &ChainOptions::default())).unwrap();
    in_child(|| {
        assert_refused("read", block_on(source.read(IoBufMut::zeroed(512), 0)));
        assert_refused("status", block_on(source.status(0, 512)));
        assert_eq!(descriptors_of(&path), 0);
    });
    block_on(source.read(IoBufMut::zeroed(512), 0)).unwrap();
}

#[test]
fn a_child_cannot_change_an_image_of_the_parent() {
    let directory = directory();
    let path = new_image(&directory);
    let image = open_for_writing(&path);
    write(&image, 0).unwrap();
    block_on(image.flush()).unwrap();
    let mut image = Some(image);
    in_child(|| {
        assert_all_refused(image.as_ref().unwrap());
        image = None;
    });
    assert!(!is_clean(&path), "the child has closed it");
    let image = image.unwrap();
    write(&image, 32 << 20).unwrap();
    block_on(image.flush()).unwrap();
    // As in a crash.
    drop(image);
    let image = open_for_writing(&path);
    let read = block_on(image.read(IoBufMut::zeroed(4096), 32 << 20)).unwrap();
    assert_eq!(read.as_slice(), [7; 4096]);
    block_on(image.close()).unwrap();
    assert!(is_clean(&path));
}

#[test]
fn a_child_waits_for_no_lock_of_a_thread_of_the_parent() {
    let directory = directory();
    let path = new_image(&directory);
    let image = Arc::new(open_for_writing(&path));
    let control = Control::new();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (image, control, over) = (&image, &control, &over);
            scope.spawn(move || {
                let mut turn = number;
                while !over.load(Ordering::Relaxed) {
                    turn += 3;
                    write(image, turn % 5000 * 4096).unwrap();
                    control.resume();
                    block_on(image.flush()).unwrap();
                }
            });
        }
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(1));
            in_child(|| {
                assert_all_refused(&image);
                control.pause();
                let status = control.changed_within(0, Duration::from_secs(60));
                assert_eq!(status.state, PrefetchState::Failed);
                assert_refused("prefetch", status.error.map_or(Ok(()), Err));
            });
        }
        over.store(true, Ordering::Relaxed);
    });
    block_on(image.close()).unwrap();
}

/// A source that is read only after a progress report.
struct Slow {
    source: Box<dyn BaseSource>,
    reported: Mutex<Receiver<()>>,
}

impl BaseSource for Slow {
    fn path(&self) -> &Path {
        self.source.path()
    }

    fn format(&self) -> &'static str {
        self.source.format()
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, fvd::Result<IoBufMut>> {
        // An error says that there was a report earlier.
        let _ = self.reported.lock().expect("not poisoned").recv();
        self.source.read(buf, offset)
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, fvd::Result<Run>> {
        self.source.status(offset, len)
    }
}

#[test]
fn a_job_whose_callback_forks_continues_in_the_parent_only() {
    let directory = directory();
    let path = directory.path().join("raw");
    fs::write(&path, vec![3; 2 << 20]).unwrap();
    let source = || block_on(open_source(&path, Some("raw"), &ChainOptions::default())).unwrap();
    let (report, reported) = channel();
    let slow = Slow {
        source: source(),
        reported: Mutex::new(reported),
    };
    let (mut report, other) = (Some(report), source());
    let mut children = Vec::new();
    let compared = compare(&slow, &*other, false, &mut |progress| {
        // Only while other threads are working.
        if children.is_empty() && Some(progress.done) < progress.total {
            children.push(fork());
        }
        report = None;
        ControlFlow::Continue(())
    });
    if children == [0] {
        end(|| assert_refused("compare", compared.map_err(|failed| failed.error)));
    }
    assert_eq!(compared.unwrap(), Comparison::Identical);
    assert_eq!(children.len(), 1);
    reap(children[0]);
}

#[test]
fn each_process_has_a_value_of_its_own() {
    static VALUE: PerProcess<Mutex<u32>> = PerProcess::new(Mutex::default);
    // No thread of the child would release this lock.
    let mut held = VALUE.get().lock().unwrap();
    *held = 1;
    in_child(|| {
        let mut own = VALUE.get().lock().unwrap();
        assert_eq!(*own, 0);
        *own = 2;
        drop(own);
        assert_eq!(*VALUE.get().lock().unwrap(), 2);
    });
    drop(held);
    assert_eq!(*VALUE.get().lock().unwrap(), 1);
}
