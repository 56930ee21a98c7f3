//! A forked child (docs/design/async-io.md, "Fork"; R6). Each test forks.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fvd::storage::IoBufMut;
use support::nbd::{Act, Door, NbdServer, export};
use support::{Disk, Server, UNIT, content, open, opener, read, until};

/// Runs `work` in a child, and fails if it panics or takes a minute.
#[expect(unsafe_code, reason = "fork")]
fn in_child(work: impl FnOnce()) {
    // SAFETY: the child ends with `_exit`, so no code of the parent is unwound or run twice.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no process");
    if child == 0 {
        // SAFETY: sets a timer of this process.
        unsafe { libc::alarm(60) };
        let done = catch_unwind(AssertUnwindSafe(work));
        // SAFETY: see above.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    let mut status = 0;
    // SAFETY: waits for the child, and writes to one integer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "see what the child has said; 14: it has hung");
}

#[test]
fn a_child_cannot_use_a_file_of_its_parent() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request));
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    in_child(|| {
        for error in [
            read(&*file, 0, 10).expect_err("a file of the parent"),
            open(&opener, &server.url("/disk"), None)
                .err()
                .expect("an opener of the parent"),
        ] {
            assert!(error.to_string().contains("open after forking"), "{error}");
        }
        assert_eq!(file.pin().len, 4 * UNIT);
        drop(file);
        drop(opener);
    });
}

#[test]
fn a_child_opens_files_of_its_own() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, _| served.serve(request));
    let parent = open(&opener(), &server.url("/disk"), None).expect("opened");
    in_child(|| {
        let file = open(&opener(), &server.url("/disk"), None).expect("opened");
        assert!(disk.is_at(&read(&*file, UNIT, 10).expect("read"), UNIT));
    });
    assert!(disk.is_at(&read(&*parent, 2 * UNIT, 10).expect("read"), 2 * UNIT));
}

#[test]
fn a_read_in_flight_fails_in_a_child_and_ends_in_its_parent() {
    let disk = Disk::new(4 * UNIT);
    let served = disk.clone();
    let server = Server::start(move |request, number| match number {
        1 => served.serve(request).delay(Duration::from_millis(300)),
        _ => served.serve(request),
    });
    let file = open(&opener(), &server.url("/disk"), None).expect("opened");
    let mut reading = file.read(IoBufMut::zeroed(10), UNIT);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(reading.as_mut().poll(&mut context).is_pending());
    until(|| server.count() == 2);
    let mut reading = Some(reading);
    in_child(|| {
        let error = pollster::block_on(reading.take().expect("not taken")).expect_err("a read of the parent");
        assert!(error.to_string().contains("open after forking"), "{error}");
    });
    let buf = pollster::block_on(reading.take().expect("not taken here")).expect("read");
    assert!(disk.is_at(buf.as_slice(), UNIT));
}

#[test]
fn a_fork_while_others_read_hangs_no_child() {
    let disk = Disk::new(64 * UNIT);
    let server = Server::start(move |request, _| disk.serve(request));
    let opener = opener();
    let file = open(&opener, &server.url("/disk"), None).expect("opened");
    let readers: Vec<_> = (0..2).map(|half| half * 32..half * 32 + 32).collect();
    std::thread::scope(|scope| {
        for units in readers {
            let file = &file;
            scope.spawn(move || units.for_each(|unit| drop(read(&**file, unit * UNIT, 10).expect("read"))));
        }
        for _ in 0..20 {
            in_child(|| {
                read(&*file, 0, 10).expect_err("a file of the parent");
                _ = opener.counters();
            });
        }
    });
}

#[test]
fn a_child_cannot_use_an_nbd_export_of_its_parent_and_opens_its_own() {
    let data = std::sync::Arc::new(content(4 * UNIT));
    let server = NbdServer::honest(&data);
    let parents = opener();
    let file = open(&parents, &server.url(), None).expect("opened");
    read(&*file, 0, 10).expect("read");
    in_child(|| {
        let looked = pollster::block_on(file.allocation(0, UNIT));
        for error in [
            read(&*file, 0, 10).expect_err("a file of the parent"),
            looked.expect_err("a file of the parent"),
        ] {
            assert!(error.to_string().contains("open after forking"), "{error}");
        }
        drop(file);
        let own = open(&opener(), &server.url(), None).expect("opened");
        assert!(read(&*own, UNIT, 10).expect("read") == data[UNIT as usize..][..10]);
    });
}

#[test]
fn a_read_of_an_nbd_export_in_flight_fails_in_a_child_and_ends_in_its_parent() {
    let data = std::sync::Arc::new(content(4 * UNIT));
    let may_answer = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answers = std::sync::Arc::clone(&may_answer);
    let acts = move |_: &support::nbd::Asked| {
        until(|| answers.load(std::sync::atomic::Ordering::SeqCst));
        Act::Serve
    };
    let server = NbdServer::start(&data, |_| Door::Open(export(4 * UNIT)), acts);
    let file = open(&opener(), &server.url(), None).expect("opened");
    let mut reading = file.read(IoBufMut::zeroed(10), UNIT);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(reading.as_mut().poll(&mut context).is_pending());
    until(|| server.reads() == 1);
    let mut reading = Some(reading);
    in_child(|| {
        let error = pollster::block_on(reading.take().expect("not taken")).expect_err("a read of the parent");
        assert!(error.to_string().contains("open after forking"), "{error}");
    });
    may_answer.store(true, std::sync::atomic::Ordering::SeqCst);
    let buf = pollster::block_on(reading.take().expect("not taken here")).expect("read");
    assert!(buf.as_slice() == &data[UNIT as usize..][..10]);
}
