//! Remote bases.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fvd::Result;
use fvd::copy::{Background, Control, Prefetch, PrefetchOptions, PrefetchState};
use fvd::format::LayoutOptions;
use fvd::host::{BoxFuture, Clock};
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, Content, Run};
use fvd::storage::{IoBufMut, MemoryStorage};

use super::support::{FakeClock, both, run};
use super::{KIB, MIB};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const SIZE: u64 = 1024 * MIB;
const ENTRY: u64 = 4 * KIB;
/// Bytes per second of the link to the base, which its readers share.
const LINE: u64 = 100 * MIB;

/// The reads of a base.
#[derive(Default)]
struct Reads {
    /// In the order in which they began.
    begun: Vec<Range<u64>>,
    under_way: usize,
    most_under_way: usize,
    /// When the link is free again.
    free: Duration,
}

/// A base with latency, on a shared link. Clones are the same base.
#[derive(Clone)]
struct FarBase {
    clock: FakeClock,
    latency: Duration,
    reads: Arc<Mutex<Reads>>,
}

impl FarBase {
    fn reads(&self) -> std::sync::MutexGuard<'_, Reads> {
        self.reads.lock().expect("no test holds it when it fails")
    }
}

impl BaseSource for FarBase {
    fn path(&self) -> &Path {
        Path::new("base")
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> u64 {
        SIZE
    }

    fn read(&self, mut buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(async move {
            let len = buf.len() as u64;
            let arrives = {
                let mut reads = self.reads();
                reads.begun.push(offset..offset + len);
                reads.under_way += 1;
                reads.most_under_way = reads.most_under_way.max(reads.under_way);
                let sent = reads.free.max(self.clock.now() + self.latency);
                reads.free = sent + Duration::from_nanos(len * 1_000_000_000 / LINE);
                reads.free
            };
            self.clock.sleep(arrives.saturating_sub(self.clock.now())).await;
            self.reads().under_way -= 1;
            buf.as_mut_slice().fill(1);
            Ok(buf)
        })
    }

    fn status(&self, _: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        let run = Run {
            content: Content::Data,
            present: true,
            ..Run::zeros(len)
        };
        Box::pin(std::future::ready(Ok(run)))
    }
}

/// An image over a base with this latency.
fn far(latency: Duration) -> (FakeClock, FarBase, Image<MemoryStorage>) {
    let clock = FakeClock::default();
    let base = FarBase {
        clock: clock.clone(),
        latency,
        reads: Arc::default(),
    };
    let source: Box<dyn BaseSource> = Box::new(base.clone());
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: SIZE,
            base_size: Some(SIZE),
            ..LayoutOptions::default()
        },
        base_img: "base".into(),
        ..CreateOptions::default()
    };
    let opened = async {
        let file = MemoryStorage::new();
        create(&file, None, &options, None).await?;
        let head = read_head(&file).await?;
        let options = OpenOptions {
            writable: true,
            ..OpenOptions::default()
        };
        Image::open(file, head, None, Some(source), options).await
    };
    let image = run(&clock, opened).expect("memory does not fail");
    (clock, base, image)
}

/// Entries of 4 KiB in the order of a boot: spread over the base, some next to one another.
fn entries(count: usize) -> Vec<Range<u64>> {
    let mut rng = fastrand::Rng::with_seed(18);
    let mut entries: Vec<Range<u64>> = Vec::new();
    while entries.len() < count {
        let at = match entries.last() {
            Some(last) if rng.u8(..3) == 0 => last.end % SIZE,
            _ => rng.u64(..SIZE / ENTRY) * ENTRY,
        };
        entries.push(at..at + ENTRY);
    }
    entries
}

/// Fetches only a profile. Returns how long that took, at most a minute.
fn fetch_profile(clock: &FakeClock, image: &Image<MemoryStorage>, entries: &[Range<u64>]) -> (Duration, Control) {
    let control = Control::new();
    let options = PrefetchOptions {
        profile_start_delay: Some(Duration::ZERO),
        ..PrefetchOptions::from(image.header())
    };
    let background = Background::new(image, options, entries.to_vec(), control.clone(), clock, 1);
    let is_there = async || {
        for entry in entries {
            let run = image
                .block_status(entry.start, ENTRY)
                .await
                .expect("memory does not fail");
            if run.depth > 0 || run.len < ENTRY {
                return false;
            }
        }
        true
    };
    let watch = async {
        while clock.now() < 60 * SECOND && !is_there().await {
            clock.sleep(20 * MS).await;
        }
        control.stop();
        clock.now()
    };
    let (took, ()) = run(clock, both(watch, background.run()));
    (took, control)
}

#[test]
fn a_profile_of_small_entries_is_fetched_fast_from_afar() {
    let entries = entries(3000);
    for (latency, limit) in [(1, 2000), (10, 2000), (30, 2500), (100, 6000)] {
        let (clock, _, image) = far(latency * MS);
        let (took, control) = fetch_profile(&clock, &image, &entries);
        println!("{latency} ms to the base: {took:?}");
        assert!(took <= limit * MS, "{latency} ms to the base: {took:?}");
        assert_eq!(control.status().pauses, 0);
    }
}

#[test]
fn a_profile_is_fetched_in_order_and_neighbours_together() {
    let entries = entries(500);
    let (clock, base, image) = far(30 * MS);
    fetch_profile(&clock, &image, &entries);
    let begun = base.reads().begun.clone();
    // No byte is read twice, and there are far fewer requests than entries.
    let read: u64 = begun.iter().map(|read| read.end - read.start).sum();
    let mut parts: Vec<_> = begun.iter().map(|read| read.start).collect();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts.len(), begun.len());
    assert!(begun.len() < 380, "{} requests", begun.len());
    assert!(read < 500 * 2 * ENTRY, "{read} bytes");
    // None comes later than its place in the profile, except for those in flight at the same time.
    for (number, entry) in entries.iter().enumerate() {
        let covers = |read: &Range<u64>| read.start <= entry.start && entry.end <= read.end;
        let place = begun.iter().position(covers).expect("it was read");
        assert!(place <= number + 4, "entry {number} was read as number {place}");
    }
}

#[test]
fn the_number_of_requests_in_flight_follows_the_latency() {
    for (latency_us, most) in [(100, 2), (5000, 11), (100_000, 64)] {
        let (clock, base, image) = far(Duration::from_micros(latency_us));
        fetch_profile(&clock, &image, &entries(600));
        let under_way = base.reads().most_under_way;
        assert!(
            under_way <= most && under_way * 2 >= most,
            "{latency_us} us: {under_way}"
        );
    }
}

#[test]
fn prefetch_after_the_profile_does_not_pause_either() {
    for latency in [30, 100] {
        let (clock, base, image) = far(latency * MS);
        let control = Control::new();
        let options = PrefetchOptions::from(image.header());
        let prefetch = Prefetch::new(&image, options, entries(300), control.clone(), &clock, 1);
        let guest = async {
            // During requests of the guest, a slot of prefetch takes 128 KiB.
            while clock.now() < 20 * SECOND {
                image.read(IoBufMut::zeroed(4096), SIZE - 4096).await.expect("reads");
                clock.sleep(50 * MS).await;
            }
            control.stop();
        };
        run(&clock, async { both(prefetch.run(), guest).await.0.expect("stops") });
        assert_eq!(
            (control.status().pauses, control.status().state),
            (0, PrefetchState::Stopped)
        );
        assert!(base.reads().begun.len() > 300);
    }
}
