use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use pollster::block_on;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::source::RawSource;
use crate::storage::{MemoryStorage, Storage};

/// A sink that records all calls. It fails or panics after a given number of writes.
#[derive(Default)]
struct Recorder {
    writes: Mutex<Vec<(u64, Vec<u8>)>>,
    zeros: Mutex<Vec<(u64, u64)>>,
    /// Number of writes that succeed. `None`: all.
    room: Option<u64>,
    panics: bool,
    count: AtomicU64,
}

impl Sink for Recorder {
    fn write(&self, buf: Bytes, offset: u64, _stopped: &dyn Fn() -> bool) -> Result<()> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if self.room.is_some_and(|room| count >= room) {
            assert!(!self.panics, "the sink panics");
            return Err(Error::new(ErrorKind::NoSpace, "Full"));
        }
        lock(&self.writes).push((offset, buf.to_vec()));
        Ok(())
    }

    fn zero(&self, offset: u64, len: u64) -> Result<()> {
        lock(&self.zeros).push((offset, len));
        Ok(())
    }
}

fn disk(len: u64, pieces: &[(u64, &[u8])]) -> RawSource<MemoryStorage> {
    let storage = MemoryStorage::new();
    for (offset, bytes) in pieces {
        block_on(storage.write(Bytes::copy_from_slice(bytes), *offset)).expect("memory does not fail");
    }
    block_on(storage.set_len(len)).expect("memory does not fail");
    block_on(RawSource::new(storage)).expect("memory does not fail")
}

fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::fill(&mut bytes);
    bytes
}

fn run(source: &dyn BaseSource, sink: &dyn Sink, zeros: Zeros, out_of_order: bool) -> Result<u64> {
    let mut go_on = |_| ControlFlow::Continue(());
    copy(
        Input::Disk(source),
        sink,
        How::new(zeros, out_of_order, None),
        &mut go_on,
    )
}

const SKIP: Zeros = Zeros::Skip { unit: 4096 };
const MAKE: Zeros = Zeros::Make { unit: 4096 };

#[test]
fn every_byte_is_written_once_and_in_order_if_requested() {
    let bytes = random(20_000_000);
    let source = disk(20_000_000, &[(0, &bytes)]);
    for out_of_order in [false, true] {
        let sink = Recorder::default();
        let end = run(&source, &sink, SKIP, out_of_order).expect("a copy");
        assert_eq!(end, 20_000_000);
        let mut writes = sink.writes.into_inner().expect("no panic");
        if !out_of_order {
            assert!(writes.is_sorted_by_key(|(offset, _)| *offset));
        }
        writes.sort();
        let all: Vec<u8> = writes.into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert!(all == bytes);
    }
}

#[test]
fn zeros_are_skipped_made_or_written_as_the_target_needs() {
    let len = 3 << 20;
    let source = disk(len, &[(1 << 20, &[&[1; 8192][..], &[0; 8192], &[2; 4096]].concat())]);
    let zeros_of = |zeros| {
        let sink = Recorder::default();
        run(&source, &sink, zeros, false).expect("a copy");
        let written: u64 = lock(&sink.writes).iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let made: u64 = lock(&sink.zeros).iter().map(|(_, len)| *len).sum();
        (written, made)
    };
    assert_eq!(zeros_of(SKIP), (12_288, 0));
    assert_eq!(zeros_of(MAKE), (12_288, len - 12_288));
    assert_eq!(zeros_of(Zeros::Write), (len, 0));
}

#[test]
fn a_failed_write_ends_the_copy_and_is_returned() {
    let bytes = random(12 << 20);
    let source = disk(12 << 20, &[(0, &bytes)]);
    // The copy takes more than 5 buffers, so every one of these sinks fails.
    for room in 0..6 {
        for out_of_order in [false, true] {
            let sink = Recorder {
                room: Some(room),
                ..Recorder::default()
            };
            let error = run(&source, &sink, SKIP, out_of_order).expect_err("the sink is full");
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            assert_eq!(lock(&sink.writes).len() as u64, room);
        }
    }
}

#[test]
#[should_panic(expected = "the sink panics")]
fn a_panic_ends_the_copy_too() {
    let bytes = random(12 << 20);
    let sink = Recorder {
        room: Some(3),
        panics: true,
        ..Recorder::default()
    };
    let _ = run(&disk(12 << 20, &[(0, &bytes)]), &sink, SKIP, false);
}

#[test]
fn progress_ends_with_all_allocated_data() {
    let bytes = random(3 << 20);
    let source = disk(100 << 20, &[(0, &bytes), (50 << 20, &bytes)]);
    let mut last = None;
    let mut remember = |progress| {
        last = Some(progress);
        ControlFlow::Continue(())
    };
    copy(
        Input::Disk(&source),
        &Recorder::default(),
        How::new(SKIP, false, None),
        &mut remember,
    )
    .expect("a copy");
    let last = last.expect("a report");
    assert_eq!((last.done, last.total), (6 << 20, Some(6 << 20)));
}

#[test]
fn a_fragmented_disk_is_copied_in_full_batches() {
    let storage = MemoryStorage::new();
    // Every second page of the storage is a hole.
    for page in (0..400).step_by(2) {
        block_on(storage.write(Bytes::from(vec![1; 65_536]), page * 65_536)).expect("memory does not fail");
    }
    let source = block_on(RawSource::new(storage)).expect("memory does not fail");
    let mut plan = Plan::new(Input::Disk(&source), SKIP);
    let mut buf = IoBufMut::zeroed(1 << 20);
    let mut batches = Vec::new();
    while let Some(batch) = plan.next(&mut buf, &|| false).expect("memory does not fail") {
        batches.push(batch.data_len);
    }
    assert_eq!(batches.iter().sum::<usize>(), 200 * 65_536);
    assert!(batches.len() <= 14, "{batches:?}");
}
