//! What the server can do, and what a reader sees of it: a test for each row of the table in
//! `docs/design/remote.md`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fvd::remote::{Pin, Validator};
use fvd_remote::{OpenOptions, Opener, Outage};
use support::{Disk, Fault, Reply, Request, Server, UNIT, config, open, opener, read, read_aside, until};

/// Opens a disk of four units. The first request is answered honestly. `fault` answers the next one, and all
/// later ones are answered honestly. Reads the second unit. Returns the server.
fn read_after(limit: Duration, fault: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Server {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, number| match number {
        1 => fault(served.serve(request)),
        _ => served.serve(request),
    });
    let mut config = config();
    config.tuning.progress_timeout = limit;
    let opener = Opener::new(config);
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    let found = read(&*file, UNIT, 4096).expect("read");
    assert!(disk.is_at(&found, UNIT));
    assert!(opener.counters().retries > 0);
    assert_eq!(opener.counters().waiting, 0);
    server
}

/// How many requests the read took, with a server that is never slow.
fn requests_after(fault: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> usize {
    read_after(Duration::from_secs(60), fault).count() - 1
}

#[test]
fn a_silent_server_is_asked_again() {
    read_after(Duration::from_millis(200), |reply| reply.fault(Fault::Silence));
}

#[test]
fn an_answer_that_stalls_is_asked_for_again() {
    read_after(Duration::from_millis(200), |reply| reply.fault(Fault::Stall(70_000)));
}

#[test]
fn an_answer_that_drips_is_asked_for_again() {
    read_after(Duration::from_millis(200), |reply| {
        reply.fault(Fault::Drip(Duration::from_millis(10)))
    });
}

#[test]
fn a_connection_that_breaks_is_replaced() {
    assert_eq!(requests_after(|reply| reply.fault(Fault::Cut(1000))), 2);
}

#[test]
fn an_answer_that_is_too_short_is_asked_for_again() {
    // Without a length, the end of the connection looks like the end of the body.
    assert_eq!(
        requests_after(|reply| reply.with("Content-Length", "").fault(Fault::Cut(1000))),
        2
    );
}

#[test]
fn each_temporary_status_is_tried_again() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        assert_eq!(requests_after(move |_| Reply::status(status)), 2, "{status}");
    }
    assert_eq!(requests_after(|_| Reply::status(503).with("Retry-After", "0")), 2);
}

#[test]
fn status_400_with_request_timeout_is_tried_again() {
    let body = b"<Error><Code>RequestTimeout</Code></Error>".to_vec();
    assert_eq!(requests_after(move |_| Reply::status(400).body(body.clone())), 2);
}

#[test]
fn what_came_before_a_cut_is_not_fetched_again() {
    let disk = Disk::new(8 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, number| match number {
        1 => served.serve(request).fault(Fault::Cut(2 * UNIT as usize + 5)),
        _ => served.serve(request),
    });
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    let found = read(&*file, 4 * UNIT, 4 * UNIT).expect("read");
    assert!(disk.is_at(&found, 4 * UNIT));
    let ranges: Vec<_> = server.log().iter().skip(1).map(Request::range).collect();
    assert_eq!(ranges, [Some((4 * UNIT, 8 * UNIT - 1)), Some((6 * UNIT, 8 * UNIT - 1))]);
}

#[test]
fn a_retry_uses_a_new_connection() {
    let disk = Disk::new(8 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, number| match number {
        5 => Reply::status(503),
        // So that those in the middle are in flight together.
        _ => served.serve(request).delay(Duration::from_millis(50)),
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let readers: Vec<_> = (1..5).map(|unit| read_aside(&file, unit * UNIT, 10)).collect();
    for reader in readers {
        reader.join().expect("no panic").expect("read");
    }
    read(&*file, 7 * UNIT, 10).expect("read");
    let connections: Vec<_> = server.log().iter().map(|request| request.connection).collect();
    assert!(
        connections[..5].contains(&connections[5]),
        "there were idle ones: {connections:?}"
    );
    assert!(!connections[..6].contains(&connections[6]), "{connections:?}");
}

/// The message of a read of the second unit, whose answer is `answer`. It comes without a second attempt, and
/// honest answers afterwards are used again.
fn refusal(answer: impl Fn(&Disk, Reply) -> Reply + Send + Sync + 'static) -> String {
    let disk = Disk::new(4 * UNIT);
    let is_honest = Arc::new(AtomicBool::new(true));
    let (served, honest) = (disk.clone(), Arc::clone(&is_honest));
    let server = Server::start(move |request, _| {
        if honest.load(Ordering::SeqCst) {
            return served.serve(request);
        }
        answer(&served, served.serve_anyway(request))
    });
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    read(&*file, 0, UNIT).expect("read");
    is_honest.store(false, Ordering::SeqCst);
    let error = read(&*file, UNIT, 4096).expect_err("refused");
    assert_eq!(opener.counters().retries, 0, "{error}");
    assert_eq!(
        error.path().map(|path| path.to_string_lossy().into_owned()),
        Some(server.url("/disk"))
    );
    is_honest.store(true, Ordering::SeqCst);
    let found = read(&*file, UNIT, 4096).expect("read");
    assert!(disk.is_at(&found, UNIT), "nothing of another object was kept");
    error.reason()
}

#[test]
fn a_replaced_object_is_refused_whatever_the_server_says() {
    let replaced = refusal(|_, reply| reply.with("ETag", "\"two\""));
    assert!(
        replaced.contains("Expected: 1048576 bytes, ETag \"one\". There is now 1048576 bytes, ETag \"two\""),
        "{replaced}"
    );
    let unnamed = refusal(|_, reply| reply.without("ETag"));
    assert!(unnamed.contains("There is now 1048576 bytes"), "{unnamed}");
}

#[test]
fn status_412_says_what_is_there_now() {
    let disk = Disk::new(4 * UNIT);
    let now = Disk {
        etag: "\"two\"".into(),
        ..Disk::new(3 * UNIT)
    };
    let is_replaced = Arc::new(AtomicBool::new(false));
    let replaced = Arc::clone(&is_replaced);
    let server = Server::start(move |request, _| {
        let served = if replaced.load(Ordering::SeqCst) { &now } else { &disk };
        served.serve(request)
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    is_replaced.store(true, Ordering::SeqCst);
    let error = read(&*file, UNIT, 10).expect_err("refused").to_string();
    assert!(
        error.contains("ETag \"one\". There is now 786432 bytes, ETag \"two\""),
        "{error}"
    );
}

#[test]
fn a_truncated_object_is_refused() {
    let error = refusal(|_, _| Reply::status(416).with("Content-Range", "bytes */1000"));
    assert!(error.contains("There is now 1000 bytes"), "{error}");
    let error = refusal(|_, reply| reply.with("Content-Range", "bytes 262144-524287/524288"));
    assert!(error.contains("There is now 524288 bytes"), "{error}");
}

#[test]
fn an_object_that_is_gone_is_refused() {
    for status in [404, 410] {
        let error = refusal(move |_, _| Reply::status(status));
        assert!(error.contains("There is no such object any more"), "{error}");
    }
}

#[test]
fn other_bytes_than_were_asked_for_are_refused() {
    let shifted = refusal(|disk, reply| {
        let len = disk.data.len();
        reply.with("Content-Range", &format!("bytes 0-262143/{len}"))
    });
    assert!(shifted.contains("asked for bytes 262144-524287"), "{shifted}");
    let unnamed = refusal(|_, reply| reply.without("Content-Range"));
    assert!(unnamed.contains("without saying which"), "{unnamed}");
    let encoded = refusal(|_, reply| reply.with("Content-Encoding", "gzip"));
    assert!(encoded.contains("gzip"), "{encoded}");
}

#[test]
fn a_server_that_sends_too_little_is_asked_with_pauses() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| {
        let (first, _) = request.range().expect("a range");
        let range = format!("bytes {first}-{}/{}", first + 999, disk.data.len());
        disk.serve(request).with("Content-Range", &range).body(vec![0; 1000])
    });
    let mut config = config();
    config.tuning.backoff_base = Duration::from_secs(20);
    config.tuning.backoff_cap = Duration::from_secs(20);
    config.tuning.on_outage = Outage::Report(Duration::from_millis(100));
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    // The first read may be given up before the first answer.
    until(|| {
        let error = read(&*file, UNIT, 10).expect_err("too little").to_string();
        error.contains("less than a unit")
    });
    assert!(server.count() < 20, "{}", server.count());
}

#[test]
fn a_server_that_sends_whole_files_is_refused() {
    let disk = Disk::new(8 * UNIT);
    let server = Server::start(move |_, _| Reply::ok(disk.data.to_vec()).with("ETag", "\"one\""));
    let error = open(&opener(), &server.url("/disk"), None).err().expect("refused");
    assert!(error.to_string().contains("whole files only"), "{error}");
}

#[test]
fn a_small_object_may_come_whole() {
    let disk = Disk::new(3 * UNIT + 17);
    let served = disk.clone();
    let server = Server::start(move |_, _| Reply::ok(served.data.to_vec()).with("ETag", "\"one\""));
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    assert!(disk.is_at(&read(&*file, 0, 3 * UNIT + 17).expect("read"), 0));
    assert_eq!(server.count(), 1);
}

#[test]
fn an_empty_object_is_opened() {
    let disk = Disk::new(0);
    let server = Server::start(move |request, _| disk.serve(request).with("ETag", "\"none\""));
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    assert_eq!(file.pin().len, 0);
    assert_eq!(file.pin().validator, Validator::ETag("\"none\"".into()));
    assert_eq!(read(&*file, 5, 3).expect("zeros"), [0; 3]);
}

#[test]
fn a_pin_that_does_not_hold_is_refused_at_open() {
    let disk = Disk::new(UNIT);
    let server = Server::start(move |request, _| disk.serve(request));
    let pin = |len, tag: &str| Pin {
        len,
        validator: Validator::ETag(tag.to_owned()),
    };
    for wrong in [pin(UNIT, "\"two\""), pin(UNIT - 1, "\"one\"")] {
        let error = open(&opener(), &server.url("/disk"), Some(&wrong))
            .err()
            .expect("refused");
        let expected = format!("Expected: {wrong}. There is now 262144 bytes, ETag \"one\"");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    open(&opener(), &server.url("/disk"), Some(&pin(UNIT, "\"one\""))).expect("the right one");
}

#[test]
fn a_host_without_an_address_is_reported() {
    let error = open(&opener(), "http://no-such-host.invalid/disk", None)
        .err()
        .expect("refused");
    assert!(
        error.to_string().contains("ould not resolve no-such-host.invalid"),
        "{error}"
    );
}

#[test]
fn a_port_that_is_closed_is_reported() {
    let server = Server::start(|_, _| Reply::status(500));
    server.stop();
    let error = open(&opener(), &server.url("/disk"), None).err().expect("refused");
    assert!(error.to_string().contains("onnect"), "{error}");
}

#[test]
fn a_read_waits_for_the_end_of_an_outage() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request));
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    server.stop();
    let reading = read_aside(&file, UNIT, 4096);
    until(|| opener.counters().retries > 5 && opener.counters().waiting > 0);
    let outages = opener.counters().outages;
    assert_eq!(outages.len(), 1);
    assert!(!reading.is_finished());
    let address = server.address.to_string();
    let served = disk.clone();
    let _again = Server::start_at(&address, None, move |request, _| served.serve(request));
    assert!(disk.is_at(&reading.join().expect("no panic").expect("read"), UNIT));
    assert_eq!(opener.counters().outages, []);
}

#[test]
fn a_read_reports_an_outage_if_told_to() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request));
    let mut config = config();
    config.tuning.on_outage = Outage::Report(Duration::from_millis(50));
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    read(&*file, 0, 10).expect("read");
    server.stop();
    // The first read may be given up before the first answer.
    until(|| {
        let error = read(&*file, UNIT, 10).expect_err("an outage");
        assert_eq!(error.errno(), Some(libc::ETIMEDOUT));
        error.to_string().contains("onnect")
    });
    read(&*file, 0, 10).expect("what is in memory is there");
}

#[test]
fn two_opens_of_one_object_wait_as_each_was_told() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request));
    let (url, opener) = (server.url("/disk"), opener());
    let with = |on_outage, pin: Option<&Pin>| {
        let options = OpenOptions {
            on_outage: Some(on_outage),
            ..OpenOptions::default()
        };
        opener.open_with(&url, pin, &options).expect("opened")
    };
    let patient = with(Outage::Wait, None);
    let impatient = with(Outage::Report(Duration::from_millis(50)), Some(patient.pin()));
    assert_eq!((patient.has_time_limit(), impatient.has_time_limit()), (false, true));
    server.stop();
    let reading = read_aside(&patient, UNIT, 4096);
    until(|| opener.counters().waiting > 0);
    let error = read(&*impatient, UNIT, 4096).expect_err("an outage");
    assert_eq!(error.errno(), Some(libc::ETIMEDOUT));
    let outage = impatient.outage().expect("there is one");
    assert!(url.starts_with(&outage.store), "{outage}");
    assert!(!reading.is_finished());
    let served = disk.clone();
    let _again = Server::start_at(&server.address.to_string(), None, move |request, _| {
        served.serve(request)
    });
    assert!(disk.is_at(&reading.join().expect("no panic").expect("read"), UNIT));
    assert!(disk.is_at(&read(&*impatient, UNIT, 10).expect("it is back"), UNIT));
    assert_eq!((patient.outage(), impatient.outage()), (None, None));
}

#[test]
fn a_read_after_one_that_was_given_up_gets_an_attempt_at_once() {
    let disk = Disk::new(4 * UNIT);
    let server = Server::start(move |request, number| match number {
        1 => Reply::status(503),
        _ => disk.serve(request),
    });
    let mut config = config();
    config.tuning.backoff_base = Duration::from_secs(1 << 20);
    config.tuning.backoff_cap = Duration::from_secs(1 << 20);
    config.tuning.on_outage = Outage::Report(Duration::from_millis(200));
    let file = open(&Opener::new(config), &server.url("/disk"), None).expect("opened");
    read(&*file, UNIT, 10).expect_err("given up, and the flight pauses for days");
    until(|| read(&*file, UNIT, 10).is_ok());
}

#[test]
fn a_request_that_stalls_is_overtaken_by_a_second_one() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, number| match number {
        1 => served.serve(request).fault(Fault::Silence),
        _ => served.serve(request),
    });
    let mut config = config();
    config.tuning.hedge_default = Duration::from_millis(20);
    config.tuning.progress_timeout = Duration::from_secs(600);
    let opener = Opener::new(config);
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    assert!(disk.is_at(&read(&*file, UNIT, 4096).expect("read"), UNIT));
    assert_eq!((opener.counters().hedges, opener.counters().retries), (1, 0));
}

#[test]
fn second_requests_are_few() {
    let disk = Disk::new(100 * UNIT);
    let served = disk.clone();
    // All are slow, so each would be asked for twice.
    let server = Server::start(move |request, _| served.serve(request).delay(Duration::from_millis(5)));
    let mut config = config();
    config.tuning.hedge_default = Duration::from_millis(1);
    config.tuning.hedge_floor = Duration::from_millis(1);
    let opener = Opener::new(config);
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    for unit in (0..100).rev() {
        assert!(disk.is_at(&read(&*file, unit * UNIT, 10).expect("read"), unit * UNIT));
    }
    let hedges = opener.counters().hedges;
    assert!((1..=6).contains(&hedges), "{hedges}");
}

#[test]
fn a_dropped_read_leaves_no_request_that_is_tried_for_ever() {
    let disk = Disk::new(4 * UNIT);
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let server = Server::start(move |request, number| {
        if number == 0 {
            return disk.serve(request);
        }
        counted.fetch_add(1, Ordering::SeqCst);
        Reply::status(503)
    });
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    {
        let mut reading = file.read(fvd::storage::IoBufMut::zeroed(10), UNIT);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(reading.as_mut().poll(&mut context).is_pending());
        until(|| attempts.load(Ordering::SeqCst) > 2);
    }
    until(|| {
        let before = attempts.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        attempts.load(Ordering::SeqCst) == before && opener.counters().waiting == 0
    });
}
