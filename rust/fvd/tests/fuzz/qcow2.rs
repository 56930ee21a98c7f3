//! Breaks qcow2 images that qemu-img made, and reads them. Nothing panics or hangs, memory and the number of
//! steps stay small, and reported zeros read as zeros.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mutate;
mod sample;

use std::cell::RefCell;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use fvd::chain::ChainOptions;
use fvd::gate::Gate;
use fvd::source::{BaseSource, Content, Qcow2Options, Qcow2Source};
use fvd::storage::IoBufMut;
use fvd::tool::info;
use fvd::tool::map::map;
use pollster::block_on;

use self::sample::{Broken, SIZE, Sample, samples};
use super::{memory, patches, seeds, time};

const DEFAULT_ITERATIONS: u64 = 1500;

/// Maximum bytes in use at once: a zstd window, a cluster, a read, tables.
const MEMORY: usize = 40 << 20;

/// Maximum entries of a map: more than the tables of any sample have.
const MOST_ENTRIES: usize = 300_000;

/// Limit of the processor time for one image, which takes milliseconds.
const TIME: Duration = Duration::from_secs(20);

/// How many images were refused, could be read in part, and as a whole.
#[derive(Debug, Default)]
struct Outcomes {
    refused: u64,
    in_part: u64,
    whole: u64,
}

fn read(source: &Qcow2Source, offset: u64, len: usize) -> fvd::Result<Vec<u8>> {
    block_on(source.read(IoBufMut::zeroed(len), offset)).map(|buf| buf.as_slice().to_vec())
}

/// Reads the disk piece by piece, after the status of each piece.
fn treat(rng: &mut Rng, path: &Path, outcomes: &mut Outcomes) {
    let unlocked = ChainOptions {
        force_share: true,
        ..ChainOptions::default()
    };
    let _ = block_on(info(path, Some("qcow2"), false, &unlocked));
    let gate = Gate::default();
    let options = Qcow2Options {
        gate: Some(&gate),
        ..Qcow2Options::default()
    };
    let Ok(source) = Qcow2Source::open(path, &options) else {
        outcomes.refused += 1;
        return;
    };
    let mut failed = false;
    for _ in 0..8 {
        let most = if rng.u32(..4) == 0 { source.len() } else { SIZE };
        let (offset, len) = (rng.u64(..=most), rng.usize(1..300_000));
        let content = read(&source, offset, len);
        failed |= content.is_err();
        let Ok(run) = block_on(source.status(offset, len as u64)) else {
            continue;
        };
        assert!((1..=len as u64).contains(&run.len), "{run:?} for {len} bytes");
        let zeros = run.content == Content::Zero;
        if let (true, Ok(content)) = (zeros, content) {
            assert!(content[..run.len as usize].iter().all(|byte| *byte == 0), "{run:?}");
        }
    }
    let mut entries = 0;
    failed |= block_on(map(&source, 0, None, |_| entries += 1)).is_err();
    assert!(entries < MOST_ENTRIES, "{entries} entries");
    if failed {
        outcomes.in_part += 1;
    } else {
        outcomes.whole += 1;
    }
}

fn one(rng: &mut Rng, samples: &[Sample], outcomes: &mut Outcomes) {
    let sample = &samples[rng.usize(..samples.len())];
    let broken = mutate::mutate(rng, sample);
    within_limits(rng, sample, outcomes);
    sample.repair(&broken);
}

fn within_limits(rng: &mut Rng, sample: &Sample, outcomes: &mut Outcomes) {
    let (((), peak), taken) = time::time_of(|| memory::peak_of(|| treat(rng, sample.path(), outcomes)));
    assert!(peak < MEMORY, "{peak} bytes were in use at once");
    assert!(taken < TIME, "it took {taken:?}");
}

/// Reads a valid image that `data` changes: a byte says which image, one what is read, and the rest are
/// patches.
pub(crate) fn patched(data: &[u8]) {
    static SAMPLES: LazyLock<Mutex<Vec<Sample>>> = LazyLock::new(|| Mutex::new(samples()));
    let Some(([which, seed], patches)) = data.split_first_chunk() else {
        return;
    };
    let samples = SAMPLES.lock().unwrap_or_else(PoisonError::into_inner);
    let sample = &samples[usize::from(*which) % samples.len()];
    let mut broken = Broken::default();
    for (at, byte) in patches::of(patches, sample.good.len()) {
        sample.put(&mut broken, at, &[byte]);
    }
    within_limits(&mut Rng::with_seed((*seed).into()), sample, &mut Outcomes::default());
    sample.repair(&broken);
}

#[test]
fn fuzzed_qcow2_images_are_refused_or_read() {
    let (samples, outcomes) = (samples(), RefCell::new(Outcomes::default()));
    seeds::fuzz(DEFAULT_ITERATIONS, |rng| {
        one(rng, &samples, &mut outcomes.borrow_mut());
    });
    println!("{:?}", outcomes.into_inner());
}

#[test]
fn fuzzed_patches_of_qcow2_images_are_refused_or_read() {
    seeds::fuzz(DEFAULT_ITERATIONS, |rng| patched(&patches::any(rng)));
}

#[test]
fn fuzzing_starts_from_sound_qcow2_images() {
    for sample in samples() {
        let mut outcomes = Outcomes::default();
        treat(&mut Rng::with_seed(1), sample.path(), &mut outcomes);
        assert_eq!(outcomes.whole, 1, "{}: {outcomes:?}", sample.path().display());
    }
}
