//! Prefetch with a profile: its ranges are fetched first, in their order.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fvd::Result;
use fvd::copy::{Control, PrefetchState, background};
use fvd::format::LayoutOptions;
use fvd::host::{BoxFuture, Clock};
use fvd::image::profile::{empty_profile, write_profile};
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, RawSource, Run};
use fvd::storage::{IoBufMut, MemoryStorage};
use pollster::block_on;

const KIB: u64 = 1024;
const BASE: u64 = 1024 * KIB;
const BLOCK: u64 = 16 * KIB;

/// In an order of its own, neither aligned to blocks nor front to back.
const PROFILE: [Range<u64>; 3] = [512 * KIB..520 * KIB, 4 * KIB..8 * KIB, 900 * KIB..940 * KIB];
/// The blocks of these ranges.
const BLOCKS: [Range<u64>; 3] = [512 * KIB..528 * KIB, 0..16 * KIB, 896 * KIB..944 * KIB];

/// Time that passes only when no task can run.
#[derive(Clone, Default)]
struct FakeClock(Arc<Mutex<(Duration, BTreeSet<Duration>)>>);

struct Sleep(FakeClock, Duration);

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.0.0.lock().expect("not poisoned");
        if time.0 >= self.1 {
            return Poll::Ready(());
        }
        time.1.insert(self.1);
        Poll::Pending
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Duration {
        self.0.lock().expect("not poisoned").0
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(Sleep(self.clone(), self.now() + time))
    }
}

/// Runs the future until it ends, or until the time `end`.
fn run_until(clock: &FakeClock, end: Duration, future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    loop {
        // Polls again and again at each moment, so that no waker is needed.
        for _ in 0..500 {
            if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                return;
            }
        }
        let mut time = clock.0.lock().expect("not poisoned");
        let next = time.1.pop_first().unwrap_or(end);
        if next >= end {
            return;
        }
        time.0 = time.0.max(next);
    }
}

/// Reads of the base, with the second in which they came. Consecutive reads of neighbouring ranges are
/// joined.
type Reads = Arc<Mutex<Vec<(u64, Range<u64>)>>>;

struct LoggedBase {
    base: RawSource<MemoryStorage>,
    clock: FakeClock,
    reads: Reads,
}

impl BaseSource for LoggedBase {
    fn path(&self) -> &Path {
        self.base.path()
    }

    fn format(&self) -> &'static str {
        self.base.format()
    }

    fn len(&self) -> u64 {
        self.base.len()
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        let (now, end) = (self.clock.now().as_secs(), offset + buf.len() as u64);
        let mut reads = self.reads.lock().expect("not poisoned");
        match reads.last_mut() {
            Some((second, last)) if (*second, last.end) == (now, offset) => last.end = end,
            _ => reads.push((now, offset..end)),
        }
        drop(reads);
        self.base.read(buf, offset)
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        self.base.status(offset, len)
    }
}

/// What happened in ten minutes with these delays, in seconds.
struct Outcome {
    reads: Vec<(u64, Range<u64>)>,
    control: Control,
}

fn prefetch(profile_delay: i32, delay: i32, prepare: impl FnOnce(&Control)) -> Outcome {
    let (clock, reads) = (FakeClock::default(), Reads::default());
    let mut bytes = vec![0; BASE as usize];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    let control = Control::new();
    prepare(&control);
    let image = block_on(async {
        let file = MemoryStorage::new();
        let options = CreateOptions {
            layout: LayoutOptions {
                virtual_size: BASE,
                base_size: Some(BASE),
                block_size: Some(BLOCK),
                prefetch_profile_size: Some(4096),
                ..LayoutOptions::default()
            },
            base_img: "base".into(),
            prefetch_start_delay: Some(delay),
            profile_directed_prefetch_start_delay: Some(profile_delay),
            ..CreateOptions::default()
        };
        create(&file, None, &options, None).await?;
        let geometry = read_head(&file).await?.geometry;
        let mut profile = empty_profile(&geometry).expect("there is room");
        for range in PROFILE {
            assert!(profile.add(range));
        }
        write_profile(&file, &geometry, &profile).await?;
        let base = LoggedBase {
            base: RawSource::new(MemoryStorage::from_bytes(&bytes)).await?,
            clock: clock.clone(),
            reads: reads.clone(),
        };
        let options = OpenOptions {
            writable: true,
            ..OpenOptions::default()
        };
        let head = read_head(&file).await?;
        Image::open(file, head, None, Some(Box::new(base)), options).await
    });
    let image = image.expect("memory does not fail");
    run_until(
        &clock,
        Duration::from_secs(600),
        background(&image, control.clone(), &clock, 1),
    );
    let reads = reads.lock().expect("not poisoned").clone();
    Outcome { reads, control }
}

fn expected(second: u64) -> Vec<(u64, Range<u64>)> {
    BLOCKS.map(|range| (second, range)).to_vec()
}

#[test]
fn the_profile_and_the_rest_have_delays_of_their_own() {
    let outcome = prefetch(3, 60, |_| ());
    let (first, rest) = outcome.reads.split_at(3);
    assert_eq!(first, expected(3));
    assert_eq!(rest[0], (60, 16 * KIB..512 * KIB));
    assert!(rest.iter().all(|(second, _)| *second >= 60));
    let status = outcome.control.status();
    assert_eq!((status.state, status.local), (PrefetchState::Finished, BASE));
}

#[test]
fn the_profile_is_fetched_even_if_the_rest_is_not() {
    let outcome = prefetch(0, -1, |_| ());
    assert_eq!(outcome.reads, expected(0));
    let status = outcome.control.status();
    let fetched = BLOCKS.iter().map(|range| range.end - range.start).sum();
    assert_eq!((status.state, status.fetched), (PrefetchState::Waiting, fetched));
}

#[test]
fn the_profile_never_comes_after_the_rest() {
    let outcome = prefetch(60, 5, |_| ());
    assert_eq!(outcome.reads[..3], expected(5));
}

#[test]
fn a_profile_without_a_delay_is_not_used() {
    assert_eq!(prefetch(-1, -1, |_| ()).reads, []);
    assert_eq!(prefetch(-1, 5, |_| ()).reads[0], (5, 0..BASE));
}

#[test]
fn a_resume_fetches_the_profile_first() {
    let outcome = prefetch(60, -1, Control::resume);
    assert_eq!(outcome.reads[..3], expected(0));
    assert_eq!(outcome.control.status().state, PrefetchState::Finished);
}

#[test]
fn nothing_is_fetched_after_a_stop() {
    let outcome = prefetch(0, 0, Control::stop);
    assert_eq!(outcome.reads, []);
    assert_eq!(outcome.control.status().state, PrefetchState::Stopped);
}
