//! A process that cannot start threads: no operation fails because of that (docs/design/async-io.md, A5).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use bytes::Bytes;
use fvd::chain::{AsyncIo, Files as _};
use fvd::source::RawSource;
use fvd::storage::{AsyncFile, Backend, FileOptions, FileStorage, IoBufMut, Space, Storage};
use pollster::block_on;

const NOBODY: libc::uid_t = 65534;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("lost-{name}-{}", std::process::id()))
}

/// From now on this process can start no thread. The limit does not apply to root, so root becomes another
/// user.
#[expect(unsafe_code, reason = "a limit of the process, and its user")]
fn lose_threads() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: only accesses the memory of `none`, which lives; this process has one thread.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const none), 0);
        assert!(libc::geteuid() != 0 || libc::setuid(NOBODY) == 0);
    }
    let error = std::thread::Builder::new().spawn(|| ()).expect_err("none is permitted");
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
}

/// Runs `work` in a child that can start no thread. Files that `prepare` opened stay open.
#[expect(unsafe_code, reason = "fork")]
fn without_threads<T>(prepare: impl FnOnce() -> T, work: impl FnOnce(T)) {
    // SAFETY: the child has one thread and ends with `_exit`, so no code of the parent is unwound or run
    // twice.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no process");
    if child == 0 {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let prepared = prepare();
            lose_threads();
            work(prepared);
        }));
        // SAFETY: see above.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    let mut status = 0;
    // SAFETY: waits for the child, and writes to one integer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "see what the child has said");
}

fn read(file: &AsyncFile, offset: u64, len: usize) -> Vec<u8> {
    let buf = block_on(file.read(IoBufMut::zeroed(len), offset)).unwrap();
    buf.as_slice().to_vec()
}

/// Operations that would need a thread or a ring.
fn use_file(file: &AsyncFile) {
    block_on(file.set_len(1 << 20)).unwrap();
    block_on(file.write(Bytes::from(vec![1; 8192]), 0)).unwrap();
    block_on(file.write(Bytes::from(vec![2; 1000]), 100)).unwrap();
    block_on(file.write_zeroes(4096, 2048, Space::Free)).unwrap();
    block_on(file.sync()).unwrap();
    let mut expected = vec![1; 8192];
    expected[100..1100].fill(2);
    expected[4096..6144].fill(0);
    assert_eq!(read(file, 0, 8192), expected);
    assert_eq!(read(file, 1 << 19, 512), [0; 512]);
}

#[test]
fn without_threads_the_caller_does_the_io_of_a_file() {
    for backend in [Backend::Threads, Backend::Uring] {
        for direct in [false, true] {
            let path = path("file");
            let prepare = || AsyncFile::new(FileStorage::create(&path, direct).unwrap(), backend);
            without_threads(prepare, |file| {
                use_file(&file);
                drop(file);
            });
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn without_threads_the_caller_reads_a_blocking_source() {
    let path = path("source");
    std::fs::write(&path, [7; 4096]).unwrap();
    let prepare = || {
        let file = FileStorage::open(&path, &FileOptions::default()).unwrap();
        let blocks = block_on(RawSource::new(file)).unwrap();
        let files = AsyncIo::with_backend(Backend::Threads).unwrap();
        files.source(Box::new(blocks))
    };
    without_threads(prepare, |source| {
        let buf = block_on(source.read(IoBufMut::zeroed(512), 1024)).unwrap();
        assert_eq!(buf.as_slice(), [7; 512]);
        assert_eq!(block_on(source.status(0, 4096)).unwrap().len, 4096);
    });
    std::fs::remove_file(&path).unwrap();
}
