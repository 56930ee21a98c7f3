//! Replies to reads: data, and holes instead of zeroes.

use std::sync::Arc;

use bytes::Bytes;
use fvd_nbd::protocol::constants::cmd;
use fvd_nbd::server::{Export, Limits, MemoryExport};
use pollster::block_on;

use crate::host::Host;
use crate::wire::Client;

const DATA: u16 = 1;
const HOLE: u16 = 2;
const KIB: u64 = 1024;

/// 1 MiB of zeroes, except for bytes of value 7 in 64..72 KiB and 100..260 KiB.
fn host() -> Host<MemoryExport> {
    let export = Arc::new(MemoryExport::new("disk", 1 << 20));
    for (start, length) in [(64, 8), (100, 160)] {
        let sevens = Bytes::from(vec![7; length << 10]);
        block_on(export.write(sevens, start * KIB)).expect("memory does not fail");
    }
    Host::new(Limits::default(), [export])
}

/// The type, offset and length in KiB of each chunk. All data must be 7.
fn chunks(client: &mut Client) -> Vec<(u16, u64, u64)> {
    let mut chunks = Vec::new();
    loop {
        let (done, kind, payload) = client.any_chunk();
        let (offset, rest) = payload.split_at(8);
        let length = if kind == HOLE {
            u64::from(u32::from_be_bytes(rest.try_into().expect("a length")))
        } else {
            assert!(rest.iter().all(|&byte| byte == 7));
            rest.len() as u64
        };
        let offset = u64::from_be_bytes(offset.try_into().expect("8 bytes"));
        chunks.push((kind, offset / KIB, length / KIB));
        if done {
            return chunks;
        }
    }
}

#[test]
fn zeroes_in_a_read_are_sent_as_holes() {
    let host = host();
    let mut client = Client::extended(&host.socket(), &[]);
    for (offset, length, expected) in [
        (0, 4, vec![(HOLE, 0, 4)]),
        (0, 64, vec![(HOLE, 0, 64)]),
        (64, 8, vec![(DATA, 64, 8)]),
        (60, 8, vec![(HOLE, 60, 4), (DATA, 64, 4)]),
        (
            0,
            300,
            vec![
                (HOLE, 0, 64),
                (DATA, 64, 8),
                (HOLE, 72, 28),
                (DATA, 100, 160),
                (HOLE, 260, 40),
            ],
        ),
        (512, 512, vec![(HOLE, 512, 512)]),
    ] {
        client.request(cmd::READ, 5, offset * KIB, length * KIB);
        assert_eq!(chunks(&mut client), expected, "{length} KiB at {offset}");
    }
    drop(client);
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn an_unfragmented_read_gets_all_bytes_in_one_chunk() {
    let host = host();
    let mut client = Client::extended(&host.socket(), &[]);
    for (offset, length) in [(0, 64), (60, 8)] {
        let header = client.header(cmd::FLAG_DF, cmd::READ, 5, offset * KIB, length * KIB);
        client.send(&header);
        let (kind, payload) = client.chunk(true);
        assert_eq!((kind, payload.len() as u64), (DATA, 8 + length * KIB));
        assert!(payload[8..].iter().enumerate().all(|(at, &byte)| {
            let at = offset * KIB + at as u64;
            byte == if at < 64 * KIB { 0 } else { 7 }
        }));
    }
    drop(client);
    assert_eq!(host.stop(), [""; 0]);
}
