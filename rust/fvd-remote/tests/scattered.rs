//! Reads of what a profile names: without what lies around them.

mod support;

use std::sync::Arc;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use fvd::Result;
use fvd::remote::{RemoteFile, Urgency, with_urgency};
use fvd::storage::IoBufMut;
use pollster::block_on;
use support::{Disk, Fault, Reply, Server, UNIT, open, opener, read_aside, serve, until};

const KIB: u64 = 1 << 10;

fn named(file: &dyn RemoteFile, offset: u64, len: u64) -> Result<Vec<u8>> {
    let reading = file.read(IoBufMut::zeroed(len as usize), offset);
    let buf = block_on(with_urgency(Urgency::Scattered, reading))?;
    Ok(buf.as_slice().to_vec())
}

fn named_aside(file: &Arc<dyn RemoteFile>, offset: u64, len: u64) -> JoinHandle<Result<Vec<u8>>> {
    let file = Arc::clone(file);
    spawn(move || named(&*file, offset, len))
}

/// What was asked for after the opening, sorted.
fn ranges(server: &Server) -> Vec<(u64, u64)> {
    let all = server.log();
    let later = all.iter().skip(1).map(|request| request.range().expect("a range"));
    let mut ranges: Vec<_> = later.map(|(first, last)| (first, last + 1)).collect();
    ranges.sort_unstable();
    ranges
}

#[test]
fn only_what_is_named_is_fetched_in_whole_blocks_of_4_kib() {
    let len = 8 * UNIT + 5000;
    let disk = Disk::new(len);
    let server = serve(&disk);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let across = 2 * UNIT - 8 * KIB;
    let last = len - 1000;
    for (offset, len) in [(3 * UNIT + 10_000, 100), (across, 20 * KIB), (last, 1000)] {
        assert!(disk.is_at(&named(&*file, offset, len).expect("read"), offset));
    }
    assert_eq!(
        ranges(&server),
        [
            (across, across + 20 * KIB),
            (3 * UNIT + 8 * KIB, 3 * UNIT + 12 * KIB),
            (8 * UNIT, len),
        ]
    );
}

#[test]
fn units_that_are_there_are_used() {
    let disk = Disk::new(8 * UNIT);
    let server = serve(&disk);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    support::read(&*file, 3 * UNIT, 10).expect("read");
    assert!(disk.is_at(
        &named(&*file, 3 * UNIT + 8 * KIB, 4 * KIB).expect("read"),
        3 * UNIT + 8 * KIB
    ));
    assert_eq!(ranges(&server), [(3 * UNIT, 4 * UNIT)]);
}

#[test]
fn a_guest_who_needs_a_part_of_it_waits_for_the_same_request() {
    let disk = Disk::new(8 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request).delay(Duration::from_millis(200)));
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let offset = 3 * UNIT + 64 * KIB;
    let prefetch = named_aside(&file, offset, 32 * KIB);
    until(|| server.count() == 2);
    let guest = read_aside(&file, offset + 4 * KIB, 8 * KIB);
    // A part of it is not on its way.
    let other = read_aside(&file, offset + 28 * KIB, 8 * KIB);
    for (reading, at) in [
        (prefetch, offset),
        (guest, offset + 4 * KIB),
        (other, offset + 28 * KIB),
    ] {
        assert!(disk.is_at(&reading.join().expect("no panic").expect("read"), at));
    }
    assert_eq!(ranges(&server), [(3 * UNIT, 4 * UNIT), (offset, offset + 32 * KIB)]);
}

#[test]
fn what_a_broken_connection_has_brought_is_not_asked_for_again() {
    let disk = Disk::new(8 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, number| match number {
        1 => served.serve(request).fault(Fault::Cut(48 << 10)),
        _ => served.serve(request),
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let offset = 3 * UNIT - 32 * KIB;
    assert!(disk.is_at(&named(&*file, offset, 64 * KIB).expect("read"), offset));
    let end = offset + 64 * KIB;
    assert_eq!(ranges(&server), [(offset, end), (3 * UNIT, end)]);
}

#[test]
fn an_error_reaches_prefetch_and_the_guest() {
    let disk = Disk::new(8 * UNIT);
    let server = Server::start(move |request, number| match number {
        0 => disk.serve(request),
        _ => Reply::status(404).delay(Duration::from_millis(100)),
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let prefetch = named_aside(&file, UNIT, 8 * KIB);
    until(|| server.count() == 2);
    let guest = read_aside(&file, UNIT, 4 * KIB);
    for reading in [prefetch, guest] {
        reading.join().expect("no panic").expect_err("gone");
    }
}

#[test]
fn memory_and_requests_end_with_the_file() {
    let disk = Disk::new(8 * UNIT);
    let server = Server::start(move |request, number| match number {
        0 => disk.serve(request),
        _ => disk.serve(request).fault(Fault::Silence),
    });
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    let mut reading = Box::pin(with_urgency(
        Urgency::Scattered,
        file.read(IoBufMut::zeroed(10), 5 * UNIT),
    ));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(reading.as_mut().poll(&mut context).is_pending());
    until(|| server.count() == 2);
    drop(reading);
    drop(file);
    until(|| opener.counters().memory == 0);
}
