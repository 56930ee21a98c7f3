//! Many clients at once, slow clients, and clients that use memory which others need.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fvd_nbd::protocol::constants::{cmd, opt};
use fvd_nbd::server::{Limits, MemoryExport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::host::Host;
use crate::options::message;
use crate::wire::Client;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_millis(300);

fn host(limits: Limits, size: u64) -> Host<MemoryExport> {
    Host::new(limits, [Arc::new(MemoryExport::new("disk", size as usize))])
}

/// Raises the limit on descriptors for `connections`: both ends of each are in this process.
fn allow_descriptors(connections: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = 2 * connections + 100;
    if current.is_some_and(|current| current < wanted) {
        let current = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("within the maximum");
    }
}

fn assert_served(client: &mut Client) {
    client.request(cmd::READ, 7, 0, 512);
    assert_eq!(client.simple_reply(), (0, 7));
    client.read(512);
}

#[test]
fn a_thousand_connections_are_served_at_once() {
    allow_descriptors(1000);
    let limits = Limits {
        connections: 1000,
        ..Limits::default()
    };
    let host = host(limits, MIB);
    let mut clients: Vec<_> = (0..1000).map(|_| Client::simple(&host.socket())).collect();
    assert_eq!(host.server.counters().connections().now, 1000);
    for client in &mut clients {
        client.request(cmd::READ, 7, 0, 512);
    }
    for client in &mut clients {
        assert_eq!(client.simple_reply(), (0, 7));
        client.read(512);
    }
    assert!(Client::connect(&host.socket()).rest().is_empty(), "one too many");
    drop(clients);
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn a_connection_flood_does_not_affect_connected_clients() {
    allow_descriptors(400);
    let limits = Limits {
        connections: 200,
        handshake: 5 * SOON,
        ..Limits::default()
    };
    let host = host(limits, MIB);
    let mut client = Client::simple(&host.socket());
    let flood: Vec<_> = (0..400).map(|_| Client::connect(&host.socket())).collect();
    assert_served(&mut client);
    let started = Instant::now();
    while host.server.counters().connections().now > 1 {
        assert!(started.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(10));
    }
    assert_served(&mut Client::simple(&host.socket()));
    assert_served(&mut client);
    let connections = host.server.counters().connections();
    assert_eq!((connections.total, connections.refused), (201, 201));
    drop(flood);
}

#[test]
fn a_handshake_sent_byte_by_byte_gets_no_extra_time() {
    let limits = Limits {
        handshake: SOON,
        ..Limits::default()
    };
    let host = host(limits, MIB);
    let mut slow = Client::connect(&host.socket());
    slow.send(&3_u32.to_be_bytes());
    let started = Instant::now();
    for byte in message(opt::LIST, b"").iter().cycle() {
        if slow.stream.write_all(&[*byte]).is_err() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(5));
    }
    assert!(started.elapsed() >= SOON);
    assert_eq!(host.stop(), ["the client took too long to end the handshake"]);
}

#[test]
fn a_client_that_reads_no_replies_loses_its_memory() {
    let limits = Limits {
        memory: 0,
        payload: SOON,
        drain_timeout: SOON,
        ..Limits::default()
    };
    let host = host(limits, 64 * MIB);
    let mut greedy = Client::simple(&host.socket());
    for cookie in 0..4 {
        greedy.request(cmd::READ, cookie, 0, 64 * MIB);
    }
    thread::sleep(SOON / 3);
    let mut other = Client::simple(&host.socket());
    assert_served(&mut other);
    assert_eq!(host.stop(), ["the client took too long to take its replies"]);
}

#[test]
fn a_client_that_reads_replies_slowly_is_served() {
    let limits = Limits {
        payload: SOON,
        ..Limits::default()
    };
    let host = host(limits, 4 * MIB);
    let mut slow = Client::simple(&host.socket());
    for cookie in 0..8 {
        slow.request(cmd::READ, cookie, 0, MIB);
    }
    for cookie in 0..8 {
        assert_eq!(slow.simple_reply(), (0, cookie));
        slow.read(MIB as usize);
        thread::sleep(SOON / 3);
    }
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn a_client_that_reads_a_long_reply_slowly_is_served() {
    let limits = Limits {
        payload: SOON,
        ..Limits::default()
    };
    let host = host(limits, 8 * MIB);
    let mut slow = Client::simple(&host.socket());
    slow.request(cmd::READ, 1, 0, 8 * MIB);
    assert_eq!(slow.simple_reply(), (0, 1));
    for _ in 0..8 {
        thread::sleep(SOON / 4);
        slow.read(MIB as usize);
    }
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn a_slow_payload_is_accepted_and_a_crawling_one_is_not() {
    let limits = Limits {
        payload: SOON,
        ..Limits::default()
    };
    let host = host(limits, 8 * MIB);
    let mut slow = Client::simple(&host.socket());
    slow.request(cmd::WRITE, 1, 0, 8 * MIB);
    for _ in 0..8 {
        slow.send(&vec![1; MIB as usize]);
        thread::sleep(SOON / 2);
    }
    assert_eq!(slow.simple_reply(), (0, 1));
    for offset in [0, 8 * MIB] {
        // The first write is valid. The second is beyond the end, so its payload is skipped.
        let mut crawling = Client::simple(&host.socket());
        crawling.request(cmd::WRITE, 2, offset, 2 * MIB);
        let started = Instant::now();
        while crawling.stream.write_all(&[1; 100]).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(host.stop(), ["the client took too long to send what it announced"; 2]);
}

#[test]
fn clients_that_vanish_during_a_payload_leave_no_state() {
    let limits = Limits {
        memory: 0,
        ..Limits::default()
    };
    let host = host(limits, 64 * MIB);
    for cookie in 0..16 {
        let mut client = Client::simple(&host.socket());
        client.request(cmd::WRITE, cookie, 0, 64 * MIB);
        client.send(&vec![1; 100_000 * cookie as usize]);
    }
    let mut other = Client::simple(&host.socket());
    other.request(cmd::READ, 1, 0, 64 * MIB);
    assert_eq!(other.simple_reply(), (0, 1));
    assert!(other.read(64 << 20).iter().all(|&byte| byte == 0), "no part of a write");
    drop(other);
    let started = Instant::now();
    while host.server.counters().connections().now > 0 {
        assert!(started.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(host.server.counters().in_flight(), 0);
    assert_eq!(host.server.counters().connections().failed, 16);
}

#[test]
fn over_tcp_a_reply_survives_a_shutdown_with_requests_unread() {
    let host = host(Limits::default(), 16 * MIB);
    let mut client = std::net::TcpStream::connect(("127.0.0.1", host.port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.read_exact(&mut [0; 18]).unwrap();
    let export = message(opt::EXPORT_NAME, b"disk");
    client.write_all(&[&3_u32.to_be_bytes()[..], &export].concat()).unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    let wire = Client::detached();
    client.write_all(&wire.header(0, cmd::READ, 1, 0, 8 * MIB)).unwrap();
    thread::sleep(SOON / 3);
    host.server.shut_down();
    client.write_all(&wire.header(0, cmd::FLUSH, 2, 0, 0)).unwrap();
    // The last part is still in the kernel's buffers when the server has finished.
    client.read_exact(&mut vec![0; 16 + (7 << 20)]).unwrap();
    thread::sleep(SOON);
    client.read_exact(&mut vec![0; 1 << 20]).unwrap();
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0, "nothing else is answered");
}
