//! An export of an NBD server as a remote file.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fvd::remote::{Pin, RemoteFile, Validator};
use fvd::storage::Allocation;
use fvd_nbd::protocol::export::{BlockSizes, ExportInfo};
use fvd_remote::Opener;
use pollster::block_on;
use support::nbd::{Act, Door, NbdServer, export};
use support::{UNIT, config, content, open, opener, read, read_aside, until};

fn disk(units: u64) -> Arc<Vec<u8>> {
    Arc::new(content(units * UNIT))
}

fn assert_reads(file: &dyn RemoteFile, data: &[u8], offset: u64, len: u64) {
    let found = read(file, offset, len).expect("read");
    assert!(found == data[offset as usize..(offset + len) as usize], "at {offset}");
}

#[test]
fn an_export_is_read_from_its_first_to_its_last_byte() {
    let mut data = content(3 * UNIT + 1000);
    data[70_000..200_000].fill(0);
    let data = Arc::new(data);
    let server = NbdServer::honest(&data);
    let file = open(&opener(), &server.url(), None).expect("opened");
    let len = data.len() as u64;
    let validator = Validator::Length;
    assert_eq!(*file.pin(), Pin { len, validator });
    assert_reads(&*file, &data, 0, len);
    assert_reads(&*file, &data, len - 1, 1);
    let beyond = read(&*file, len - 10, 20).expect("read");
    assert_eq!(beyond[10..], [0; 10], "zeros beyond the end");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_unit_is_fetched_once_and_serves_all_readers() {
    let data = disk(4);
    let server = NbdServer::honest(&data);
    let opener = opener();
    let file = open(&opener, &server.url(), None).expect("opened");
    let again = open(&opener, &server.url(), Some(file.pin())).expect("opened");
    for offset in [0, 100, UNIT - 100] {
        assert_reads(&*file, &data, offset, 100);
        assert_reads(&*again, &data, offset, 100);
    }
    assert_eq!((server.reads(), server.connections()), (1, 1));
    assert_eq!(opener.counters().bytes, UNIT);
}

#[test]
fn an_old_server_without_options_is_read_with_simple_replies() {
    let data = disk(3);
    let len = data.len() as u64;
    let server = NbdServer::start(&data, move |_| Door::Old(len), |_| Act::Serve);
    let file = open(&opener(), &server.url(), None).expect("opened");
    assert_reads(&*file, &data, 0, len);
    let found = block_on(file.allocation(0, len)).expect("known");
    assert_eq!(found, (Allocation::Data, len), "it knows no holes");
}

#[test]
fn chunks_come_in_any_order() {
    let data = disk(3);
    let len = data.len() as u64;
    let server = NbdServer::start(&data, move |_| Door::Open(export(len)), |_| Act::Swap);
    let file = open(&opener(), &server.url(), None).expect("opened");
    assert_reads(&*file, &data, 0, len);
}

#[test]
fn requests_keep_to_the_block_sizes_of_the_server() {
    let data = disk(3);
    let sizes = BlockSizes {
        minimum: 4096,
        preferred: 4096,
        maximum: 1 << 16,
    };
    let info = ExportInfo {
        block_sizes: sizes,
        ..export(data.len() as u64)
    };
    let server = NbdServer::start(&data, move |_| Door::Open(info.clone()), |_| Act::Serve);
    let file = open(&opener(), &server.url(), None).expect("opened");
    assert_reads(&*file, &data, 5, 2 * UNIT);
    assert!(server.log().iter().all(|asked| asked.length <= 1 << 16));
    assert_eq!(server.reads(), 12, "three units in four parts each");
}

#[test]
fn all_requests_of_a_read_are_under_way_at_once() {
    let data = disk(8);
    let len = data.len() as u64;
    let waiting = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&waiting);
    // Nothing is answered: the connection is as slow as can be.
    let server = NbdServer::start(
        &data,
        move |_| Door::Open(export(len)),
        move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
            Act::Silence
        },
    );
    let file = open(&opener(), &server.url(), None).expect("opened");
    _ = read_aside(&file, 0, len);
    until(|| waiting.load(Ordering::SeqCst) == 8);
}

#[test]
fn several_connections_are_made_only_if_the_server_allows_them() {
    for allows in [false, true] {
        let data = disk(64);
        let info = ExportInfo {
            multi_conn: allows,
            ..export(data.len() as u64)
        };
        let held = Arc::new(AtomicUsize::new(0));
        let release = Arc::clone(&held);
        let server = NbdServer::start(
            &data,
            move |_| Door::Open(info.clone()),
            move |_| {
                // Until there is a second connection, or all have been asked.
                while release.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                Act::Serve
            },
        );
        let file = open(&opener(), &server.url(), None).expect("opened");
        let readers: Vec<_> = (0..64).map(|unit| read_aside(&file, unit * UNIT, 10)).collect();
        if allows {
            until(|| server.connections() > 1);
        }
        held.store(1, Ordering::SeqCst);
        for reader in readers {
            reader.join().expect("no panic").expect("read");
        }
        assert!(
            server.connections() <= if allows { 4 } else { 1 },
            "{}",
            server.connections()
        );
    }
}

#[test]
fn zeros_are_asked_for_once_and_ahead() {
    let mut data = content(64 * UNIT);
    data[UNIT as usize..40 * UNIT as usize].fill(0);
    let data = Arc::new(data);
    let server = NbdServer::honest(&data);
    let file = open(&opener(), &server.url(), None).expect("opened");
    let len = data.len() as u64;
    let allocation = |offset, len| block_on(file.allocation(offset, len)).expect("known");
    assert_eq!(allocation(0, len), (Allocation::Data, UNIT));
    assert_eq!(allocation(UNIT, 4096), (Allocation::Hole, 4096));
    assert_eq!(allocation(2 * UNIT + 5, len), (Allocation::Hole, 38 * UNIT - 5));
    assert_eq!(allocation(40 * UNIT, 2 * len), (Allocation::Data, 24 * UNIT));
    assert_eq!(allocation(len, 7), (Allocation::Hole, 7), "beyond the end");
    assert_eq!((server.reads(), server.log().len()), (0, 1));
}

#[test]
fn a_server_that_refuses_to_say_where_zeros_are_is_not_asked_again() {
    let data = disk(4);
    let len = data.len() as u64;
    let refuse = |asked: &support::nbd::Asked| {
        if asked.is_status {
            Act::Error(support::nbd::Errno::Inval)
        } else {
            Act::Serve
        }
    };
    let server = NbdServer::start(&data, move |_| Door::Open(export(len)), refuse);
    let file = open(&opener(), &server.url(), None).expect("opened");
    for _ in 0..3 {
        let found = block_on(file.allocation(0, len)).expect("known");
        assert_eq!(found, (Allocation::Data, len));
    }
    assert_eq!(server.log().len(), 1);
    assert_reads(&*file, &data, 0, len);
}

#[test]
fn an_export_of_nothing_can_be_opened() {
    let server = NbdServer::honest(&Arc::new(Vec::new()));
    let file = open(&opener(), &server.url(), None).expect("opened");
    assert_eq!(file.pin().len, 0);
    assert_eq!(read(&*file, 0, 10).expect("read"), [0; 10]);
}

#[test]
fn a_sequential_reader_is_read_ahead_of() {
    let data = disk(64);
    let server = NbdServer::honest(&data);
    let mut config = config();
    config.tuning.window = 8 << 20;
    let file = open(&Opener::new(config), &server.url(), None).expect("opened");
    for unit in 0..4 {
        assert_reads(&*file, &data, unit * UNIT, UNIT);
    }
    until(|| server.reads() > 6);
}

#[test]
fn the_server_is_told_when_a_file_is_closed() {
    let data = disk(1);
    let server = NbdServer::honest(&data);
    let opener = opener();
    let file = open(&opener, &server.url(), None).expect("opened");
    assert_reads(&*file, &data, 0, 10);
    drop(file);
    let again = open(&opener, &server.url(), None).expect("opened");
    assert_eq!((again.pin().len, server.connections()), (UNIT, 2));
}
