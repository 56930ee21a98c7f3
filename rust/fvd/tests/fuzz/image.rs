//! Breaks valid images and runs all operations on them. Nothing panics or hangs, and memory stays small. What
//! can be read does not change, and a repaired image is clean.

mod disk;
mod mutate;
mod sample;
mod treat;

use std::time::{Duration, Instant};

use fastrand::Rng;

use self::sample::{Sample, samples};
use crate::{memory, seeds};

const DEFAULT_ITERATIONS: u64 = 3000;

/// Seeds that have failed. 77254: lost entries of a table between entries of the journal, on a device that
/// ends within a storage chunk.
const FOUND: [u64; 1] = [77_254];

/// Maximum bytes in use at once. The images have a few hundred KiB, and the largest request 1 MiB.
const MEMORY: usize = 64 << 20;

/// Time limit for one image, which takes a millisecond. Generous, because the machine may be busy.
const TIME: Duration = Duration::from_secs(10);

fn one(rng: &mut Rng, samples: &[Sample]) {
    let mut sample = samples[rng.usize(..samples.len())].clone();
    let len = mutate::mutate(rng, &mut sample);
    let started = Instant::now();
    let ((), peak) = memory::peak_of(|| treat::treat(rng, &sample, len));
    assert!(peak < MEMORY, "{peak} bytes were in use at once");
    let elapsed = started.elapsed();
    assert!(elapsed < TIME, "it took {elapsed:?}");
}

#[test]
fn fuzzed_images_are_refused_or_work() {
    let samples = samples();
    seeds::fuzz(DEFAULT_ITERATIONS, |rng| one(rng, &samples));
}

#[test]
fn fuzzed_images_that_have_failed_before_work() {
    let samples = samples();
    for seed in FOUND {
        one(&mut Rng::with_seed(seed), &samples);
    }
}

#[test]
fn fuzzing_starts_from_sound_images() {
    for sample in samples() {
        treat::assert_sound(&sample);
    }
}
