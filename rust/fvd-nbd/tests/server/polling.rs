//! Clients that send one request at a time, for which the server spins.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fvd_nbd::server::{Limits, MemoryExport};

use crate::host::Host;
use crate::wire::Client;

fn host(poll: Duration) -> Host<MemoryExport> {
    let limits = Limits {
        poll,
        ..Limits::default()
    };
    Host::new(limits, [Arc::new(MemoryExport::new("disk", 1 << 20))])
}

/// Reads `count` sectors, one at a time.
fn read_one_by_one(client: &mut Client, count: u64) {
    for number in 0..count {
        client.request(0, number, number % 2048 * 512, 512);
        assert_eq!(client.simple_reply(), (0, number));
        client.read(512);
    }
}

#[test]
fn sequential_requests_are_found_by_spinning() {
    let host = host(Duration::from_millis(5));
    let mut client = Client::simple(&host.socket());
    // On a busy machine most requests are late.
    while host.server.counters().polled() == 0 {
        read_one_by_one(&mut client, 100);
    }
}

#[test]
fn a_poll_limit_of_zero_disables_spinning() {
    let host = host(Duration::ZERO);
    read_one_by_one(&mut Client::simple(&host.socket()), 2000);
    assert_eq!(host.server.counters().polled(), 0);
}

#[test]
fn other_clients_are_served_while_one_is_spun_for() {
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
fn a_shutdown_ends_a_connection_that_spins() {
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
