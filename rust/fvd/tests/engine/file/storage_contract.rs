//! The contract of `Storage`, one suite for every implementation.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use fvd::ErrorKind;
use fvd::storage::{
    Allocation, AsyncFile, Backend, FileOptions, FileStorage, IoBufMut, LockMode, MemoryStorage, Space, Storage,
};
use pollster::block_on;
use proptest::prelude::*;

/// Maximum length of the disk in the random test: a few pages of memory, many sectors.
const MAX_LEN: usize = 200 << 10;

/// A new file name in the directory for test files, which is on a real file system.
fn new_path(tag: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("contract-{tag}-{}-{number}", std::process::id()))
}

/// A file that is removed when the test ends.
struct TestFile(FileStorage);

impl TestFile {
    fn new(direct: bool) -> Self {
        let path = new_path(if direct { "direct" } else { "buffered" });
        Self(FileStorage::create(path, direct).unwrap())
    }
}

/// Makes the storage for the suite.
trait Made {
    fn storage(&self) -> &impl Storage;
}

impl Made for MemoryStorage {
    fn storage(&self) -> &impl Storage {
        self
    }
}

impl Made for TestFile {
    fn storage(&self) -> &impl Storage {
        &self.0
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.path());
    }
}

/// The same, with asynchronous I/O.
struct AsyncTestFile(AsyncFile);

impl AsyncTestFile {
    fn new(backend: Backend, direct: bool) -> Self {
        Self::at(new_path(if direct { "async-direct" } else { "async" }), backend, direct)
    }

    fn in_memory(backend: Backend) -> Self {
        let path = new_path("tmpfs");
        Self::at(Path::new("/dev/shm").join(path.file_name().unwrap()), backend, false)
    }

    fn at(path: PathBuf, backend: Backend, direct: bool) -> Self {
        Self(AsyncFile::new(FileStorage::create(path, direct).unwrap(), backend))
    }
}

impl Made for AsyncTestFile {
    fn storage(&self) -> &impl Storage {
        &self.0
    }
}

impl Drop for AsyncTestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.path());
    }
}

fn read<S: Storage>(storage: &S, offset: u64, len: usize) -> Vec<u8> {
    // Filled with other data, and at an odd address.
    let mut buf = IoBufMut::zeroed(len + 1).split_off(1);
    buf.as_mut_slice().fill(0xee);
    block_on(storage.read(buf, offset)).unwrap().as_slice().to_vec()
}

fn write<S: Storage>(storage: &S, data: &[u8], offset: u64) {
    block_on(storage.write(Bytes::copy_from_slice(data), offset)).unwrap();
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(1..)).take(len).collect()
}

/// One operation of the random test.
#[derive(Clone, Debug)]
enum Op {
    Read { offset: usize, len: usize },
    Write { offset: usize, len: usize, seed: u64 },
    WriteVectored { offset: usize, lens: Vec<usize>, seed: u64 },
    WriteZeroes { offset: usize, len: usize, space: Space },
    SetLen { len: usize },
    Allocation { offset: usize, len: usize },
    Sync,
}

/// Numbers that are often, but not always, aligned.
fn places(limit: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        0..limit,
        (0..limit / 512).prop_map(|n| n * 512),
        (0..limit / 4096).prop_map(|n| n * 4096),
        Just(0)
    ]
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let place = || places(MAX_LEN - (64 << 10));
    let len = || places(60 << 10);
    let lens = proptest::collection::vec(places(8 << 10), 0..6);
    let space = prop_oneof![Just(Space::Free), Just(Space::Keep), Just(Space::Allocate)];
    let op = prop_oneof![
        (place(), len()).prop_map(|(offset, len)| Op::Read { offset, len }),
        (place(), len(), any::<u64>()).prop_map(|(offset, len, seed)| Op::Write { offset, len, seed }),
        (place(), lens, any::<u64>()).prop_map(|(offset, lens, seed)| Op::WriteVectored { offset, lens, seed }),
        (place(), len(), space).prop_map(|(offset, len, space)| Op::WriteZeroes { offset, len, space }),
        place().prop_map(|len| Op::SetLen { len }),
        (place(), len()).prop_map(|(offset, len)| Op::Allocation { offset, len: len + 1 }),
        Just(Op::Sync),
    ];
    proptest::collection::vec(op, 1..40)
}

fn model_write(model: &mut Vec<u8>, data: &[u8], offset: usize) {
    if data.is_empty() {
        return;
    }
    let end = offset + data.len();
    model.resize(model.len().max(end), 0);
    model[offset..end].copy_from_slice(data);
}

fn model_read(model: &[u8], offset: usize, len: usize) -> Vec<u8> {
    let mut data: Vec<u8> = model.iter().copied().skip(offset).take(len).collect();
    data.resize(len, 0);
    data
}

fn run<S: Storage>(storage: &S, ops: &[Op]) {
    let mut model = Vec::new();
    for op in ops {
        match op.clone() {
            Op::Read { offset, len } => {
                assert!(
                    read(storage, offset as u64, len) == model_read(&model, offset, len),
                    "{op:?}"
                );
            }
            Op::Write { offset, len, seed } => {
                let data = pattern(seed, len);
                write(storage, &data, offset as u64);
                model_write(&mut model, &data, offset);
            }
            Op::WriteVectored { offset, lens, seed } => {
                let data = pattern(seed, lens.iter().sum());
                let mut rest = Bytes::from(data.clone());
                let pieces = lens.iter().map(|len| rest.split_to(*len)).collect();
                block_on(storage.write_vectored(pieces, offset as u64)).unwrap();
                model_write(&mut model, &data, offset);
            }
            Op::WriteZeroes { offset, len, space } => {
                block_on(storage.write_zeroes(offset as u64, len as u64, space)).unwrap();
                let end = (offset + len).min(model.len());
                if offset < end {
                    model[offset..end].fill(0);
                }
            }
            Op::SetLen { len } => {
                block_on(storage.set_len(len as u64)).unwrap();
                model.resize(len, 0);
            }
            Op::Allocation { offset, len } => {
                let (allocation, stretch) = block_on(storage.allocation(offset as u64, len as u64)).unwrap();
                assert!((1..=len as u64).contains(&stretch), "{op:?}: {stretch}");
                if offset >= model.len() {
                    assert_eq!((allocation, stretch), (Allocation::Hole, len as u64), "{op:?}");
                }
                if allocation == Allocation::Hole {
                    let data = model_read(&model, offset, stretch as usize);
                    assert!(data.iter().all(|byte| *byte == 0), "{op:?}: data in a hole");
                }
            }
            Op::Sync => block_on(storage.sync()).unwrap(),
        }
        assert_eq!(block_on(storage.len()).unwrap(), model.len() as u64, "{op:?}");
    }
    assert!(
        read(storage, 0, MAX_LEN) == model_read(&model, 0, MAX_LEN),
        "at the end"
    );
}

fn empty_operations_do_nothing<S: Storage>(storage: &S) {
    write(storage, &[], 1000);
    block_on(storage.write_vectored(vec![], 1000)).unwrap();
    block_on(storage.write_vectored(vec![Bytes::new(), Bytes::new()], u64::MAX)).unwrap();
    block_on(storage.write_zeroes(0, 0, Space::Free)).unwrap();
    write(storage, &[], u64::MAX);
    assert_eq!(read(storage, u64::MAX, 0), []);
    assert_eq!(block_on(storage.len()).unwrap(), 0);
}

fn far_beyond_the_end_reads_give_zeros_and_writes_fail<S: Storage>(storage: &S) {
    write(storage, &[1; 100], 0);
    for offset in [
        1 << 40,
        i64::MAX as u64 - 100,
        i64::MAX as u64,
        u64::MAX - 300,
        u64::MAX,
    ] {
        assert_eq!(read(storage, offset, 300), [0; 300], "at {offset}");
        assert_eq!(
            block_on(storage.allocation(offset, 7)).unwrap(),
            (Allocation::Hole, 7),
            "at {offset}"
        );
        block_on(storage.write_zeroes(offset, u64::MAX, Space::Allocate)).unwrap();
    }
    for offset in [i64::MAX as u64, u64::MAX - 5] {
        let error = block_on(storage.write(Bytes::from_static(&[1; 10]), offset)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert_eq!(error.offset(), Some(offset));
        assert_eq!(error.path(), Some(storage.path()));
    }
    assert_eq!(
        block_on(storage.set_len(u64::MAX)).unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    assert_eq!(block_on(storage.len()).unwrap(), 100);
}

fn zeroing_clips_at_the_end_and_frees_what_it_covers<S: Storage>(storage: &S) {
    write(storage, &pattern(1, 1_000_001), 0);
    block_on(storage.write_zeroes(100_001, 10 << 20, Space::Free)).unwrap();
    assert_eq!(block_on(storage.len()).unwrap(), 1_000_001);
    assert_eq!(read(storage, 0, 100_001), pattern(1, 100_001));
    assert!(read(storage, 100_001, 1_000_000).iter().all(|byte| *byte == 0));
    let (allocation, len) = block_on(storage.allocation(300_000, 100_000)).unwrap();
    assert_eq!((allocation, len), (Allocation::Hole, 100_000));
    let (allocation, _) = block_on(storage.allocation(0, 1)).unwrap();
    assert_eq!(allocation, Allocation::Data);
}

fn zeroing_with_space_clips_at_the_end_and_keeps_the_rest<S: Storage>(storage: &S) {
    for space in [Space::Keep, Space::Allocate] {
        block_on(storage.set_len(0)).unwrap();
        write(storage, &pattern(1, 300_001), 0);
        write(storage, &pattern(2, 300_001), 700_000);
        block_on(storage.write_zeroes(100_001, 800_000, space)).unwrap();
        assert_eq!(read(storage, 0, 100_001), pattern(1, 100_001));
        assert!(read(storage, 100_001, 800_000).iter().all(|byte| *byte == 0));
        assert_eq!(read(storage, 900_001, 100_000), pattern(2, 300_001)[200_001..]);
        block_on(storage.write_zeroes(950_001, 10 << 20, space)).unwrap();
        assert_eq!(block_on(storage.len()).unwrap(), 1_000_001);
        assert!(read(storage, 950_001, 100_000).iter().all(|byte| *byte == 0));
    }
}

fn a_discard_changes_only_its_range_and_frees_space<S: Storage>(storage: &S) {
    write(storage, &pattern(1, 1_000_001), 0);
    block_on(storage.discard(100_001, 800_000)).unwrap();
    block_on(storage.discard(900_001, 10 << 20)).unwrap();
    block_on(storage.discard(u64::from(u32::MAX), 10)).unwrap();
    assert_eq!(block_on(storage.len()).unwrap(), 1_000_001);
    assert_eq!(read(storage, 0, 100_001), pattern(1, 100_001));
    let old = pattern(1, 1_000_001);
    let now = read(storage, 0, 1_000_001);
    assert!(now.iter().zip(&old).all(|(now, old)| *now == 0 || now == old));
    let (allocation, len) = block_on(storage.allocation(300_000, 100_000)).unwrap();
    assert_eq!((allocation, len), (Allocation::Hole, 100_000));
}

fn truncated_data_does_not_come_back<S: Storage>(storage: &S) {
    write(storage, &vec![7; 100_000], 0);
    block_on(storage.set_len(70_001)).unwrap();
    block_on(storage.set_len(100_000)).unwrap();
    assert_eq!(read(storage, 70_000, 2), [7, 0]);
    assert!(read(storage, 70_001, 40_000).iter().all(|byte| *byte == 0));
}

fn more_pieces_than_one_call_takes_are_written_in_order<S: Storage>(storage: &S) {
    let data = pattern(3, 5000 * 3);
    let mut pieces = Vec::new();
    for (number, piece) in data.chunks(3).enumerate() {
        if number % 100 == 0 {
            pieces.push(Bytes::new());
        }
        pieces.push(Bytes::copy_from_slice(piece));
    }
    block_on(storage.write_vectored(pieces, 77)).unwrap();
    assert_eq!(read(storage, 77, data.len()), data);
    assert_eq!(block_on(storage.len()).unwrap(), 77 + data.len() as u64);
}

fn large_unaligned_transfers_arrive_whole<S: Storage>(storage: &S) {
    let data = pattern(4, (3 << 20) + 333);
    write(storage, &data, 4095);
    write(storage, &[9; 5], 0);
    assert!(read(storage, 4095, data.len()) == data);
    assert!(read(storage, 4096, data.len() - 1) == data[1..]);
    assert_eq!(read(storage, 0, 6), [9, 9, 9, 9, 9, 0]);
    assert_eq!(block_on(storage.len()).unwrap(), 4095 + data.len() as u64);
}

/// Writers that share sectors, each with its own bytes, and one that zeroes bytes between them.
fn neighbours_in_a_sector_do_not_affect_one_another<S: Storage>(storage: S) {
    const PIECE: usize = 100;
    const WRITERS: usize = 4;
    const ROUNDS: usize = 60;
    let storage = Arc::new(storage);
    // All start at once in every round, so that they collide often.
    let barrier = Arc::new(Barrier::new(WRITERS));
    write(&*storage, &vec![0xff; WRITERS * PIECE * ROUNDS], 0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let storage = Arc::clone(&storage);
            let barrier = Arc::clone(&barrier);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait();
                    let offset = ((round * WRITERS + writer) * PIECE) as u64;
                    if writer == 0 {
                        block_on(storage.write_zeroes(offset, PIECE as u64, Space::Free)).unwrap();
                    } else {
                        write(&*storage, &[writer as u8; PIECE], offset);
                    }
                }
            });
        }
    });
    for (number, piece) in read(&*storage, 0, WRITERS * PIECE * ROUNDS).chunks(PIECE).enumerate() {
        assert!(piece == [(number % WRITERS) as u8; PIECE], "piece {number}");
    }
}

/// The suite for one way to make an empty storage that can grow.
macro_rules! contract {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;

            macro_rules! case {
                ($case:ident) => {
                    #[test]
                    fn $case() {
                        let made = $make;
                        super::$case(made.storage());
                    }
                };
            }

            case!(empty_operations_do_nothing);
            case!(far_beyond_the_end_reads_give_zeros_and_writes_fail);
            case!(zeroing_clips_at_the_end_and_frees_what_it_covers);
            case!(zeroing_with_space_clips_at_the_end_and_keeps_the_rest);
            case!(a_discard_changes_only_its_range_and_frees_space);
            case!(truncated_data_does_not_come_back);
            case!(more_pieces_than_one_call_takes_are_written_in_order);
            case!(large_unaligned_transfers_arrive_whole);

            proptest! {
                #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

                #[test]
                fn random_operations_match_a_vector(ops in operations()) {
                    let made = $make;
                    run(made.storage(), &ops);
                }
            }
        }
    };
}

contract!(memory, MemoryStorage::new());
contract!(buffered_file, TestFile::new(false));
contract!(direct_file, TestFile::new(true));
contract!(buffered_file_with_threads, AsyncTestFile::new(Backend::Threads, false));
contract!(direct_file_with_threads, AsyncTestFile::new(Backend::Threads, true));
contract!(file_in_memory_with_threads, AsyncTestFile::in_memory(Backend::Threads));
contract!(buffered_file_with_a_ring, AsyncTestFile::new(Backend::Uring, false));
contract!(direct_file_with_a_ring, AsyncTestFile::new(Backend::Uring, true));
contract!(file_in_memory_with_a_ring, AsyncTestFile::in_memory(Backend::Uring));

#[test]
fn neighbours_in_a_sector_of_memory_do_not_affect_one_another() {
    neighbours_in_a_sector_do_not_affect_one_another(MemoryStorage::new());
}

#[test]
fn neighbours_in_a_sector_of_a_file_do_not_affect_one_another() {
    for direct in [false, true] {
        for _ in 0..5 {
            let path = new_path("neighbours");
            let storage = FileStorage::create(&path, direct).unwrap();
            neighbours_in_a_sector_do_not_affect_one_another(storage);
            for backend in [Backend::Threads, Backend::Uring] {
                let storage = FileStorage::create(&path, direct).unwrap();
                neighbours_in_a_sector_do_not_affect_one_another(AsyncFile::new(storage, backend));
            }
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// The neighbours rewrite the sector all the time. The zeroed bytes in it must stay zeros.
#[test]
fn zeroed_bytes_stay_zeros_while_their_sector_is_rewritten() {
    let file = TestFile::new(true);
    let storage = &file.0;
    write(storage, &[1; 512], 0);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for neighbour in [0, 400] {
            let is_done = &is_done;
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    write(storage, &[2; 100], neighbour);
                }
            });
        }
        scope.spawn(|| {
            let mut came_back = 0;
            for _ in 0..60 {
                write(storage, &[3; 100], 200);
                block_on(storage.write_zeroes(200, 100, Space::Free)).unwrap();
                std::thread::yield_now();
                came_back += usize::from(read(storage, 200, 100) != [0; 100]);
            }
            is_done.store(true, Ordering::Relaxed);
            assert_eq!(came_back, 0);
        });
    });
}

#[test]
fn a_device_in_memory_has_a_fixed_length() {
    let device = MemoryStorage::device(1000);
    assert!(!device.can_resize());
    assert_eq!(
        block_on(device.set_len(2000)).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    let error = block_on(device.write(Bytes::from_static(&[1; 2]), 999)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    write(&device, &[1; 1000], 0);
    assert_eq!(block_on(device.len()).unwrap(), 1000);
}

#[test]
fn clones_of_a_memory_share_its_content() {
    let first = MemoryStorage::new();
    let second = first.clone();
    write(&first, b"hello", 3);
    assert_eq!(second.to_vec(), b"\0\0\0hello");
}

#[test]
fn direct_writes_are_visible_through_the_page_cache() {
    let file = TestFile::new(true);
    let data = pattern(5, 10_000);
    write(&file.0, &data, 1);
    assert_eq!(std::fs::read(file.0.path()).unwrap()[1..], data);
    let options = FileOptions {
        lock: LockMode::None,
        ..FileOptions::default()
    };
    let second = FileStorage::open(file.0.path(), &options).unwrap();
    assert_eq!(second.identity(), file.0.identity());
    assert_eq!(read(&second, 1, 10_000), data);
}

/// Needs root and a free loop device.
#[test]
fn a_block_device_keeps_the_contract_and_its_length() {
    const LEN: u64 = 4 << 20;
    let path = new_path("loop");
    std::fs::File::create(&path).unwrap().set_len(LEN).unwrap();
    let output = std::process::Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let device = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    for direct in [false, true] {
        let storage = FileStorage::create(&device, direct).unwrap();
        assert!(storage.is_device() && !storage.can_resize());
        assert_eq!(block_on(storage.len()).unwrap(), LEN);
        let data = pattern(6, 300_000);
        write(&storage, &data, 1001);
        assert!(read(&storage, 1001, 300_000) == data);
        for space in [Space::Free, Space::Keep, Space::Allocate] {
            write(&storage, &data, 1001);
            block_on(storage.write_zeroes(2001, 200_000, space)).unwrap();
            block_on(storage.write_zeroes(LEN - 10, 200_000, space)).unwrap();
            assert!(read(&storage, 1001, 1000) == data[..1000]);
            assert!(read(&storage, 2001, 200_000).iter().all(|byte| *byte == 0));
            assert!(read(&storage, 202_001, 99_000) == data[201_000..]);
        }
        let error = block_on(storage.write(Bytes::from_static(&[1; 4096]), LEN)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert_eq!(block_on(storage.set_len(0)).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(
            block_on(storage.allocation(LEN - 1, 10)).unwrap(),
            (Allocation::Data, 1)
        );
        assert_eq!(block_on(storage.allocation(LEN, 10)).unwrap(), (Allocation::Hole, 10));
        block_on(storage.sync()).unwrap();
    }
    let status = std::process::Command::new("losetup")
        .arg("--detach")
        .arg(&device)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::remove_file(path).unwrap();
}
