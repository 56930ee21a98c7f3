//! What `AsyncFile` costs: 4 KiB at random places, one operation at a time and 32 at once.
//!
//! `cargo bench -p fvd --bench async_io -- FOLDER [SECONDS]`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fvd::storage::{AsyncFile, Backend, FileOptions, FileStorage, IoBufMut, Storage};
use pollster::block_on;

const LEN: u64 = 256 << 20;
const BLOCK: usize = 4096;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let time = Duration::from_secs_f64(seconds);
    let path = folder.join("async_io.bench");
    make(&path);
    inline_read(&path);
    for backend in [Backend::Threads, Backend::Uring] {
        for (direct, writes) in [(false, true), (true, false), (true, true)] {
            for depth in [1, 32] {
                let (rate, slowest) = measure(&path, backend, direct, writes, depth, time);
                let cache = if direct { "O_DIRECT" } else { "buffered" };
                let verb = if writes { "writes" } else { "reads" };
                println!("{backend:?} {cache} {verb}, {depth} at once: {rate:.0}/s, slowest poll {slowest:?}");
            }
        }
    }
    std::fs::remove_file(path).expect("the file of this run");
}

fn make(path: &Path) {
    let file = File::create(path).expect("a new file");
    let block = vec![1; 1 << 20];
    for offset in (0..LEN).step_by(block.len()) {
        file.write_all_at(&block, offset).expect("room for 256 MiB");
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

/// A read from the page cache: the system call alone, blocking, and not.
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
        bare.read_exact_at(&mut block, offset).expect("cached")
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

/// Operations a second, and the longest that one poll of all held up the thread.
fn measure(path: &Path, backend: Backend, direct: bool, writes: bool, depth: u64, time: Duration) -> (f64, Duration) {
    let file = Arc::new(AsyncFile::new(open(path, direct), backend));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let slowest = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..depth)
        .map(|seed| {
            let (file, slowest) = (Arc::clone(&file), Arc::clone(&slowest));
            runtime.spawn(timed_polls(slowest, async move {
                let mut random = fastrand::Rng::with_seed(seed);
                let data = Bytes::from_owner(IoBufMut::zeroed(BLOCK));
                let mut buf = IoBufMut::zeroed(BLOCK);
                let mut count = 0;
                while start.elapsed() < time {
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
            }))
        })
        .collect();
    let count: u64 = runtime.block_on(async {
        let mut count = 0;
        for task in tasks {
            count += task.await.expect("no panic");
        }
        count
    });
    let rate = count as f64 / start.elapsed().as_secs_f64();
    (rate, Duration::from_nanos(slowest.load(Ordering::Relaxed)))
}

async fn timed_polls<T>(slowest: Arc<AtomicU64>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let start = Instant::now();
        let result = work.as_mut().poll(context);
        slowest.fetch_max(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    })
    .await
}
