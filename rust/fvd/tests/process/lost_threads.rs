//! A process that cannot start threads: no operation fails because of that (docs/design/async-io.md, A5).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use fvd::source::{BaseSource as _, RawSource, ThreadedSource};
use fvd::storage::{AsyncFile, Backend, FileOptions, FileStorage, IoBufMut, Space, Storage};
use pollster::block_on;
use tempfile::tempdir_in;

const NOBODY: libc::uid_t = 65534;

/// Set in the process that loses its threads: the folder for its files.
const FOLDER: &str = "FVD_TEST_LOST_THREADS";

/// From now on this process can start no thread. The limit does not apply to root, so root becomes another
/// user.
#[expect(unsafe_code, reason = "a limit of the process, and its user")]
fn lose_threads() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: only accesses the memory of `none`, which lives. The process runs this test only.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const none), 0);
        assert!(libc::geteuid() != 0 || libc::setuid(NOBODY) == 0);
    }
    let error = std::thread::Builder::new().spawn(|| ()).expect_err("none is permitted");
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
}

/// Runs `work` in a process of its own that can start no thread: this program again, which runs only `test` and
/// comes here. Files that `prepare` has opened in a folder stay open.
fn without_threads<T>(test: &str, prepare: impl FnOnce(&Path) -> T, work: impl FnOnce(T)) {
    if let Some(folder) = env::var_os(FOLDER) {
        let prepared = prepare(Path::new(&folder));
        lose_threads();
        return work(prepared);
    }
    let folder = tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let test = format!("lost_threads::{test}");
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let [out, err] = [&child.stdout, &child.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    // A name that is not that of a test runs nothing, successfully.
    let has_passed = child.status.success() && out.contains("1 passed");
    assert!(has_passed, "{}\n{out}\n{err}", child.status);
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
    let open = |folder: &Path, backend, direct| {
        let path = folder.join(format!("{backend:?}-{direct}"));
        AsyncFile::new(FileStorage::create(path, direct).unwrap(), backend)
    };
    let prepare = |folder: &Path| {
        let kinds = [false, true].map(|direct| [Backend::Threads, Backend::Uring].map(|backend| (backend, direct)));
        kinds
            .as_flattened()
            .iter()
            .map(|(backend, direct)| open(folder, *backend, *direct))
            .collect()
    };
    let name = "without_threads_the_caller_does_the_io_of_a_file";
    without_threads(name, prepare, |files: Vec<_>| {
        for file in files {
            use_file(&file);
        }
    });
}

#[test]
fn without_threads_the_caller_reads_a_blocking_source() {
    let prepare = |folder: &Path| {
        let path = folder.join("source");
        std::fs::write(&path, [7; 4096]).unwrap();
        let file = FileStorage::open(&path, &FileOptions::default()).unwrap();
        let blocks = block_on(RawSource::new(file)).unwrap();
        ThreadedSource::new(Box::new(blocks))
    };
    let name = "without_threads_the_caller_reads_a_blocking_source";
    without_threads(name, prepare, |source| {
        let buf = block_on(source.read(IoBufMut::zeroed(512), 1024)).unwrap();
        assert_eq!(buf.as_slice(), [7; 512]);
        assert_eq!(block_on(source.status(0, 4096)).unwrap().len, 4096);
    });
}
