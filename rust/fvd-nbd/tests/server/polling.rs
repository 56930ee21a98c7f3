//! Clients that send one request at a time, for the next one of which the server looks.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fvd_nbd::server::{Limits, MemoryExport};

use crate::host::Host;
use crate::wire::Client;

const PATIENCE: Duration = Duration::from_secs(20);

fn host(poll: Duration) -> Host<MemoryExport> {
    let limits = Limits {
        poll,
        ..Limits::default()
    };
    Host::new(limits, [Arc::new(MemoryExport::new("disk", 1 << 20))])
}

/// Reads a sector, waits for it, and reads the next.
fn read_one_by_one(client: &mut Client, count: u64) {
    for number in 0..count {
        client.request(0, number, number % 2048 * 512, 512);
        assert_eq!(client.simple_reply(), (0, number));
        client.read(512);
    }
}

#[test]
fn requests_that_come_one_by_one_are_found_without_a_sleep() {
    let host = host(Duration::from_millis(5));
    let mut client = Client::simple(&host.socket());
    let began = Instant::now();
    while host.server.counters().polled() < 100 {
        assert!(began.elapsed() < PATIENCE, "it never looks");
        read_one_by_one(&mut client, 100);
    }
}

#[test]
fn nothing_is_looked_for_where_that_is_turned_off() {
    let host = host(Duration::ZERO);
    read_one_by_one(&mut Client::simple(&host.socket()), 2000);
    assert_eq!(host.server.counters().polled(), 0);
}

#[test]
fn others_are_served_beside_a_client_that_is_looked_for() {
    let host = host(Duration::from_millis(5));
    let [mut busy, mut other] = [(); 2].map(|()| Client::simple(&host.socket()));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                read_one_by_one(&mut busy, 100);
            }
        });
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(5));
            read_one_by_one(&mut other, 3);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_end_of_the_server_reaches_a_client_that_is_looked_for() {
    let host = host(Duration::from_millis(5));
    let mut client = Client::simple(&host.socket());
    thread::scope(|scope| {
        let talk = scope.spawn(|| {
            let request = client.header(0, 0, 1, 0, 512);
            let mut reply = [0; 16 + 512];
            while client.stream.write_all(&request).is_ok() && client.stream.read_exact(&mut reply).is_ok() {}
        });
        thread::sleep(Duration::from_millis(50));
        host.server.shut_down();
        talk.join().expect("it is hung up on");
    });
    assert_eq!(host.stop(), [""; 0]);
}
