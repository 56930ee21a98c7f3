//! Compares random 4 KiB writes that allocate, followed by one flush, with the same on a raw sparse file.
//!
//! ```sh
//! cargo bench -p fvd --bench allocating_writes -- [--rounds N] [--writes N] [--only NAME] [--folder DIR]
//! ```
//!
//! Both sides get the same writes in the same order, in files on the same file system, and alternate in every
//! round. The rate includes the flush: writes / (time of the writes + time of the flush). A ratio of 1 is the
//! speed of `pwrite` and `fdatasync`. The goal is 0.9 for images without a base.

#[path = "support/arguments.rs"]
mod arguments;

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use arguments::Arguments;
use bytes::Bytes;
use fvd::image::{self, CreateOptions, Image};
use fvd::source::{BaseSource, RawSource};
use fvd::storage::{FileOptions, FileStorage};
use pollster::block_on;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MIB: u64 = 1 << 20;
const WRITE_LEN: u64 = 4096;
const AIM: f64 = 0.9;

/// A kind of image.
struct Case {
    name: &'static str,
    compact: bool,
    /// Size of the blocks that are copied from a base, in bytes. None: no base.
    block_size: Option<u64>,
    /// Size of the disk in bytes.
    size: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "plain",
        compact: false,
        block_size: None,
        size: 4096 * MIB,
    },
    Case {
        name: "compact",
        compact: true,
        block_size: None,
        size: 4096 * MIB,
    },
    Case {
        name: "overlay-4K",
        compact: false,
        block_size: Some(4 << 10),
        size: 512 * MIB,
    },
    Case {
        name: "overlay-64K",
        compact: false,
        block_size: Some(64 << 10),
        size: 512 * MIB,
    },
];

/// The times of one side in one round.
#[derive(Clone, Copy)]
struct Taken {
    writes: Duration,
    flush: Duration,
}

impl Taken {
    fn total(self) -> f64 {
        (self.writes + self.flush).as_secs_f64()
    }
}

fn main() -> Result<()> {
    let mut writes = 4096;
    let arguments = Arguments::parse(11, |option, value| {
        let is_writes = option == "--writes";
        if is_writes {
            writes = value.parse()?;
        }
        Ok(is_writes)
    })?;
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    println!(
        "{} random writes of 4 KiB, one flush; {} rounds; medians in ms (writes + flush), ratio of the rates",
        writes, arguments.rounds
    );
    for case in &CASES {
        if arguments.wants(case.name) {
            run_case(case, writes, arguments.rounds, folder.path())?;
        }
    }
    Ok(())
}

fn run_case(case: &Case, writes: usize, rounds: usize, folder: &Path) -> Result<()> {
    let base = folder.join("base");
    if case.block_size.is_some() {
        write_base(&base, case.size)?;
    }
    let offsets = random_offsets(writes, case.size);
    let block = Bytes::from(random_bytes(WRITE_LEN as usize));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let path = folder.join("target");
        for side in [round % 2, (round + 1) % 2] {
            let taken = if side == 0 {
                write_image(case, &path, &base, &offsets, &block)?
            } else {
                write_raw(case, &path, &offsets, &block)?
            };
            if side == 0 {
                ours.push(taken);
            } else {
                theirs.push(taken);
            }
            fs::remove_file(&path)?;
        }
    }
    let pairs = ours.iter().zip(&theirs);
    let ratio = median(pairs.map(|(ours, raw)| raw.total() / ours.total()).collect());
    let verdict = match (case.block_size, ratio >= AIM) {
        (Some(_), _) => "",
        (None, true) => "  ok",
        (None, false) => "  MISS",
    };
    println!(
        "{:<12} fvd {}   raw {}   ratio {ratio:.3}{verdict}",
        case.name,
        times(&ours),
        times(&theirs)
    );
    Ok(())
}

fn write_image(case: &Case, path: &Path, base: &Path, offsets: &[u64], block: &Bytes) -> Result<Taken> {
    let image = block_on(make_image(case, path, base))?;
    let started = Instant::now();
    for &offset in offsets {
        block_on(image.write(block.clone(), offset))?;
    }
    let writes = started.elapsed();
    block_on(image.flush())?;
    let flush = started.elapsed().saturating_sub(writes);
    block_on(image.close())?;
    Ok(Taken { writes, flush })
}

async fn make_image(case: &Case, path: &Path, base: &Path) -> Result<Image<FileStorage>> {
    let mut options = CreateOptions::default();
    options.layout.virtual_size = case.size;
    options.layout.compact = case.compact;
    let mut source: Option<Box<dyn BaseSource>> = None;
    if let Some(block_size) = case.block_size {
        options.layout.block_size = Some(block_size);
        options.layout.base_size = Some(case.size);
        options.base_img = base.file_name().unwrap_or_default().to_owned();
        let storage = FileStorage::open(base, &FileOptions::default())?;
        source = Some(Box::new(RawSource::new(storage).await?));
    }
    let file = FileStorage::create(path, false)?;
    image::create(&file, None, &options, None).await?;
    // Earlier writes must not slow down the measurement.
    File::open(path)?.sync_all()?;
    let head = image::read_head(&file).await?;
    let writable = image::OpenOptions {
        writable: true,
        ..image::OpenOptions::default()
    };
    Ok(Image::open(file, head, None, source, writable).await?)
}

fn write_raw(case: &Case, path: &Path, offsets: &[u64], block: &Bytes) -> Result<Taken> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    file.set_len(case.size)?;
    file.sync_all()?;
    let started = Instant::now();
    for &offset in offsets {
        file.write_all_at(block, offset)?;
    }
    let writes = started.elapsed();
    file.sync_data()?;
    let flush = started.elapsed().saturating_sub(writes);
    Ok(Taken { writes, flush })
}

/// A base full of data, in the page cache.
fn write_base(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path)?;
    let piece = random_bytes(MIB as usize);
    for offset in (0..size).step_by(MIB as usize) {
        file.write_all_at(&piece, offset)?;
    }
    Ok(file.sync_all()?)
}

fn random_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

/// Distinct blocks, so that every write allocates in a raw file.
fn random_offsets(count: usize, size: u64) -> Vec<u64> {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut seen = HashSet::new();
    let mut offsets = Vec::with_capacity(count);
    while offsets.len() < count {
        let block = rng.u64(..size / WRITE_LEN);
        if seen.insert(block) {
            offsets.push(block * WRITE_LEN);
        }
    }
    offsets
}

fn times(taken: &[Taken]) -> String {
    let ms = |of: fn(&Taken) -> Duration| median(taken.iter().map(|t| of(t).as_secs_f64() * 1e3).collect());
    format!("{:7.2} + {:7.2}", ms(|t| t.writes), ms(|t| t.flush))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}
