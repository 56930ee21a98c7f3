use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::ptr::NonNull;
use std::sync::Weak;

use async_lock::RwLock;
use bytes::Bytes;
use pollster::block_on;

use super::*;
use crate::sys::buffer::IoBufMut;
use crate::sys::uring::DEPTH;

/// A ring on a pipe: a read ends when the test writes to the pipe.
fn on_pipe() -> (Ring, PipeWriter) {
    on_pipe_for(IDLE)
}

fn on_pipe_for(idle_time: Duration) -> (Ring, PipeWriter) {
    let (reader, writer): (PipeReader, _) = pipe().expect("a pipe");
    let open = move || reader.try_clone().expect("duplicated");
    (Ring::with_idle_time(open, idle_time), writer)
}

fn read(len: usize) -> Operation {
    let buf = IoBufMut::zeroed(len);
    Operation::Read {
        buf,
        filled: 0,
        offset: 0,
    }
}

/// A read into memory that the test can watch.
#[expect(unsafe_code, reason = "only memory from outside has an owner to watch")]
fn watched_read() -> (Operation, Weak<Vec<u8>>) {
    let mut memory = vec![0; 512];
    let start = NonNull::new(memory.as_mut_ptr()).expect("512 bytes");
    let owner = Arc::new(memory);
    let watch = Arc::downgrade(&owner);
    // SAFETY: the owner keeps the memory, and no other code reads or writes it.
    let buf = unsafe { IoBufMut::from_raw(start, 512, Some(owner)) };
    let read = Operation::Read {
        buf,
        filled: 0,
        offset: 0,
    };
    (read, watch)
}

fn wait_until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_operation_owns_its_buffer_until_its_end() {
    let (ring, mut writer) = on_pipe();
    let (operation, memory) = watched_read();
    let lock = Arc::new(RwLock::new(()));
    let guard = lock.try_read_arc();
    let receiver = ring.submit(operation, guard).expect("not forked");
    wait_until(|| ring.shared.lock().queue.is_empty());
    drop(receiver);
    drop(ring);
    std::thread::sleep(Duration::from_millis(30));
    assert!(memory.strong_count() > 0 && lock.try_write().is_none());
    writer.write_all(&[1; 512]).expect("the ring reads");
    wait_until(|| memory.strong_count() == 0);
    wait_until(|| lock.try_write().is_some());
}

#[test]
fn operations_wait_until_the_ring_has_room() {
    let (ring, mut writer) = on_pipe();
    let reads: Vec<_> = (0..3 * DEPTH)
        .map(|_| ring.submit(read(8), None).expect("not forked"))
        .collect();
    for _ in 0..reads.len() {
        writer.write_all(&[7; 8]).expect("the ring reads");
    }
    for read in reads {
        let outcome = block_on(read).expect("no failure");
        assert!(
            matches!(outcome, Outcome::Done(Operation::Read { .. }, 8)),
            "{outcome:?}"
        );
    }
}

#[test]
fn an_operation_may_fail_and_the_ring_continues() {
    let (ring, mut writer) = on_pipe();
    let write = Operation::Write {
        bufs: vec![Bytes::from_static(&[1; 8])],
        offset: 0,
    };
    let error = block_on(ring.submit(write, None).expect("not forked")).expect_err("the end that reads");
    assert_eq!((error.op(), error.errno()), (Some("write"), Some(libc::EBADF)));
    writer.write_all(&[7; 8]).expect("the ring reads");
    block_on(ring.submit(read(8), None).expect("not forked")).expect("no failure");
}

#[test]
fn a_refused_ring_returns_the_operation() {
    let outcome = block_on(Ring::refused().submit(read(8), None).expect("not forked")).expect("no failure");
    assert!(
        matches!(outcome, Outcome::Refused(Operation::Read { .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_dropped_operation_without_room_never_begins() {
    let (ring, mut writer) = on_pipe();
    let mut reads: Vec<_> = (0..DEPTH)
        .map(|_| ring.submit(read(8), None).expect("not forked"))
        .collect();
    wait_until(|| ring.shared.lock().queue.is_empty());
    let (operation, memory) = watched_read();
    drop(ring.submit(operation, None).expect("not forked"));
    assert_eq!(memory.strong_count(), 0);
    reads.push(ring.submit(read(8), None).expect("not forked"));
    std::thread::sleep(Duration::from_millis(20));
    assert!(
        !ring.shared.lock().is_asleep,
        "no wake-up is needed for what has no room"
    );
    for _ in 0..reads.len() {
        writer.write_all(&[7; 8]).expect("the ring reads");
    }
    for read in reads {
        block_on(read).expect("no failure");
    }
}

#[test]
fn an_idle_ring_ends_and_another_one_starts() {
    let (ring, mut writer) = on_pipe_for(Duration::from_millis(1));
    for _ in 0..3 {
        writer.write_all(&[7; 8]).expect("room");
        block_on(ring.submit(read(8), None).expect("not forked")).expect("no failure");
        wait_until(|| ring.shared.lock().event_fd.is_none());
    }
}

#[test]
fn a_refusal_is_forgotten_after_a_while() {
    let (ring, mut writer) = on_pipe();
    ring.shared.refuse();
    assert!(ring.is_refused());
    ring.shared.lock().refused = Instant::now().checked_sub(RETRY);
    writer.write_all(&[7; 8]).expect("room");
    let outcome = block_on(ring.submit(read(8), None).expect("not forked")).expect("no failure");
    assert!(matches!(outcome, Outcome::Done(_, 8)), "{outcome:?}");
}

#[test]
fn a_forked_child_cannot_submit() {
    let (mut ring, _writer) = on_pipe();
    ring.process = Process::other();
    ring.submit(read(8), None).expect_err("it belongs to another");
}

#[test]
fn a_sync_is_never_tried_again_after_an_error() {
    for errno in [libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::ENOMEM] {
        let error = io::Error::from_raw_os_error(errno);
        assert!(!is_refusal(&Operation::SyncData, &error), "{error}");
    }
    let no_thread = io::Error::from_raw_os_error(libc::ECANCELED);
    assert!(is_refusal(&Operation::SyncData, &no_thread), "it was not begun");
    assert!(is_refusal(&read(8), &io::Error::from_raw_os_error(libc::EAGAIN)));
    assert!(!is_refusal(&read(8), &io::Error::from_raw_os_error(libc::EIO)));
}
