//! What an NBD server can do, and what a reader sees of it: a test for each row of the table in
//! `docs/design/remote.md`, "NBD".

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fvd::remote::{Pin, Validator};
use fvd_nbd::protocol::export::{BlockSizes, ExportInfo};
use fvd_remote::{Opener, Outage};
use support::nbd::{Act, Asked, Door, Errno, NbdServer, export};
use support::{UNIT, config, content, open, opener, read, read_aside, until};

fn disk() -> Arc<Vec<u8>> {
    Arc::new(content(4 * UNIT))
}

fn door() -> Door {
    Door::Open(export(4 * UNIT))
}

/// The first request meets `act`, later ones are served. Reads the second unit, and returns the server.
fn read_after(limit: Duration, act: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> NbdServer {
    let data = disk();
    let acts = move |asked: &Asked| if asked.number == 0 { act(asked) } else { Act::Serve };
    let server = NbdServer::start(&data, |_| door(), acts);
    let mut config = config();
    config.tuning.progress_timeout = limit;
    let opener = Opener::new(config);
    let file = open(&opener, &server.url(), None).expect("opened");
    let found = read(&*file, UNIT, 4096).expect("read");
    assert!(found == data[UNIT as usize..UNIT as usize + 4096]);
    assert!(opener.counters().retries > 0);
    assert_eq!((opener.counters().waiting, opener.counters().outages.len()), (0, 0));
    server
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_silent_connection_is_replaced() {
    let server = read_after(Duration::from_millis(200), |_| Act::Silence);
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_broken_connection_is_replaced() {
    assert_eq!(read_after(LONG, |_| Act::HangUp).connections(), 2);
}

#[test]
fn a_server_that_breaks_the_protocol_gets_a_new_connection() {
    let data = |cookie: u64| {
        let mut raw = 0x668e_33ef_u32.to_be_bytes().to_vec();
        raw.extend([0, 1, 0, 1]);
        raw.extend(cookie.to_be_bytes());
        raw.extend(9_u32.to_be_bytes());
        raw.extend(UNIT.to_be_bytes());
        raw.push(1);
        raw
    };
    let raw = [vec![7; 64], data(12345), data(0)];
    for raw in raw {
        let server = read_after(LONG, move |_| Act::Raw(raw.clone()));
        assert_eq!(server.connections(), 2);
    }
}

#[test]
fn an_error_of_the_disk_is_tried_again_on_the_same_connection() {
    assert_eq!(read_after(LONG, |_| Act::Error(Errno::Io)).connections(), 1);
}

#[test]
fn a_server_that_shuts_down_is_asked_over_a_new_connection() {
    assert_eq!(read_after(LONG, |_| Act::Error(Errno::Shutdown)).connections(), 2);
}

#[test]
fn a_request_that_is_not_permitted_fails_at_once() {
    for errno in [Errno::Perm, Errno::Inval] {
        let server = NbdServer::start(&disk(), |_| door(), move |_| Act::Error(errno));
        let file = open(&opener(), &server.url(), None).expect("opened");
        let error = read(&*file, 0, 10).expect_err("refused").to_string();
        assert!(
            error.contains(&format!("error {}", errno.to_wire())) && error.contains("as told"),
            "{error}"
        );
        assert!(error.contains(&server.url()), "{error}");
        assert_eq!(server.reads(), 1);
    }
}

#[test]
fn reads_go_on_when_the_server_is_back() {
    let data = disk();
    let server = NbdServer::start(&data, |_| door(), |_| Act::Serve);
    let opener = opener();
    let file = open(&opener, &server.url(), None).expect("opened");
    server.go_away(true);
    let reading = read_aside(&file, 0, 4096);
    until(|| opener.counters().retries > 5);
    let outage = &opener.counters().outages[0];
    assert!(server.url().starts_with(&outage.store), "{outage:?}");
    assert!(!reading.is_finished());
    server.go_away(false);
    let found = reading.join().expect("no panic").expect("read");
    assert!(found == data[..4096]);
    assert!(opener.counters().outages.is_empty());
}

#[test]
fn an_outage_is_reported_if_the_user_wants_that() {
    let mut config = config();
    config.tuning.on_outage = Outage::Report(Duration::from_millis(50));
    let server = NbdServer::honest(&disk());
    let file = open(&Opener::new(config), &server.url(), None).expect("opened");
    server.go_away(true);
    let error = read(&*file, 0, 4096).expect_err("an outage");
    assert_eq!(error.errno(), Some(libc::ETIMEDOUT), "{error}");
    server.go_away(false);
    until(|| read(&*file, 0, 4096).is_ok());
}

#[test]
fn another_size_after_a_restart_fails_all_reads_for_good() {
    let blocks = BlockSizes {
        minimum: 512,
        ..BlockSizes::default()
    };
    let others = [
        ExportInfo {
            block_sizes: blocks,
            ..export(4 * UNIT)
        },
        export(3 * UNIT),
    ];
    for other in others {
        let is_small = other.size < 4 * UNIT;
        let doors = move |number| match number {
            1 => Door::Open(other.clone()),
            _ => door(),
        };
        let server = NbdServer::start(&disk(), doors, |_| Act::Serve);
        let file = open(&opener(), &server.url(), None).expect("opened");
        read(&*file, 0, 10).expect("read");
        server.hang_up();
        for _ in 0..2 {
            let error = read(&*file, 2 * UNIT, 10).expect_err("another export").to_string();
            let now = if is_small {
                "786432 bytes"
            } else {
                "blocks of at least 512"
            };
            assert!(error.contains(now) && error.contains("1048576 bytes"), "{error}");
        }
        assert_eq!(server.connections(), 2, "it is not asked again");
        read(&*file, 0, 10).expect("what is in memory came from the right export");
    }
}

#[test]
fn an_export_that_is_not_the_pinned_one_is_refused() {
    let server = NbdServer::honest(&disk());
    for (len, validator) in [(UNIT, Validator::Length), (4 * UNIT, Validator::ETag("\"x\"".into()))] {
        let pin = Pin { len, validator };
        let error = open(&opener(), &server.url(), Some(&pin))
            .err()
            .expect("refused")
            .to_string();
        assert!(
            error.contains("backing_pin=update") && error.contains("1048576 bytes"),
            "{error}"
        );
    }
}

#[test]
fn an_export_that_the_server_does_not_have_is_reported_at_once() {
    let server = NbdServer::honest(&disk());
    let url = server.url().replace("/disk", "/other");
    let error = open(&opener(), &url, None).err().expect("refused").to_string();
    assert!(error.contains("no such export") && error.contains("/other"), "{error}");
    assert_eq!(server.connections(), 1);
    let secure = server.url().replace("nbd:", "nbds:");
    let ca = support::tls::Identity::new().1;
    let config = support::parsed(&support::tls::rule("nbds://127.0.0.1", ca.path()));
    open(&Opener::new(config), &secure, None).err().expect("it has no TLS");
}

#[test]
fn an_export_that_is_missing_after_a_restart_is_waited_for() {
    let other = ExportInfo {
        name: "other".into(),
        ..export(4 * UNIT)
    };
    let doors = move |number| match number {
        1..3 => Door::Open(other.clone()),
        _ => door(),
    };
    let server = NbdServer::start(&disk(), doors, |_| Act::Serve);
    let file = open(&opener(), &server.url(), None).expect("opened");
    server.hang_up();
    read(&*file, 0, 10).expect("the export is back");
    assert_eq!(server.connections(), 4);
}

#[test]
fn opening_gives_up_after_a_few_attempts() {
    for mute in [false, true] {
        let doors = move |_| if mute { Door::Mute } else { Door::Closed };
        let server = NbdServer::start(&disk(), doors, |_| Act::Serve);
        let mut config = config();
        if mute {
            config.tuning.progress_timeout = Duration::from_millis(50);
        }
        let error = open(&Opener::new(config), &server.url(), None)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(&server.url()), "{error}");
        assert!(
            error.contains(if mute {
                "has not opened"
            } else {
                "closed the connection"
            }),
            "{error}"
        );
        assert_eq!(server.connections(), 4);
    }
}

#[test]
fn what_is_no_nbd_server_is_said_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("nbd://{}/x", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            _ = std::io::Write::write_all(&mut stream, b"220 mail.example.org ESMTP ready\r\n");
        }
    });
    let error = open(&opener(), &url, None).err().expect("refused").to_string();
    assert!(error.contains("does not greet as an NBD server"), "{error}");
}

#[test]
fn a_further_connection_that_fails_disturbs_no_read() {
    let data = Arc::new(content(64 * UNIT));
    let info = ExportInfo {
        multi_conn: true,
        ..export(64 * UNIT)
    };
    let doors = move |number| match number {
        0 => Door::Open(info.clone()),
        _ => Door::Mute,
    };
    let may_answer = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&may_answer);
    let acts = move |_: &Asked| {
        while !answers.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Act::Serve
    };
    let server = NbdServer::start(&data, doors, acts);
    let opener = opener();
    let file = open(&opener, &server.url(), None).expect("opened");
    let readers: Vec<_> = (0..64).map(|unit| read_aside(&file, unit * UNIT, 10)).collect();
    until(|| server.connections() > 1);
    may_answer.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().expect("no panic").expect("read");
    }
    assert_eq!(opener.counters().retries, 0);
}
