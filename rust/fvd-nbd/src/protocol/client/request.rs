//! Encodes requests.

use zerocopy::IntoBytes as _;
use zerocopy::big_endian::U32;

use crate::protocol::constants::cmd;
use crate::protocol::request::Head;
use crate::protocol::session::HeaderStyle;

/// Appends a request to read `length` bytes (at least 1) from `offset` (bytes).
pub fn read(out: &mut Vec<u8>, cookie: u64, offset: u64, length: u32) {
    put(out, cmd::READ, cookie, offset, length);
}

/// Appends a request for the selected metadata contexts of `length` bytes (at least 1) from `offset` (bytes).
pub fn block_status(out: &mut Vec<u8>, cookie: u64, offset: u64, length: u32) {
    put(out, cmd::BLOCK_STATUS, cookie, offset, length);
}

/// Appends the end of the connection. There is no reply.
pub fn disconnect(out: &mut Vec<u8>) {
    put(out, cmd::DISC, 0, 0, 0);
}

fn put(out: &mut Vec<u8>, command: u16, cookie: u64, offset: u64, length: u32) {
    let head = Head {
        magic: HeaderStyle::Structured.request_magic().into(),
        flags: 0.into(),
        command: command.into(),
        cookie: cookie.into(),
        offset: offset.into(),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(U32::from(length).as_bytes());
}
