//! Interrupts a repair at every point, by power cuts and by errors. The guest must see the same content as
//! before, and another repair must finish.

use super::repairs::repair_all;
use super::*;
use crate::image::testing::disk::{Disk, Op, contents, power_cut, record};

/// Number of random power cuts after every operation.
const CUTS: usize = 12;

/// Images that need every step of a repair, and whose content is defined at every point of it.
fn broken() -> Vec<Sample<MemoryStorage>> {
    let mut all = Vec::new();
    for bits in 0..16 {
        let kind = Kind {
            separate: bits & 1 > 0,
            based: bits & 2 > 0,
            unclean: bits & 4 > 0,
            no_journal: bits & 8 > 0,
        };
        if kind.unclean && kind.no_journal {
            continue;
        }
        let sample = sample(kind);
        // These chunks are not in the journal, so a replay does not repair their entries.
        for (chunk, number) in [(12, 4), (13, 4), (38, 9), (2, 300), (40, 6), (200, 8)] {
            sample.set_entry(chunk, number);
        }
        if !kind.unclean {
            sample.leak(3);
            sample.leak(8);
        }
        let data = sample.data();
        let end = sample.geometry().data_offset + 10 * CHUNK;
        block_on(data.set_len(end - 4096)).expect("cut");
        all.push(sample);
    }
    all
}

/// The expected content of the disk. Chunks after the end of the file read as zeros, before and after a
/// repair.
fn expected(sample: &Sample<MemoryStorage>) -> Vec<u8> {
    content(sample)
}

fn ops_of(sample: &Sample<MemoryStorage>) -> Vec<(usize, Op)> {
    let (recorded, log) = record(sample);
    repair_all(&recorded);
    let ops = log.lock().expect("not poisoned").ops.clone();
    assert_eq!(content(&recorded), expected(sample));
    ops
}

#[test]
fn a_power_cut_at_any_point_of_a_repair_loses_nothing() {
    let seed = 20_260;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cuts = 0;
    for (number, sample) in broken().into_iter().enumerate() {
        let expected = expected(&sample);
        let ops = ops_of(&sample);
        assert!(ops.len() > 15, "the repair has work to do: {}", ops.len());
        for count in 0..=ops.len() {
            for _ in 0..CUTS {
                let cut = power_cut(&sample, &ops[..count], &mut random);
                let case = format!("sample {number}, cut after {count} of {}", ops.len());
                assert!(content(&cut) == expected, "content: {case}");
                repair_all(&cut);
                assert!(content(&cut) == expected, "content after repair: {case}");
                cuts += 1;
            }
        }
    }
    assert!(cuts > 3000, "{cuts}");
}

#[test]
fn an_image_written_after_a_power_cut_of_a_repair_is_correct() {
    let mut random = fastrand::Rng::with_seed(5);
    for sample in broken() {
        let ops = ops_of(&sample);
        // A write of the guest is well defined only if no chunks share a storage chunk any more.
        let is_table_write = |(_, op): &(usize, Op)| matches!(op, Op::Write(..));
        for count in 0..=ops.len() {
            let cut = power_cut(&sample, &ops[..count], &mut random);
            let shared = cut.check(Repair::None).expect("checks");
            if shared.corruptions > 0 || !ops[..count].iter().any(is_table_write) {
                continue;
            }
            let mut expected = content(&cut);
            let image = open(&cut, true).expect("opens");
            for chunk in [1, 5, 12, 25] {
                let at = (chunk * CHUNK) as usize;
                block_on(image.write(vec![0xC7; 512].into(), at as u64)).expect("written");
                expected[at..at + 512].fill(0xC7);
            }
            // The image is not closed, so its journal is replayed, with records that the repair may have left
            // in it.
            block_on(image.flush()).expect("flushed");
            drop(image);
            assert!(content(&cut) == expected, "after {count} operations");
            repair_all(&cut);
            assert!(content(&cut) == expected, "after {count} operations");
        }
    }
}

fn fail_everywhere(cause: i32) {
    for sample in broken() {
        let expected = expected(&sample);
        let count = ops_of(&sample).len();
        for at in 0..count {
            let (recorded, log): (Sample<Disk>, _) = record(&sample);
            log.lock().expect("not poisoned").fail = Some((at, cause));
            let error = recorded.check(Repair::All).expect_err("fails");
            assert_eq!(error.errno(), Some(cause));
            let left = contents(&recorded);
            assert!(content(&left) == expected, "operation {at}");
            repair_all(&left);
            assert!(content(&left) == expected, "operation {at}");
        }
    }
}

#[test]
fn an_io_error_at_any_point_is_returned_and_loses_nothing() {
    fail_everywhere(libc::EIO);
}

#[test]
fn a_full_disk_at_any_point_is_returned_and_loses_nothing() {
    fail_everywhere(libc::ENOSPC);
}
