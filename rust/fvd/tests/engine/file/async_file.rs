//! Asynchronous files: dropped futures, many users at once, forks, failed syncs. (`storage_contract.rs`
//! checks the contract of storage.)

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

use bytes::Bytes;
use fvd::ErrorKind;
use fvd::storage::{AsyncFile, Backend, FileStorage, IoBufMut, Space, Storage};
use pollster::block_on;

const BACKENDS: [Backend; 2] = [Backend::Threads, Backend::Uring];
const SECTOR: usize = 512;

/// A new file name on a real file system.
fn new_path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("async-{}-{number}", std::process::id()))
}

struct TestFile(AsyncFile);

impl TestFile {
    fn new(backend: Backend, direct: bool) -> Self {
        Self(AsyncFile::new(
            FileStorage::create(new_path(), direct).unwrap(),
            backend,
        ))
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.path());
    }
}

fn each_kind(test: impl Fn(&AsyncFile)) {
    for backend in BACKENDS {
        for direct in [false, true] {
            test(&TestFile::new(backend, direct).0);
        }
    }
}

/// Polls once and drops. True if the future was ready.
fn poll_and_drop(future: impl Future) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(future).poll(&mut context).is_ready()
}

fn read(file: &AsyncFile, offset: usize, len: usize) -> Vec<u8> {
    let buf = block_on(file.read(IoBufMut::zeroed(len), offset as u64)).unwrap();
    buf.as_slice().to_vec()
}

/// Sectors of `fill`, aligned in memory or not.
fn sectors(fill: u8, count: usize, is_aligned: bool) -> Bytes {
    let mut buf = IoBufMut::zeroed(count * SECTOR + 1);
    buf.as_mut_slice().fill(fill);
    let whole = buf.freeze();
    let start = usize::from(!is_aligned);
    whole.slice(start..start + count * SECTOR)
}

/// Each sector may have the content of the last write that ended, or of one that was dropped since.
#[test]
fn a_dropped_write_ends_before_later_operations_or_never() {
    const SECTORS: usize = 64;
    each_kind(|file| {
        let mut random = fastrand::Rng::with_seed(7);
        let mut allowed = vec![vec![0_u8]; SECTORS];
        let mut pending = 0;
        for round in 0..1500_u32 {
            let fill = (round % 250) as u8 + 1;
            let start = random.usize(..SECTORS - 8);
            let count = random.usize(1..=8);
            let range = start..start + count;
            let offset = (start * SECTOR) as u64;
            match random.u8(..10) {
                0..=4 => {
                    let is_done = match random.u8(..4) {
                        0 => poll_and_drop(file.write_zeroes(offset, (count * SECTOR) as u64, Space::Free)),
                        1 => poll_and_drop(
                            file.write_vectored(vec![sectors(fill, 1, true), sectors(fill, count - 1, false)], offset),
                        ),
                        _ => poll_and_drop(file.write(sectors(fill, count, random.bool()), offset)),
                    };
                    pending += usize::from(!is_done);
                    for sector in &mut allowed[range] {
                        sector.extend([fill, 0]);
                    }
                }
                5..=7 => {
                    block_on(file.write(sectors(fill, count, random.bool()), offset)).unwrap();
                    allowed[range].fill(vec![fill]);
                }
                _ => {
                    for (number, sector) in read(file, start * SECTOR, count * SECTOR).chunks(SECTOR).enumerate() {
                        let allowed = &mut allowed[start + number];
                        assert!(sector.iter().all(|byte| *byte == sector[0]), "round {round}: torn");
                        assert!(
                            allowed.contains(&sector[0]),
                            "round {round}: {} of {allowed:?}",
                            sector[0]
                        );
                        // All writes dropped before this read have ended: the sector cannot change again.
                        *allowed = vec![sector[0]];
                    }
                }
            }
        }
        assert!(pending > 100, "only {pending} writes were dropped in flight");
    });
}

#[test]
fn a_dropped_change_of_length_ends_before_later_ones() {
    each_kind(|file| {
        for round in 0..100 {
            let _ = poll_and_drop(file.set_len(1000));
            block_on(file.set_len(8192)).unwrap();
            assert_eq!(block_on(file.len()).unwrap(), 8192, "round {round}");
            let _ = poll_and_drop(file.write(Bytes::from_static(&[1; 700]), 20_000));
            block_on(file.set_len(0)).unwrap();
            assert_eq!(block_on(file.len()).unwrap(), 0, "round {round}");
        }
    });
}

/// Runs both futures at once.
fn both<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut first_done, mut second_done) = (false, false);
    block_on(poll_fn(|context| {
        first_done = first_done || first.as_mut().poll(context).is_ready();
        second_done = second_done || second.as_mut().poll(context).is_ready();
        if first_done && second_done {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
}

/// A write of a part of the last sector truncates the file to its right length afterwards. No other write may
/// move the end meanwhile.
#[test]
fn only_one_write_at_a_time_moves_the_end_of_a_file() {
    for backend in BACKENDS {
        let file = TestFile::new(backend, true);
        let file = &file.0;
        for round in 0..300 {
            block_on(file.set_len(0)).unwrap();
            both(
                file.write(Bytes::from_static(&[1; 100]), 0),
                file.write(sectors(2, 8, true), 8192),
            );
            assert_eq!(block_on(file.len()).unwrap(), 12288, "round {round}");
            assert_eq!(read(file, 0, 101)[99..], [1, 0], "round {round}");
            assert_eq!(read(file, 8192, 4096), [2; 4096], "round {round}");
        }
    }
}

/// Threads with ranges of their own in neighbouring sectors, and readers that are dropped.
#[test]
fn many_concurrent_users_do_not_affect_one_another() {
    const USERS: usize = 6;
    const STRIDE: usize = 7 * SECTOR;
    for backend in BACKENDS {
        for direct in [false, true] {
            let file = Arc::new(TestFile::new(backend, direct));
            thread::scope(|scope| {
                for user in 0..USERS {
                    let file = Arc::clone(&file);
                    scope.spawn(move || {
                        let file = &file.0;
                        let mut random = fastrand::Rng::with_seed(user as u64);
                        let mut model = [0_u8; 40];
                        for round in 0..300_u32 {
                            let slot = random.usize(..model.len());
                            let offset = (slot * USERS + user) * STRIDE + 100;
                            match random.u8(..4) {
                                0 | 1 => {
                                    model[slot] = round as u8;
                                    let data = Bytes::from(vec![model[slot]; STRIDE]);
                                    block_on(file.write(data, offset as u64)).unwrap();
                                }
                                2 => {
                                    let _ = poll_and_drop(file.read(IoBufMut::zeroed(STRIDE), offset as u64));
                                    block_on(file.sync()).unwrap();
                                }
                                _ => assert!(
                                    read(file, offset, STRIDE) == vec![model[slot]; STRIDE],
                                    "{user} {round}"
                                ),
                            }
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn a_file_is_unlocked_as_soon_as_it_is_dropped() {
    for backend in BACKENDS {
        let path = new_path();
        for round in 0..50 {
            let file = AsyncFile::new(FileStorage::create(&path, true).unwrap(), backend);
            block_on(file.write(sectors(round, 8, true), 0)).unwrap();
            block_on(file.sync()).unwrap();
        }
        std::fs::remove_file(path).unwrap();
    }
}

/// Memory of the program. Records which thread drops it.
struct Memory(Vec<u8>, Arc<Mutex<Option<ThreadId>>>);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        *self.1.lock().unwrap() = Some(thread::current().id());
    }
}

/// Dropping it may take a lock of the program, and no thread of a file may wait for that (A1).
#[test]
fn the_waiting_task_drops_the_buffers() {
    each_kind(|file| {
        for (len, offset) in [(100, 50), (8192, 0), (8191, 0), (4096, u64::MAX - 4096)] {
            let dropped = Arc::default();
            let memory = Memory(vec![1; len], Arc::clone(&dropped));
            let _ = block_on(file.write_vectored(vec![Bytes::from_owner(memory), Bytes::from_static(b"x")], offset));
            assert_eq!(
                *dropped.lock().unwrap(),
                Some(thread::current().id()),
                "{len} at {offset}"
            );
        }
    });
}

#[test]
fn page_cache_reads_and_writes_are_ready_at_the_first_poll() {
    for backend in BACKENDS {
        let file = TestFile::new(backend, false);
        let file = &file.0;
        let is_done = |_: u8| poll_and_drop(file.write(sectors(1, 8, true), 0));
        assert!((0..10).any(is_done), "whole pages");
        assert!(poll_and_drop(file.read(IoBufMut::zeroed(4096), 0)), "what was written");
        assert!(poll_and_drop(file.read(IoBufMut::zeroed(8192), 0)), "across the end");
    }
}

/// A child gets an error for a file that its parent has used, and does not wait.
#[test]
#[expect(unsafe_code, reason = "fork")]
fn a_forked_child_gets_an_error_and_the_parent_continues() {
    for backend in BACKENDS {
        let file = TestFile::new(backend, true);
        block_on(file.0.write(sectors(1, 8, true), 0)).unwrap();
        // SAFETY: the child only uses the file, and exits without running any other code of this process.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child if it hangs.
            unsafe { libc::alarm(20) };
            let write = block_on(file.0.write(sectors(2, 8, true), 0));
            let sync = block_on(file.0.sync());
            let mut results = [write.err(), sync.err()].into_iter();
            let all_fail = results.all(|error| error.is_some_and(|error| error.to_string().contains("forked")));
            drop(file);
            // SAFETY: see above.
            unsafe { libc::_exit(i32::from(!all_fail)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child, and writes to one integer.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "{backend:?}");
        // The child has removed the name, and nothing else.
        assert_eq!(read(&file.0, 0, 4096), [1; 4096]);
        block_on(file.0.sync()).unwrap();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A block device of 16 MiB. With less room than that, it accepts writes that it cannot store later. Needs
/// root.
struct Device {
    folder: PathBuf,
    device: PathBuf,
}

fn mount_memory(mib: u8) -> PathBuf {
    let folder = new_path();
    std::fs::create_dir(&folder).unwrap();
    let size = format!("size={mib}m");
    run(
        "mount",
        &["-t", "tmpfs", "-o", &size, "tmpfs", folder.to_str().unwrap()],
    );
    folder
}

impl Device {
    fn new(room_mib: u8) -> Self {
        let folder = mount_memory(room_mib);
        let disk = folder.join("disk");
        std::fs::File::create(&disk).unwrap().set_len(16 << 20).unwrap();
        let device = run("losetup", &["--find", "--show", disk.to_str().unwrap()]).into();
        Self { folder, device }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
        let _ = std::fs::remove_dir(&self.folder);
    }
}

fn open(path: &Path, backend: Backend) -> AsyncFile {
    AsyncFile::new(FileStorage::create(path, false).unwrap(), backend)
}

#[test]
fn the_next_sync_reports_the_failure_of_a_dropped_sync() {
    for backend in BACKENDS {
        let device = Device::new(1);
        let file = open(&device.device, backend);
        block_on(file.write(sectors(1, 8192, true), 0)).unwrap();
        assert!(!poll_and_drop(file.sync()), "a sync is never ready at once");
        let error = block_on(file.sync()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace), "{error}");
        assert_eq!(error.path(), Some(file.path()));
        drop(file);
    }
}

/// A device zeroes whole sectors only. The rest is a read-modify-write, which must not overwrite the data of
/// a concurrent write to the same sector.
#[test]
fn zeroing_part_of_a_sector_loses_no_concurrent_write() {
    for backend in BACKENDS {
        let device = Device::new(17);
        let file = AsyncFile::new(FileStorage::create(&device.device, true).unwrap(), backend);
        for round in 0..400_u32 {
            let fill = (round % 250) as u8 + 1;
            both(
                file.write_zeroes(600, 100, Space::Free),
                file.write(sectors(fill, 1, true), SECTOR as u64),
            );
            assert_eq!(read(&file, SECTOR, 88), [fill; 88], "round {round}");
        }
        drop(file);
    }
}

#[test]
fn dropping_a_file_closes_it() {
    for backend in BACKENDS {
        let folder = mount_memory(1);
        for _ in 0..5 {
            let file = open(&folder.join("file"), backend);
            block_on(file.write(sectors(1, 8, true), 0)).unwrap();
            block_on(file.sync()).unwrap();
        }
        run("umount", &[folder.to_str().unwrap()]);
        std::fs::remove_dir(folder).unwrap();
    }
}

/// The kernel reports the error to one sync only, and once.
#[test]
fn every_sync_after_a_lost_write_fails() {
    for backend in BACKENDS {
        let device = Device::new(1);
        let file = open(&device.device, backend);
        block_on(file.write(sectors(1, 8192, true), 0)).unwrap();
        let is_error = async || assert!(file.sync().await.is_err());
        both(is_error(), is_error());
        block_on(is_error());
        drop(file);
    }
}
