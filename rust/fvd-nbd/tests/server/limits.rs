//! Many clients at once, and clients that leave in the middle.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fvd_nbd::protocol::constants::{cmd, opt};
use fvd_nbd::server::{Kind, Limits, MemoryExport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::host::{Host, wait_until};
use crate::options::message;
use crate::wire::Client;

const MIB: u64 = 1 << 20;
/// Long enough for a server on a quiet machine. No test fails because it is too short.
const A_WHILE: Duration = Duration::from_millis(200);

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
    wait_until(|| host.server.counters().connections().now == 0);
    assert_eq!(host.server.counters().in_flight(), 0);
    assert_eq!(host.server.counters().connections().failed, 16);
}

#[test]
fn over_tcp_a_reply_survives_a_shutdown_with_requests_unread() {
    let limits = Limits {
        linger: Duration::from_secs(3600),
        ..Limits::default()
    };
    let host = host(limits, 16 * MIB);
    let mut client = std::net::TcpStream::connect(("127.0.0.1", host.port)).unwrap();
    client.read_exact(&mut [0; 18]).unwrap();
    let export = message(opt::EXPORT_NAME, b"disk");
    client.write_all(&[&3_u32.to_be_bytes()[..], &export].concat()).unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
    let wire = Client::detached();
    client.write_all(&wire.header(0, cmd::READ, 1, 0, 8 * MIB)).unwrap();
    wait_until(|| host.server.counters().requests(Kind::Read).requests == 1);
    thread::sleep(A_WHILE);
    host.server.shut_down();
    client.write_all(&wire.header(0, cmd::FLUSH, 2, 0, 0)).unwrap();
    client.read_exact(&mut vec![0; 16 + (7 << 20)]).unwrap();
    // The server has sent everything. The last part is still in the kernel's buffers.
    thread::sleep(A_WHILE);
    client.read_exact(&mut vec![0; 1 << 20]).unwrap();
    // On a very busy machine the server has not noticed the shutdown when the second request comes.
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!([0, 16].contains(&rest.len()), "{rest:?}");
}
