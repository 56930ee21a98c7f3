//! What a reader gets, and what it costs the server.

mod support;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use fvd::gate::Gate;
use fvd::remote::RemoteFile;
use fvd::storage::{Allocation, IoBufMut};
use fvd_remote::{OpenOptions, Opener, Redirects, Tuning, set_memory_limit};
use pollster::block_on;
use support::{Disk, Fault, Reply, Server, UNIT, config, open, opener, read, read_aside, serve, until};

fn ranges(server: &Server) -> Vec<(u64, u64)> {
    let ranges = server
        .log()
        .into_iter()
        .map(|request| request.range().expect("a range"));
    let mut units: Vec<_> = ranges
        .map(|(first, last)| (first / UNIT, (last + 1).div_ceil(UNIT)))
        .collect();
    units.sort_unstable();
    units
}

#[test]
fn to_open_and_to_read_the_beginning_is_one_request() {
    let disk = Disk::new(4 * UNIT);
    let server = serve(&disk);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    assert!(disk.is_at(&read(&*file, 0, 4096).expect("read"), 0));
    assert!(disk.is_at(&read(&*file, UNIT - 10, 10).expect("read"), UNIT - 10));
    assert_eq!(ranges(&server), [(0, 1)]);
    assert_eq!(file.url(), server.url("/disk"));
}

#[test]
fn to_ask_for_the_pin_and_then_to_open_is_one_request() {
    let disk = Disk::new(4 * UNIT);
    let server = serve(&disk);
    let opener = opener();
    let asked = open(&opener, &server.url("/disk"), None).expect("opened");
    let pin = asked.pin().clone();
    drop(asked);
    // As `create` and `open` do it: what the user names may be redirected anywhere, what an image names may not.
    let options = OpenOptions {
        redirects: Redirects::Within(Gate::default()),
        ..OpenOptions::default()
    };
    let file = opener.open_with(&server.url("/disk"), Some(&pin), &options);
    let file = file.expect("opened again");
    assert!(disk.is_at(&read(&*file, 0, 4096).expect("read"), 0));
    assert_eq!(ranges(&server), [(0, 1)]);
}

#[test]
fn the_connection_of_an_error_is_used_again() {
    let disk = Disk::new(UNIT);
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/none" => Reply::status(404).body(b"There is no such object".to_vec()),
        _ => disk.serve(request),
    });
    let opener = opener();
    open(&opener, &server.url("/none"), None)
        .map(drop)
        .expect_err("there is none");
    open(&opener, &server.url("/disk"), None).expect("opened");
    let connections: Vec<_> = server.log().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0]);
}

#[test]
fn to_open_does_not_wait_for_the_first_bytes() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request).fault(Fault::Stall(100)));
    let mut config = config();
    config.tuning.progress_timeout = Duration::from_secs(600);
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    assert_eq!(file.pin().len, 4 * UNIT);
}

#[test]
fn any_range_is_read_and_zeros_lie_beyond_the_end() {
    let len = 5 * UNIT + 1234;
    let disk = Disk::new(len);
    let server = serve(&disk);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let mut expected = disk.data.to_vec();
    expected.resize(len as usize + 8192, 0);
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let offset = rng.u64(0..len + 4096);
        let size = rng.u64(1..2 * UNIT).min(len + 8192 - offset);
        let found = read(&*file, offset, size).expect("read");
        assert!(
            found == expected[offset as usize..(offset + size) as usize],
            "{size} bytes at {offset}"
        );
    }
    assert_eq!(read(&*file, u64::MAX - 5, 10).expect("read"), [0; 10]);
    assert!(read(&*file, 3, 0).expect("read").is_empty());
    assert_eq!(
        ranges(&server).iter().map(|(start, end)| end - start).sum::<u64>(),
        6,
        "each unit once"
    );
}

#[test]
fn readers_of_one_unit_share_a_request() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request).delay(Duration::from_millis(50)));
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let readers: Vec<_> = (0..16)
        .map(|reader| read_aside(&file, 2 * UNIT + reader * 100, 100))
        .collect();
    for (reader, found) in readers.into_iter().enumerate() {
        let offset = 2 * UNIT + reader as u64 * 100;
        assert!(disk.is_at(&found.join().expect("no panic").expect("read"), offset));
    }
    assert_eq!(ranges(&server), [(0, 1), (2, 3)]);
}

#[test]
fn an_error_reaches_all_readers_of_a_unit() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, number| match number {
        0 => disk.serve(request),
        _ => Reply::status(404).delay(Duration::from_millis(50)),
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let readers: Vec<_> = (0..8).map(|_| read_aside(&file, UNIT, 10)).collect();
    for found in readers {
        let error = found.join().expect("no panic").expect_err("gone");
        assert_eq!(error.offset(), Some(UNIT), "{error}");
    }
}

#[test]
fn neighbours_are_one_request_up_to_its_limit() {
    let disk = Disk::new(16 * UNIT);
    let server = serve(&disk);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    assert!(disk.is_at(&read(&*file, 5 * UNIT, UNIT).expect("read"), 5 * UNIT));
    assert!(disk.is_at(&read(&*file, 3 * UNIT, 10 * UNIT).expect("read"), 3 * UNIT));
    assert_eq!(ranges(&server), [(0, 1), (3, 5), (5, 6), (6, 10), (10, 13)]);
}

#[test]
fn a_sequential_reader_is_served_ahead_by_several_requests_at_once() {
    let disk = Disk::new(128 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request).delay(Duration::from_millis(5)));
    let mut config = config();
    config.tuning.window = Tuning::default().window;
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    for start in (0..128 * UNIT).step_by(65536) {
        assert!(disk.is_at(&read(&*file, start, 65536).expect("read"), start));
    }
    assert!(server.most_at_once() >= 4, "{}", server.most_at_once());
    assert!(server.count() < 60, "{} requests for 128 units", server.count());
    assert_eq!(
        ranges(&server).iter().map(|(start, end)| end - start).sum::<u64>(),
        128,
        "each unit once"
    );
}

#[test]
fn connections_are_used_again() {
    let disk = Disk::new(32 * UNIT);
    let server = serve(&disk);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    for unit in (0..32).rev() {
        read(&*file, unit * UNIT, 10).expect("read");
    }
    let connections: std::collections::HashSet<_> = server.log().iter().map(|request| request.connection).collect();
    assert!(connections.len() <= 2, "{connections:?}");
}

#[test]
fn a_connection_that_the_server_has_closed_is_no_failure() {
    let disk = Disk::new(8 * UNIT);
    let served = disk.clone();
    // As a server that forgets a connection after its answer.
    let server = Server::start(move |request, _| served.serve(request).fault(Fault::Close));
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    for unit in (0..8).rev() {
        assert!(disk.is_at(&read(&*file, unit * UNIT, 10).expect("read"), unit * UNIT));
    }
    assert_eq!(opener.counters().retries, 0);
}

#[test]
fn the_memory_of_the_process_has_one_limit() {
    set_memory_limit(4 * UNIT);
    let disk = Disk::new(40 * UNIT);
    let server = serve(&disk);
    let opener = opener();
    let pin = disk.pin();
    let files: Vec<_> = (0..3)
        .map(|file| open(&opener, &server.url(&format!("/{file}")), Some(&pin)).expect("opened"))
        .collect();
    let readers: Vec<_> = (0..12_u64)
        .map(|i| read_aside(&files[i as usize % 3], i * 3 * UNIT, 3 * UNIT))
        .collect();
    let mut most = 0;
    until(|| {
        most = most.max(opener.counters().memory);
        readers.iter().all(std::thread::JoinHandle::is_finished)
    });
    assert!(most <= 4 * UNIT, "{most}");
    for (i, found) in readers.into_iter().enumerate() {
        assert!(disk.is_at(&found.join().expect("no panic").expect("read"), i as u64 * 3 * UNIT));
    }
    // Longer than the limit.
    assert!(disk.is_at(&read(&*files[0], 0, 30 * UNIT).expect("read"), 0));
    drop(files);
    until(|| opener.counters().memory == 0);
}

#[test]
fn what_was_not_used_for_long_goes_first() {
    set_memory_limit(3 * UNIT);
    let disk = Disk::new(8 * UNIT);
    let server = serve(&disk);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    for unit in [0, 1, 2, 0, 3, 0, 2] {
        read(&*file, unit * UNIT, 10).expect("read");
    }
    // 3 replaced 1, which was used before 2 and 0.
    assert_eq!(ranges(&server), [(0, 1), (1, 2), (2, 3), (3, 4)]);
}

#[test]
fn an_outage_of_one_server_holds_up_no_other() {
    set_memory_limit(2 * UNIT);
    let disk = Disk::new(64 * UNIT);
    let dead = serve(&disk);
    let alive = serve(&disk);
    let opener = opener();
    let waiting = open(&opener, &dead.url("/disk"), None).expect("opened");
    let file = open(&opener, &alive.url("/disk"), None).expect("opened");
    dead.stop();
    let readers: Vec<_> = (1..33).map(|unit| read_aside(&waiting, unit * UNIT, 10)).collect();
    until(|| opener.counters().retries > 32);
    assert!(disk.is_at(&read(&*file, 9 * UNIT, 10).expect("read"), 9 * UNIT));
    let again = disk.clone();
    let _alive = Server::start_at(&dead.address.to_string(), None, move |request, _| again.serve(request));
    for found in readers {
        found.join().expect("no panic").expect("read");
    }
}

#[test]
fn opens_with_the_same_pin_share_what_was_read() {
    let disk = Disk::new(4 * UNIT);
    let server = serve(&disk);
    let opener = opener();
    let first = open(&opener, &server.url("/disk"), None).expect("opened");
    read(&*first, UNIT, 10).expect("read");
    let more: Vec<_> = (0..1000)
        .map(|_| open(&opener, &server.url("/disk"), Some(first.pin())).expect("opened"))
        .collect();
    for file in more {
        assert!(disk.is_at(&read(&*file, UNIT, 10).expect("read"), UNIT));
    }
    assert_eq!(ranges(&server), [(0, 1), (1, 2)]);
}

#[test]
fn a_file_may_be_dropped_with_requests_in_flight() {
    let disk = Disk::new(64 * UNIT);
    let pin = disk.pin();
    let server = Server::start(move |request, number| match number {
        0 => disk.serve(request),
        _ => disk.serve(request).fault(Fault::Silence),
    });
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), Some(&pin)).expect("opened");
    let mut reading = file.read(IoBufMut::zeroed(10), 9 * UNIT);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(reading.as_mut().poll(&mut context).is_pending());
    until(|| server.count() == 2);
    drop(reading);
    drop(file);
    until(|| opener.counters().memory == 0);
}

#[test]
fn a_read_may_be_polled_by_several_runtimes_in_turn() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request).delay(Duration::from_millis(30)));
    let opener = opener();
    let file: Arc<dyn RemoteFile> = open(&opener, &server.url("/disk"), None).expect("opened");
    let (sender, receiver) = channel();
    let reader = Arc::clone(&file);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let found = runtime.block_on(async move {
            let reading = reader.read(IoBufMut::zeroed(10), UNIT);
            reading.await.map(|buf| buf.as_slice().to_vec())
        });
        sender.send(found).expect("the test waits");
    });
    assert!(disk.is_at(&receiver.recv().expect("sent").expect("read"), UNIT));
    assert!(disk.is_at(&read(&*file, 2 * UNIT, 10).expect("read"), 2 * UNIT));
}

#[test]
fn all_of_an_object_is_data() {
    let disk = Disk::new(UNIT);
    let server = serve(&disk);
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let allocation = |offset, len| block_on(file.allocation(offset, len)).expect("known");
    assert_eq!(allocation(0, 10 * UNIT), (Allocation::Data, UNIT));
    assert_eq!(allocation(UNIT - 1, 1), (Allocation::Data, 1));
    assert_eq!(allocation(UNIT, 10), (Allocation::Hole, 10));
}
