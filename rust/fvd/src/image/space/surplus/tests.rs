//! Old bytes after the highest storage chunk in use are removed before an image is marked clean (I18).

use bytes::Bytes;
use pollster::block_on;

use crate::format::header::CLEAN_SHUTDOWN_OFFSET;
use crate::image::check::Repair;
use crate::image::create;
use crate::image::testing::disk::{Disk, Op, copy, power_cut, record};
use crate::image::testing::{CHUNK, Kind, Sample, content, open, options, sample};
use crate::storage::{IoBufMut, MemoryStorage, Space, Storage};

/// Unclean images of all kinds with a journal, with bytes after the last storage chunk in use.
fn with_tails() -> impl Iterator<Item = Sample<MemoryStorage>> {
    (0..4).map(|bits| {
        let sample = sample(Kind {
            separate: bits & 1 > 0,
            based: bits & 2 > 0,
            unclean: true,
            no_journal: false,
        });
        add_tail(&sample);
        sample
    })
}

/// The end of the last storage chunk in use, in bytes. There must be no gaps before it.
fn used_end<S: Storage + Clone>(sample: &Sample<S>) -> u64 {
    let report = sample.check(Repair::None).expect("checks");
    assert_eq!(report.leaks, 0);
    sample.geometry().data_offset + report.allocated_chunks * CHUNK
}

/// Adds the data that a write leaves if the process is killed before the flush.
fn add_tail(sample: &Sample<MemoryStorage>) {
    let bytes = Bytes::from(vec![0xBD; 3 * CHUNK as usize]);
    block_on(sample.data().write(bytes, used_end(sample))).expect("written");
}

fn len<S: Storage>(storage: &S) -> u64 {
    block_on(storage.len()).expect("known")
}

fn is_clean<S: Storage + Clone>(sample: &Sample<S>) -> bool {
    let mark = block_on(sample.file.read(IoBufMut::zeroed(4), CLEAN_SHUTDOWN_OFFSET));
    mark.expect("read").as_slice() != [0; 4]
}

fn recover<S: Storage + Clone>(sample: &Sample<S>) {
    let image = open(sample, true).expect("opens");
    block_on(image.close()).expect("closed");
}

#[test]
fn recovery_cuts_the_tail() {
    for sample in with_tails() {
        let before = content(&sample);
        assert!(len(sample.data()) > used_end(&sample), "a reader cuts nothing");
        recover(&sample);
        assert!(is_clean(&sample));
        assert_eq!(len(sample.data()), used_end(&sample));
        assert!(content(&sample) == before);
    }
}

#[test]
fn no_power_cut_leaves_a_clean_image_with_a_tail() {
    let mut random = fastrand::Rng::with_seed(5);
    let repairs: [fn(&Sample<Disk>); 3] = [
        recover,
        |sample| drop(sample.check(Repair::Leaks).expect("repaired")),
        |sample| drop(sample.check(Repair::All).expect("repaired")),
    ];
    for (sample, repair) in with_tails().flat_map(|sample| repairs.map(|repair| (sample.clone(), repair))) {
        let end = used_end(&sample);
        let (recorded, log) = record(&sample);
        repair(&recorded);
        let ops = log.lock().expect("not poisoned").ops.clone();
        for count in 0..=ops.len() {
            for _ in 0..12 {
                let left = power_cut(&sample, &ops[..count], &mut random);
                let tail_len = len(left.data()).saturating_sub(end) as usize;
                let tail = block_on(left.data().read(IoBufMut::zeroed(tail_len), end)).expect("read");
                let has_tail = tail.as_slice().iter().any(|byte| *byte != 0);
                assert!(!is_clean(&left) || !has_tail, "after {count} operations");
            }
        }
    }
}

#[test]
fn a_repair_of_a_suspect_image_cuts_the_tail_too() {
    let sample = sample(Kind {
        no_journal: true,
        ..Kind::default()
    });
    add_tail(&sample);
    sample.set_clean(false);
    sample.check(Repair::All).expect("repaired");
    assert!(is_clean(&sample));
    assert_eq!(len(sample.data()), used_end(&sample));
}

#[test]
fn a_repair_that_keeps_shared_chunks_cuts_the_tail() {
    for sample in with_tails() {
        let end = used_end(&sample);
        sample.set_entry(12, 4);
        sample.check(Repair::Leaks).expect("repaired");
        assert!(is_clean(&sample));
        assert_eq!(len(sample.data()), end);
    }
}

#[test]
fn a_repair_without_the_data_file_leaves_the_image_unclean() {
    let sample = with_tails().find(|sample| sample.data.is_some()).expect("one of them");
    let alone = Sample {
        file: copy(&sample.file),
        data: None,
    };
    for repair in [Repair::Leaks, Repair::All] {
        let report = alone.check(repair).expect("repaired");
        assert!(report.needs_recovery && report.data_file_unchecked);
    }
    assert!(!is_clean(&alone));
}

#[test]
fn nothing_is_cut_if_a_part_of_the_table_is_lost() {
    for sample in with_tails() {
        let table = sample.geometry().table.expect("compact");
        let before = len(sample.data());
        sample.poke(table.offset, &[0; 160]);
        // Erase the journal: with its entries replayed, the sector would not look lost.
        let journal = sample.geometry().journal.expect("one");
        block_on(sample.file.write_zeroes(journal.offset, journal.size, Space::Free)).expect("erased");
        recover(&sample);
        assert_eq!(len(sample.data()), before);
    }
}

#[test]
fn a_device_keeps_its_tail() {
    let (file, device) = (MemoryStorage::new(), MemoryStorage::device(20 * CHUNK));
    let kind = Kind {
        separate: true,
        ..Kind::default()
    };
    block_on(create(&file, Some(&device), &options(kind), None)).expect("created");
    let data = Some(device);
    let sample = Sample { file, data };
    let image = open(&sample, true).expect("opens");
    block_on(image.write(vec![3; 100].into(), 0)).expect("written");
    block_on(image.flush()).expect("flushed");
    drop(image);
    block_on(sample.data().write(vec![0xBD; 512].into(), 5 * CHUNK)).expect("written");
    recover(&sample);
    assert!(is_clean(&sample));
    let kept = block_on(sample.data().read(IoBufMut::zeroed(512), 5 * CHUNK)).expect("read");
    assert_eq!(kept.as_slice(), [0xBD; 512]);
}

#[test]
fn the_data_is_synced_between_the_cut_and_the_mark() {
    for sample in with_tails() {
        let (recorded, log) = record(&sample);
        recover(&recorded);
        let ops = &log.lock().expect("not poisoned").ops;
        let cut = ops.iter().position(|(_, op)| matches!(op, Op::SetLen(_)));
        let cut = cut.expect("the file is cut");
        assert!(matches!(ops[cut + 1], (number, Op::Sync) if number == ops[cut].0));
    }
}
