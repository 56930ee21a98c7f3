//! *boot*: the same trace three times.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fvd::copy::{Background, Control, PrefetchOptions};
use fvd::image::{self, CreateOptions, Image, OpenOptions};
use fvd::storage::{FileStorage, IoBufMut};
use pollster::block_on;

use crate::slow_base::SlowBase;
use crate::timer::Timer;
use crate::{GIB, MIB, Result, verdict};

pub(crate) const SIZE: u64 = 4 * GIB;
const READ: u64 = 200 * MIB;
const PIECE: u64 = 32 << 10;
const LATENCY: Duration = Duration::from_millis(2);

pub(crate) fn run(folder: &Path) -> Result<()> {
    let base = folder.join("base");
    std::fs::File::create(&base)?.set_len(SIZE)?;
    let trace = trace();
    println!(
        "a trace of {} MiB in {} reads over 4 GiB; base: 2 ms, 50 MiB/s",
        READ / MIB,
        trace.len()
    );
    let (first, second) = (folder.join("first"), folder.join("second"));
    create(&first)?;
    let image = open(&first, &base, LATENCY)?;
    let without = read_all(&image, &trace, PIECE, Vec::new(), false)?;
    let read = image.stats().base_read_bytes;
    block_on(image.close())?;
    println!(
        "first session    {:7.2} s, {:4} MiB from the base",
        without.as_secs_f64(),
        read / MIB
    );
    let image = open(&first, &base, LATENCY)?;
    let again = read_all(&image, &trace, PIECE, Vec::new(), false)?;
    let read = image.stats().base_read_bytes;
    let profile = block_on(image.profile())?;
    block_on(image.close())?;
    let mark = if read == 0 { "ok" } else { "MISS" };
    println!(
        "second session   {:7.2} s, {read:4} bytes from the base (aim 0)  {mark}",
        again.as_secs_f64()
    );
    println!("its profile has {} ranges", profile.len());
    create(&second)?;
    let image = open(&second, &base, LATENCY)?;
    let with = read_all(&image, &trace, PIECE, profile, true)?;
    let read = image.stats().base_read_bytes;
    block_on(image.close())?;
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!(
        "with its profile {:7.2} s, {:4} MiB from the base",
        with.as_secs_f64(),
        read / MIB
    );
    println!("ratio {ratio:.3} (aim at most 0.5)  {}", verdict(ratio, 0.5));
    Ok(())
}

/// Runs of 1 to 16 pieces, each piece once.
fn trace() -> Vec<u64> {
    let mut rng = fastrand::Rng::with_seed(2011);
    let mut seen = HashSet::new();
    let mut trace = Vec::new();
    while (trace.len() as u64) < READ / PIECE {
        let start = rng.u64(..SIZE / PIECE);
        for piece in start..(start + rng.u64(1..=16)).min(SIZE / PIECE) {
            if seen.insert(piece) {
                trace.push(piece * PIECE);
            }
        }
    }
    trace.truncate((READ / PIECE) as usize);
    trace
}

pub(crate) fn create(path: &Path) -> Result<()> {
    let mut options = CreateOptions::default();
    options.layout.virtual_size = SIZE;
    options.layout.base_size = Some(SIZE);
    options.layout.block_size = Some(4096);
    options.base_img = "base".into();
    options.copy_on_read = true;
    options.generate_prefetch_profile = true;
    options.profile_directed_prefetch_start_delay = Some(0);
    let file = FileStorage::create(path, false)?;
    block_on(image::create(&file, None, &options, None))?;
    Ok(())
}

pub(crate) fn open(path: &Path, base: &Path, latency: Duration) -> Result<Image<FileStorage>> {
    let file = FileStorage::open(
        path,
        &fvd::storage::FileOptions {
            writable: true,
            ..Default::default()
        },
    )?;
    let head = block_on(image::read_head(&file))?;
    let options = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    Ok(block_on(Image::open(
        file,
        head,
        None,
        Some(SlowBase::open(base, latency)?),
        options,
    ))?)
}

/// Reads the trace, with copy-on-read in the background. With `replay`, also with prefetch of `profile`.
/// Returns the time of the reads.
pub(crate) fn read_all(
    image: &Image<FileStorage>,
    trace: &[u64],
    piece: u64,
    profile: Vec<Range<u64>>,
    replay: bool,
) -> Result<Duration> {
    let clock = Timer::new()?;
    let control = Control::new();
    let mut options = PrefetchOptions::from(image.header());
    options.profile_start_delay = replay.then_some(Duration::ZERO);
    let background = Background::new(image, options, profile, control.clone(), &clock, 1);
    if !replay {
        control.pause();
    }
    let started = Instant::now();
    thread::scope(|scope| {
        for worker in background.workers() {
            scope.spawn(|| block_on(worker));
        }
        for helper in background.helpers() {
            scope.spawn(|| block_on(helper));
        }
        let mut buf = IoBufMut::zeroed(piece as usize);
        for &offset in trace {
            buf = block_on(image.read(buf, offset))?;
        }
        let taken = started.elapsed();
        control.stop();
        Ok(taken)
    })
}
