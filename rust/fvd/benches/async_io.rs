//! The cost of `AsyncFile`: 4 KiB at random offsets, one operation at a time and 32 at once.
//!
//! `cargo bench -p fvd --bench async_io -- FOLDER [SECONDS [PART OF A NAME]]`

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fvd::storage::{AsyncFile, Backend, FileOptions, FileStorage, IoBufMut, Storage};
use pollster::block_on;

const LEN: u64 = 64 << 20;
const BLOCK: usize = 4096;

/// How often each case is measured, alternating with the others. The best result counts: other processes
/// disturb some.
const ROUNDS: usize = 4;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let time = Duration::from_secs_f64(seconds);
    let only = arguments.next().unwrap_or_default();
    let path = folder.join("async_io.bench");
    make(&path);
    inline_read(&path);
    let cases = cases().into_iter().filter(|case| case.to_string().contains(&only));
    let mut best: Vec<_> = cases.map(|case| (case, 0.0_f64, f64::MAX)).collect();
    for _ in 0..ROUNDS {
        for (case, rate, cost) in &mut best {
            let (new_rate, new_cost) = measure(&path, *case, time);
            *rate = new_rate.max(*rate);
            *cost = new_cost.min(*cost);
        }
    }
    for (case, rate, cost) in best {
        println!("{case}: {rate:.0}/s, {cost:.1} us of processor time each");
    }
    std::fs::remove_file(path).expect("the file of this run");
}

#[derive(Clone, Copy)]
struct Case {
    backend: Backend,
    direct: bool,
    writes: bool,
    depth: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cache = if self.direct { "O_DIRECT" } else { "buffered" };
        let verb = if self.writes { "writes" } else { "reads" };
        write!(f, "{:?} {cache} {verb}, {} at once", self.backend, self.depth)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (direct, writes) in [(false, true), (true, false), (true, true)] {
        for depth in [1, 32] {
            for backend in [Backend::Threads, Backend::Uring] {
                cases.push(Case {
                    backend,
                    direct,
                    writes,
                    depth,
                });
            }
        }
    }
    cases
}

fn make(path: &Path) {
    let file = File::create(path).expect("a new file");
    let block = vec![1; 1 << 20];
    for offset in (0..LEN).step_by(block.len()) {
        file.write_all_at(&block, offset).expect("room for 64 MiB");
    }
    file.sync_all().expect("a disk that works");
}

fn open(path: &Path, direct: bool) -> FileStorage {
    let options = FileOptions {
        writable: true,
        direct,
        ..FileOptions::default()
    };
    FileStorage::open(path, &options).expect("the file of this run")
}

fn random_offset(random: &mut fastrand::Rng) -> u64 {
    random.u64(..LEN / BLOCK as u64) * BLOCK as u64
}

/// A read from the page cache: `pread` alone, blocking, and asynchronous.
fn inline_read(path: &Path) {
    const COUNT: u32 = 200_000;
    let bare = File::open(path).expect("the file of this run");
    let mut block = vec![0; BLOCK];
    let blocking = open(path, false);
    let each = |name: &str, work: &mut dyn FnMut(u64)| {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let mut random = fastrand::Rng::with_seed(1);
            let start = Instant::now();
            for _ in 0..COUNT {
                work(random_offset(&mut random));
            }
            best = best.min(start.elapsed() / COUNT);
        }
        println!("cached read, {name}: {best:?}");
    };
    each("pread", &mut |offset| {
        bare.read_exact_at(&mut block, offset).expect("cached");
    });
    let mut buf = Some(IoBufMut::zeroed(BLOCK));
    each("FileStorage", &mut |offset| {
        let read = blocking.read(buf.take().expect("given back"), offset);
        buf = Some(block_on(read).expect("cached"));
    });
    drop(blocking);
    let file = AsyncFile::new(open(path, false), Backend::Threads);
    each("AsyncFile", &mut |offset| {
        let read = file.read(buf.take().expect("given back"), offset);
        buf = Some(block_on(read).expect("cached"));
    });
}

/// Seconds of processor time of all threads of this process, kernel time included.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let ticks = |number: usize| {
        let fields = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(number));
        fields
            .and_then(|field| field.parse::<f64>().ok())
            .expect("the format of proc(5)")
    };
    // Ticks, of which every Linux has 100 per second.
    (ticks(11) + ticks(12)) / 100.0
}

/// Operations per second, and microseconds of processor time per operation.
fn measure(path: &Path, case: Case, time: Duration) -> (f64, f64) {
    let file = Arc::new(AsyncFile::new(open(path, case.direct), case.backend));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let used = processor_time();
    let start = Instant::now();
    let tasks: Vec<_> = (0..case.depth)
        .map(|seed| runtime.spawn(work(Arc::clone(&file), case.writes, seed, start + time)))
        .collect();
    let count: u32 = runtime.block_on(async {
        let mut count = 0;
        for task in tasks {
            count += task.await.expect("no panic");
        }
        count
    });
    let count = f64::from(count);
    let rate = count / start.elapsed().as_secs_f64();
    (rate, (processor_time() - used) * 1e6 / count)
}

async fn work(file: Arc<AsyncFile>, writes: bool, seed: u64, end: Instant) -> u32 {
    let mut random = fastrand::Rng::with_seed(seed);
    let data = Bytes::from_owner(IoBufMut::zeroed(BLOCK));
    let mut buf = IoBufMut::zeroed(BLOCK);
    let mut count = 0;
    while Instant::now() < end {
        let offset = random_offset(&mut random);
        if writes {
            file.write(data.clone(), offset).await.expect("a disk that works");
        } else {
            buf = file.read(buf, offset).await.expect("a disk that works");
        }
        count += 1;
        if count % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    count
}
