//! Decodes replies as a client does, independently of the code under test.

use fvd_nbd::protocol::export::ExportInfo;
use fvd_nbd::protocol::handshake::Catalog;
use fvd_nbd::protocol::session::HeaderStyle;

/// A server with one export.
pub(crate) struct OneDisk;

pub(crate) fn disk() -> ExportInfo {
    ExportInfo::new("disk", 1 << 30)
}

impl Catalog for OneDisk {
    fn list(&self) -> Vec<ExportInfo> {
        vec![disk()]
    }

    fn find(&self, name: &str) -> Option<ExportInfo> {
        matches!(name, "" | "disk").then(disk)
    }
}

/// The types and data of the replies to `option`. `bytes` must not contain anything else.
pub(crate) fn replies(option: u32, mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(take(&mut bytes, 8), 0x0003_e889_0455_65a9);
        assert_eq!(take(&mut bytes, 4), u64::from(option));
        let kind = take(&mut bytes, 4) as u32;
        let length = take(&mut bytes, 4) as usize;
        let (data, rest) = bytes.split_at(length);
        replies.push((kind, data.to_vec()));
        bytes = rest;
    }
    replies
}

/// The decoded header of a chunk of a reply.
pub(crate) struct Chunk {
    pub(crate) cookie: u64,
    pub(crate) done: bool,
}

/// The chunks of one reply. `bytes` must not contain anything else. A simple reply counts as one chunk, with
/// all bytes after it as its data.
pub(crate) fn chunks(style: HeaderStyle, mut bytes: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        let magic = take(&mut bytes, 4);
        if magic == 0x6744_6698 {
            assert!(style != HeaderStyle::Extended && chunks.is_empty());
            let error = take(&mut bytes, 4);
            let cookie = take(&mut bytes, 8);
            assert!(error == 0 || bytes.is_empty(), "an error has no data");
            return vec![Chunk { cookie, done: true }];
        }
        let extended = style == HeaderStyle::Extended;
        assert_eq!(magic, if extended { 0x6e8a_278c } else { 0x668e_33ef });
        let done = take(&mut bytes, 2) == 1;
        let kind = take(&mut bytes, 2);
        let cookie = take(&mut bytes, 8);
        if extended {
            take(&mut bytes, 8);
        }
        let length = take(&mut bytes, if extended { 8 } else { 4 }) as usize;
        let (payload, rest) = bytes.split_at(length);
        assert_payload(kind, payload);
        chunks.push(Chunk { cookie, done });
        bytes = rest;
    }
    chunks
}

/// Checks that the lengths in a chunk are those that the specification requires.
fn assert_payload(kind: u64, mut payload: &[u8]) {
    let length = payload.len();
    match kind {
        0 => assert_eq!(length, 0),
        1 => assert!(length >= 9),
        2 => assert_eq!(length, 12),
        5 => assert!(length >= 12 && (length - 4).is_multiple_of(8)),
        6 => {
            take(&mut payload, 4);
            assert_eq!(take(&mut payload, 4) as usize * 16 + 8, length);
            assert!(length >= 24);
        }
        0x8001 | 0x8002 => {
            assert_ne!(take(&mut payload, 4), 0);
            let message = take(&mut payload, 2) as usize;
            assert!(message <= 4096);
            assert!(str::from_utf8(&payload[..message]).is_ok());
            assert_eq!(payload.len() - message, if kind == 0x8002 { 8 } else { 0 });
        }
        _ => panic!("chunk type {kind}"),
    }
}

/// Takes a big-endian number of `count` bytes from the front.
fn take(bytes: &mut &[u8], count: usize) -> u64 {
    let (number, rest) = bytes.split_at(count);
    *bytes = rest;
    number.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}
