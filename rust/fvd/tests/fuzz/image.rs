//! Breaks valid images and runs all operations on them. Nothing panics or hangs, and memory stays small. What
//! can be read does not change, and a repaired image is clean.

mod disk;
mod mutate;
mod sample;
mod treat;

use std::sync::LazyLock;
use std::time::Duration;

use fastrand::Rng;

use self::sample::{Sample, samples};
use super::{memory, patches, seeds, time};

const DEFAULT_ITERATIONS: u64 = 3000;

/// Seeds that have failed. 77254: lost entries of a table between entries of the journal, on a device that
/// ends within a storage chunk.
const FOUND: [u64; 1] = [77_254];

/// Maximum bytes in use at once. The images have a few hundred KiB, and the largest request 1 MiB.
const MEMORY: usize = 64 << 20;

/// Limit of the processor time for one image, which takes a millisecond.
const TIME: Duration = Duration::from_secs(10);

fn one(rng: &mut Rng, samples: &[Sample]) {
    let mut sample = samples[rng.usize(..samples.len())].clone();
    let len = mutate::mutate(rng, &mut sample);
    within_limits(rng, &sample, len);
}

fn within_limits(rng: &mut Rng, sample: &Sample, len: u64) {
    let (((), peak), taken) = time::time_of(|| memory::peak_of(|| treat::treat(rng, sample, len)));
    assert!(peak < MEMORY, "{peak} bytes were in use at once");
    assert!(taken < TIME, "it took {taken:?}");
}

/// Runs all operations on a valid image that `data` changes: a byte says which image, one what is done with
/// it, and the rest are patches.
pub(crate) fn patched(data: &[u8]) {
    static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(samples);
    let Some(([which, seed], patches)) = data.split_first_chunk() else {
        return;
    };
    let mut sample = SAMPLES[usize::from(*which) % SAMPLES.len()].clone();
    for (at, byte) in patches::of(patches, sample.file.len()) {
        sample.file[at] = byte;
    }
    let len = sample.file.len() as u64;
    within_limits(&mut Rng::with_seed((*seed).into()), &sample, len);
}

#[test]
fn fuzzed_images_are_refused_or_work() {
    let samples = samples();
    seeds::fuzz(DEFAULT_ITERATIONS, |rng| one(rng, &samples));
}

#[test]
fn fuzzed_patches_of_images_are_refused_or_work() {
    seeds::fuzz(DEFAULT_ITERATIONS, |rng| patched(&patches::any(rng)));
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
