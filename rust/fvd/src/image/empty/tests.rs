//! Cuts a commit at every point. The disk, the image over its base, reads the same after each cut.

use std::ops::ControlFlow;

use bytes::Bytes;
use pollster::block_on;

use super::empty;
use crate::error::Result;
use crate::format::header::ALL_DATA_OFFSET;
use crate::image::check::Repair;
use crate::image::testing::disk::{Disk, Log, Op, contents, power_cut, record};
use crate::image::testing::{CHUNK, Kind, Sample, options};
use crate::image::{CreateOptions, Image, OpenOptions, create, read_head};
use crate::source::{BaseSource, RawSource};
use crate::storage::{IoBufMut, MemoryStorage, Storage};
use crate::tool::{Progress, commit_opened};

/// Number of random power cuts after every operation.
const CUTS: usize = 3;

/// The place of the base in a sample: the second disk. The images of these tests have their data in the first.
fn base_of<S>(sample: &Sample<S>) -> &S {
    sample.data.as_ref().expect("the base is the second disk")
}

fn open<S: Storage + Clone>(sample: &Sample<S>, writable: bool) -> Result<Image<S>> {
    block_on(async {
        let head = read_head(&sample.file).await?;
        let raw = RawSource::for_writing(base_of(sample).clone()).await?;
        let base = head.needs_base().then(|| Box::new(raw) as Box<dyn BaseSource>);
        let options = OpenOptions {
            writable,
            ..OpenOptions::default()
        };
        Image::open(sample.file.clone(), head, None, base, options).await
    })
}

fn content<S: Storage + Clone>(sample: &Sample<S>) -> Vec<u8> {
    let image = open(sample, false).expect("opens");
    let buf = IoBufMut::zeroed(image.size() as usize);
    block_on(image.read(buf, 0)).expect("reads").as_slice().to_vec()
}

/// An image with data, zeros and copies of its base, and beyond the base; and that base, as long as the disk.
fn sample(options: &CreateOptions, unclean: bool) -> Sample<MemoryStorage> {
    let mut random = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = (0..30 * CHUNK).map(|_| random.u8(..)).collect();
    let base = MemoryStorage::from_bytes(&bytes);
    block_on(base.set_len(options.layout.virtual_size)).expect("memory");
    let sample = Sample {
        file: MemoryStorage::new(),
        data: Some(base),
    };
    block_on(create(&sample.file, None, options, None)).expect("created");
    let image = open(&sample, true).expect("opens");
    for chunk in [39, 3, 4, 20, 0, 11, 13, 7, 25] {
        let new = Bytes::from(vec![chunk as u8 + 1; 5000]);
        block_on(image.write(new, chunk * CHUNK + 3000)).expect("written");
    }
    let same = 17 * CHUNK as usize;
    let copy = Bytes::copy_from_slice(&bytes[same..same + 12288]);
    block_on(image.write(copy, same as u64)).expect("written");
    block_on(image.write_zeroes(22 * CHUNK, 2 * CHUNK)).expect("zeroed");
    block_on(image.flush()).expect("flushed");
    if !unclean {
        block_on(image.close()).expect("closed");
    }
    sample
}

fn samples() -> Vec<(String, Sample<MemoryStorage>)> {
    let mut all = Vec::new();
    for bits in 0..8 {
        let kind = Kind {
            based: true,
            no_journal: bits & 1 > 0,
            unclean: bits & 2 > 0 && bits & 1 == 0,
            ..Kind::default()
        };
        let mut options = options(kind);
        if bits & 4 > 0 {
            options.layout.compact = false;
            options.layout.chunk_size = None;
        }
        all.push((format!("{bits:03b}"), sample(&options, kind.unclean)));
    }
    all
}

/// Commits, and empties the image.
fn commit<S: Storage + Clone>(sample: &Sample<S>) -> Result<u64> {
    let image = open(sample, true)?;
    let raw = block_on(RawSource::for_writing(base_of(sample).clone()))?;
    let base = image.base().unwrap_or(&raw);
    let written = commit_opened(&image, base, None, &mut |_: Progress| ControlFlow::Continue(()))?;
    block_on(empty(image.file(), image.data()))?;
    Ok(written)
}

fn assert_consistent(sample: &Sample<MemoryStorage>, point: &str) {
    let report = block_on(crate::image::check::check(&sample.file, None, Repair::None)).expect("checks");
    assert_eq!(
        report.corruptions + report.check_errors,
        0,
        "{point}: {:?}",
        report.findings
    );
}

/// Bytes of the image that are local before the end of its base.
fn local(sample: &Sample<MemoryStorage>) -> u64 {
    let head = block_on(read_head(&sample.file)).expect("valid");
    block_on(crate::image::local_bytes(&sample.file, &head)).expect("reads")
}

/// The disk reads as `expected`, and can be committed again.
fn verify(left: &Sample<MemoryStorage>, expected: &[u8], point: &str) {
    assert_consistent(left, point);
    assert!(content(left) == expected, "content: {point}");
    commit(left).expect("committed again");
    assert_consistent(left, point);
    assert_eq!(local(left), 0, "{point}");
    assert!(content(left) == expected, "content after a second commit: {point}");
    // What was stored once does not show in what is written next.
    let image = open(left, true).expect("opens");
    block_on(image.write(vec![0xA5; 512].into(), 11 * CHUNK)).expect("written");
    block_on(image.close()).expect("closed");
    drop(image);
    let mut written = expected.to_vec();
    written[11 * CHUNK as usize..][..512].fill(0xA5);
    assert!(content(left) == written, "content after a write: {point}");
}

fn recorded_commit(sample: &Sample<MemoryStorage>) -> Vec<(usize, Op)> {
    let (recorded, log) = record(sample);
    commit(&recorded).expect("committed");
    assert_eq!(local(&contents(&recorded)), 0);
    log.lock().expect("not poisoned").ops.clone()
}

#[test]
fn a_power_cut_at_any_point_of_a_commit_leaves_the_disk_as_it_was() {
    let mut random = fastrand::Rng::with_seed(11);
    for (name, sample) in samples() {
        let expected = content(&sample);
        let ops = recorded_commit(&sample);
        assert!(ops.len() > 15, "{name}: {}", ops.len());
        for count in 0..=ops.len() {
            for _ in 0..CUTS {
                let left = power_cut(&sample, &ops[..count], &mut random);
                verify(&left, &expected, &format!("{name}, cut after {count} of {}", ops.len()));
            }
        }
    }
}

#[test]
fn without_the_sync_of_the_base_a_power_cut_would_change_the_disk() {
    // Shows that the test above can fail.
    let mut random = fastrand::Rng::with_seed(12);
    for (name, sample) in samples() {
        let expected = content(&sample);
        let mut ops = recorded_commit(&sample);
        ops.retain(|op| !matches!(op, (1, Op::Sync)));
        let cuts = (0..20).map(|_| content(&power_cut(&sample, &ops, &mut random)));
        assert!(cuts.into_iter().any(|left| left != expected), "{name}");
    }
}

#[test]
fn an_error_at_any_point_of_a_commit_is_returned_and_leaves_the_disk_as_it_was() {
    for cause in [libc::EIO, libc::ENOSPC] {
        for (name, sample) in samples() {
            let expected = content(&sample);
            let ops = recorded_commit(&sample);
            for at in 0..ops.len() {
                let (recorded, log): (Sample<Disk>, _) = record(&sample);
                log.lock().expect("not poisoned").fail = Some((at, cause));
                let point = format!("{name}, error at {at} of {}", ops.len());
                if commit(&recorded).is_ok() {
                    // Only the totals may fail in silence.
                    continue;
                }
                *log.lock().expect("not poisoned") = Log::default();
                verify(&contents(&recorded), &expected, &point);
            }
        }
    }
}

#[test]
fn what_the_base_has_already_is_not_written_again() {
    for (name, sample) in samples() {
        let written = commit(&sample).expect("committed");
        let dirty = 9 * 8192 + 2 * CHUNK;
        assert!((1..=dirty).contains(&written), "{name}: {written}");
        assert_eq!(commit(&sample).expect("committed again"), 0, "{name}");
    }
}

#[test]
fn an_image_that_needed_its_base_no_more_needs_it_again() {
    let (_, sample) = samples().remove(0);
    let image = open(&sample, true).expect("opens");
    block_on(image.write(content(&sample).into(), 0)).expect("written");
    block_on(image.close()).expect("closed");
    drop(image);
    // As a prefetch leaves it that has fetched everything.
    sample.poke(ALL_DATA_OFFSET, &1_i32.to_le_bytes());
    let expected = content(&sample);
    commit(&sample).expect("committed");
    block_on(base_of(&sample).write(Bytes::from_static(&[0x5A; 512]), 0)).expect("written");
    assert_eq!(content(&sample)[..512], [0x5A; 512]);
    assert!(content(&sample)[512..] == expected[512..]);
}

#[test]
fn the_file_of_a_compact_image_becomes_as_short_as_a_new_one() {
    let (_, sample) = samples().remove(0);
    commit(&sample).expect("committed");
    let geometry = block_on(read_head(&sample.file)).expect("valid").geometry;
    // What lies beyond the base is one chunk, wherever it was stored.
    let len = block_on(sample.file.len()).expect("memory");
    assert!(len <= geometry.data_offset + 40 * CHUNK, "{len}");
}
