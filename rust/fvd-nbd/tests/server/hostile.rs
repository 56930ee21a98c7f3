//! Clients that break the protocol, or send everything at once.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::thread;

use fvd_nbd::protocol::constants::{chunk, cmd};
use fvd_nbd::server::{Limits, MemoryExport};

use crate::host::Host;
use crate::slow::Meeting;
use crate::wire::Client;

const MIB: u64 = 1 << 20;

fn host(limits: Limits, size: u64) -> (Host<MemoryExport>, Arc<MemoryExport>) {
    let export = Arc::new(MemoryExport::new("disk", size as usize));
    (Host::new(limits, [Arc::clone(&export)]), export)
}

#[test]
fn requests_sent_at_once_are_all_answered() {
    let (host, _) = host(Limits::default(), MIB);
    let mut client = Client::simple(&host.socket());
    let all: Vec<u8> = (0..1000)
        .flat_map(|cookie| client.header(0, cmd::READ, cookie, cookie * 512, 512))
        .collect();
    client.send(&all);
    let mut seen = BTreeSet::new();
    for _ in 0..1000 {
        let (error, cookie) = client.simple_reply();
        assert_eq!((error, client.read(512)), (0, vec![0; 512]));
        seen.insert(cookie);
    }
    assert_eq!(seen.len(), 1000);
    client.request(cmd::DISC, 0, 0, 0);
    assert!(client.rest().is_empty());
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn a_write_that_arrives_byte_by_byte_is_stored() {
    let (host, export) = host(Limits::default(), MIB);
    let mut client = Client::simple(&host.socket());
    let mut bytes = client.header(cmd::FLAG_FUA, cmd::WRITE, 9, 1000, 3000);
    bytes.extend((0..3000_u32).map(|n| n as u8));
    for byte in &bytes {
        client.send(&[*byte]);
    }
    assert_eq!(client.simple_reply(), (0, 9));
    assert_eq!(export.content()[1000..4000], bytes[28..]);
    assert_eq!(export.flushes(), 1);
}

#[test]
fn long_requests_take_turns_with_the_smallest_memory() {
    let limits = Limits {
        memory: 0,
        ..Limits::default()
    };
    let (host, export) = host(limits, 64 * MIB);
    let mut client = Client::simple(&host.socket());
    let mut writing = Client::simple(&host.socket());
    for cookie in 0..3 {
        client.request(cmd::READ, cookie, 0, 64 * MIB);
    }
    let reader = thread::spawn(move || {
        for cookie in 0..3 {
            assert_eq!(client.simple_reply(), (0, cookie));
            client.read(64 << 20);
        }
    });
    writing.request(cmd::WRITE, 1, 0, 64 * MIB);
    writing.send(&vec![5; 64 << 20]);
    assert_eq!(writing.simple_reply(), (0, 1));
    reader.join().unwrap();
    assert!(export.content().iter().all(|&byte| byte == 5));
}

#[test]
fn the_payload_of_a_refused_write_is_skipped() {
    let (host, _) = host(Limits::default(), MIB);
    let mut client = Client::simple(&host.socket());
    client.request(cmd::WRITE, 1, MIB, 200_000);
    client.send(&vec![0x25; 200_000]);
    assert_eq!(client.simple_reply(), (28, 1));
    client.request(cmd::FLUSH, 2, 0, 0);
    assert_eq!(client.simple_reply(), (0, 2));
}

#[test]
fn a_write_beyond_64_mib_is_answered_and_ends_the_connection() {
    let (host, export) = host(Limits::default(), 128 * MIB);
    let mut client = Client::simple(&host.socket());
    client.request(cmd::WRITE, 1, 0, 512);
    client.send(&[3; 512]);
    client.request(cmd::WRITE, 2, 0, 64 * MIB + 1);
    assert_eq!(client.simple_reply(), (0, 1));
    assert_eq!(client.simple_reply(), (22, 2));
    assert!(client.rest().is_empty());
    assert_eq!(export.content()[..512], [3; 512]);
    assert_eq!(
        host.stop(),
        ["protocol error: a payload of 67108865 bytes, the limit is 67108864"]
    );
}

#[test]
fn a_client_that_disconnects_during_a_write_changes_nothing() {
    let (host, export) = host(Limits::default(), MIB);
    let mut client = Client::simple(&host.socket());
    client.request(cmd::WRITE, 1, 0, 4096);
    client.send(&[3; 4095]);
    drop(client);
    host.wait_for_an_error();
    assert_eq!(host.stop(), ["the connection failed: unexpected end of file"]);
    assert!(export.content().iter().all(|&byte| byte == 0));
}

#[test]
fn connections_above_the_limit_are_closed() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let (host, _) = host(limits, MIB);
    let first = Client::simple(&host.socket());
    let mut second = Client::simple(&host.socket());
    assert!(Client::connect(&host.socket()).rest().is_empty());
    drop(first);
    second.request(cmd::FLUSH, 1, 0, 0);
    assert_eq!(second.simple_reply(), (0, 1));
    // There is room again soon.
    while Client::connect(&host.socket()).stream.read_exact(&mut [0; 18]).is_err() {}
}

#[test]
fn waiting_requests_run_concurrently() {
    let host = Host::new(Limits::default(), [Arc::new(Meeting::new(32))]);
    let mut client = Client::simple(&host.socket());
    for cookie in 0..32 {
        client.request(cmd::READ, cookie, 0, 512);
    }
    for _ in 0..32 {
        assert_eq!(client.simple_reply().0, 0);
        client.read(512);
    }
}

#[test]
fn requests_in_flight_are_limited_and_the_others_follow() {
    let limits = Limits {
        in_flight: 4,
        ..Limits::default()
    };
    let meeting = Arc::new(Meeting::new(4));
    let host = Host::new(limits, [Arc::clone(&meeting)]);
    let mut client = Client::simple(&host.socket());
    let all: Vec<u8> = (0..64)
        .flat_map(|cookie| client.header(0, cmd::READ, cookie, 0, 512))
        .collect();
    client.send(&all);
    for _ in 0..64 {
        assert_eq!(client.simple_reply().0, 0);
        client.read(512);
    }
    assert_eq!(meeting.most(), 4);
}

#[test]
fn extended_headers_serve_64_bit_ranges() {
    let (host, export) = host(Limits::default(), 8 * MIB);
    let contexts = ["base:allocation", "qemu:allocation-depth"];
    let mut client = Client::extended(&host.socket(), &contexts);
    let header = client.header(cmd::FLAG_PAYLOAD_LEN, cmd::WRITE, 7, MIB, 4096);
    client.send(&header);
    client.send(&[9; 4096]);
    assert_eq!(client.chunk(true), (chunk::NONE, vec![]));
    assert_eq!(export.content()[MIB as usize], 9);
    client.request(cmd::READ, 8, MIB, 512);
    let (kind, payload) = client.chunk(true);
    assert_eq!(
        (kind, &payload[..8], &payload[8..]),
        (chunk::OFFSET_DATA, &MIB.to_be_bytes()[..], &[9; 512][..])
    );
    client.request(cmd::BLOCK_STATUS, 9, MIB, 7 * MIB);
    for (done, id, states) in [(false, 1_u32, [0_u64, 3]), (true, 2, [1, 0])] {
        let extents = [4096, states[0], 7 * MIB - 4096, states[1]].map(u64::to_be_bytes);
        let payload = [&id.to_be_bytes()[..], &2_u32.to_be_bytes(), extents.as_flattened()].concat();
        assert_eq!(client.chunk(done), (chunk::BLOCK_STATUS_EXT, payload));
    }
    let header = client.header(cmd::FLAG_FAST_ZERO, cmd::WRITE_ZEROES, 10, 0, 8 * MIB);
    client.send(&header);
    let (kind, payload) = client.chunk(true);
    assert_eq!((kind, &payload[..4]), (chunk::ERROR, &95_u32.to_be_bytes()[..]));
    client.request(cmd::READ, 11, 1 << 40, 512);
    assert_eq!(client.chunk(true).0, chunk::ERROR);
}
