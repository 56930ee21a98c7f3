//! *latency*: reads of local data, with and without prefetch running.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fvd::copy::{Background, Control, PrefetchOptions};
use fvd::image::{self, CreateOptions, Image, OpenOptions};
use fvd::source::{BaseSource, RawSource};
use fvd::storage::{FileOptions, FileStorage, IoBufMut};
use pollster::block_on;

use crate::timer::Timer;
use crate::{GIB, MIB, Result, verdict};

const LOCAL: u64 = 64 * MIB;
const SIZE: u64 = 4 * GIB;
const READ_LEN: u64 = 4096;
const AIM: f64 = 1.3;

/// Pauses between two requests of the guest, and numbers of reads.
const PAUSES: [(&str, Duration, usize); 2] = [
    ("one after the other", Duration::ZERO, 200_000),
    ("1 ms apart on average", Duration::from_millis(1), 3000),
];

pub(crate) fn run(folder: &Path, rounds: usize) -> Result<()> {
    let base = folder.join("large");
    write_base(&base)?;
    for (name, pause, reads) in PAUSES {
        let (mut with, mut without, mut fetched) = (Vec::new(), Vec::new(), 0);
        for round in 0..rounds {
            for side in [round % 2, (round + 1) % 2] {
                let path = folder.join("overlay");
                let (latencies, prefetched) = measure(&path, &base, side == 0, pause, reads)?;
                if side == 0 {
                    with.extend(latencies);
                    fetched += prefetched;
                } else {
                    without.extend(latencies);
                }
                std::fs::remove_file(&path)?;
            }
        }
        with.sort_unstable();
        without.sort_unstable();
        println!("reads of 4 KiB, {name}; prefetched meanwhile: {} MiB", fetched / MIB);
        for (name, per_mille) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
            let at = |all: &[Duration]| all[all.len() * per_mille / 1000].as_secs_f64() * 1e6;
            let (with, without) = (at(&with), at(&without));
            let ratio = with / without;
            let mark = if name == "p99" { verdict(ratio, AIM) } else { "" };
            println!("  {name:<6} with {with:8.2} us  without {without:8.2} us  ratio {ratio:.3}  {mark}");
        }
    }
    Ok(())
}

fn write_base(path: &Path) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    let mut piece = vec![0; MIB as usize];
    for number in 0..SIZE / MIB {
        fastrand::Rng::with_seed(number).fill(&mut piece);
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(())
}

/// Latencies of reads of local data, and the number of bytes prefetched meanwhile.
fn measure(path: &Path, base: &Path, prefetch: bool, pause: Duration, reads: usize) -> Result<(Vec<Duration>, u64)> {
    let image = overlay(path, base)?;
    let clock = Timer::new()?;
    let control = Control::new();
    let options = PrefetchOptions::from(image.header());
    let background = Background::new(&image, options, Vec::new(), control.clone(), &clock, 1);
    let latencies = thread::scope(|scope| -> Result<Vec<Duration>> {
        if prefetch {
            control.resume();
            for worker in background.workers() {
                scope.spawn(|| block_on(worker));
            }
        }
        let latencies = read(&image, pause, reads);
        control.stop();
        latencies
    })?;
    Ok((latencies, image.stats().prefetched))
}

fn read(image: &Image<FileStorage>, pause: Duration, reads: usize) -> Result<Vec<Duration>> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut latencies = Vec::with_capacity(reads);
    let mut buf = IoBufMut::zeroed(READ_LEN as usize);
    for _ in 0..reads {
        if !pause.is_zero() {
            thread::sleep(pause.mul_f64(rng.f64() * 2.0));
        }
        let offset = rng.u64(..LOCAL / READ_LEN) * READ_LEN;
        let started = Instant::now();
        buf = block_on(image.read(buf, offset))?;
        latencies.push(started.elapsed());
    }
    Ok(latencies)
}

/// An overlay whose first part is local and in the page cache.
fn overlay(path: &Path, base: &Path) -> Result<Image<FileStorage>> {
    let mut options = CreateOptions::default();
    options.layout.virtual_size = SIZE;
    options.layout.base_size = Some(SIZE);
    options.base_img = "large".into();
    let file = FileStorage::create(path, false)?;
    block_on(image::create(&file, None, &options, None))?;
    let head = block_on(image::read_head(&file))?;
    let storage = FileStorage::open(base, &FileOptions::default())?;
    let source: Box<dyn BaseSource> = Box::new(block_on(RawSource::new(storage))?);
    let options = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    let image = block_on(Image::open(file, head, None, Some(source), options))?;
    let piece = Bytes::from(vec![7; MIB as usize]);
    for offset in (0..LOCAL).step_by(MIB as usize) {
        block_on(image.write(piece.clone(), offset))?;
    }
    block_on(image.flush())?;
    Ok(image)
}
