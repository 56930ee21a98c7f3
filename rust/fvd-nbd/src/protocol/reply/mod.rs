//! Encodes replies to requests. The caller sends the encoded header in front of data that it already holds.
//!
//! ```text
//! simple      magic u32 | error u32 | cookie u64                                         | data
//! structured  magic u32 | flags u16 | type u16 | cookie u64 | length u32                 | payload
//! extended    magic u32 | flags u16 | type u16 | cookie u64 | offset u64 | length u64    | payload
//! ```
//!
//! A simple reply is complete. The other styles send one or more chunks; a flag marks the last one. The
//! offset in an extended header is the offset of the request.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

use crate::protocol::constants::{EXTENDED_REPLY_MAGIC, MAX_STRING, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk};
use crate::protocol::error::{Errno, Refusal};
use crate::protocol::session::HeaderStyle;

mod extents;
#[cfg(test)]
mod tests;

pub use extents::Extents;

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Simple {
    magic: U32,
    error: U32,
    cookie: U64,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Structured {
    magic: U32,
    flags: U16,
    kind: U16,
    cookie: U64,
    length: U32,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Extended {
    magic: U32,
    flags: U16,
    kind: U16,
    cookie: U64,
    offset: U64,
    length: U64,
}

const _: () = assert!(size_of::<Simple>() == 16 && size_of::<Structured>() == 20 && size_of::<Extended>() == 32);

/// The position of a chunk in its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The last chunk of the reply.
    Last,
    /// More chunks follow.
    More,
}

/// What a reply needs from its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The negotiated header style.
    pub style: HeaderStyle,
    /// The cookie by which the client identifies the request.
    pub cookie: u64,
    /// The offset of the request in bytes.
    pub offset: u64,
    /// Whether the request is a read. Its replies are then in chunks if structured replies were negotiated.
    pub read: bool,
}

impl ReplyTo {
    /// Appends success without data. In a reply in chunks it is the last chunk: for a reply that has no other
    /// chunk, or whose earlier chunks were all [`Position::More`].
    pub fn done(&self, out: &mut Vec<u8>) {
        if self.style == HeaderStyle::Extended || (self.style == HeaderStyle::Structured && self.read) {
            self.chunk(out, chunk::NONE, Position::Last, 0);
        } else {
            self.simple(out, 0);
        }
    }

    /// Appends an error, as the last chunk. A message longer than [`MAX_STRING`] bytes is cut.
    pub fn refuse(&self, out: &mut Vec<u8>, refusal: &Refusal) {
        if self.style == HeaderStyle::Simple {
            return self.simple(out, refusal.errno.to_wire());
        }
        let message = cut(&refusal.message);
        self.chunk(out, chunk::ERROR, Position::Last, 6 + message.len() as u64);
        put_error(out, refusal.errno, message);
    }

    /// Appends an error at `offset` (bytes), as the last chunk. All data before `offset` is valid. Without
    /// chunks this is the same as [`ReplyTo::refuse`].
    pub fn refuse_at(&self, out: &mut Vec<u8>, refusal: &Refusal, offset: u64) {
        if self.style == HeaderStyle::Simple {
            return self.simple(out, refusal.errno.to_wire());
        }
        let message = cut(&refusal.message);
        self.chunk(out, chunk::ERROR_OFFSET, Position::Last, 14 + message.len() as u64);
        put_error(out, refusal.errno, message);
        out.extend_from_slice(&offset.to_be_bytes());
    }

    /// Appends the header for `length` bytes (at least 1) of data at `offset` (bytes). The caller sends the
    /// data after it. A simple reply must contain all of the data.
    pub fn data(&self, out: &mut Vec<u8>, offset: u64, length: u32, position: Position) {
        debug_assert!(self.read && length > 0, "data answers a read");
        if self.style == HeaderStyle::Simple {
            debug_assert_eq!(
                (offset, position),
                (self.offset, Position::Last),
                "a simple reply is whole"
            );
            return self.simple(out, 0);
        }
        self.chunk(out, chunk::OFFSET_DATA, position, 8 + u64::from(length));
        out.extend_from_slice(&offset.to_be_bytes());
    }

    /// Appends a chunk that says that `length` bytes (at least 1) from `offset` (bytes) are zeroes. Only with
    /// structured or extended replies, and not if the client asked for an unfragmented reply.
    pub fn hole(&self, out: &mut Vec<u8>, offset: u64, length: u32, position: Position) {
        debug_assert!(
            self.read && length > 0 && self.style.is_structured(),
            "a chunk answers a read"
        );
        self.chunk(out, chunk::OFFSET_HOLE, position, 12);
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
    }

    /// Appends a chunk with the extents of the metadata context `id`.
    pub fn status(&self, out: &mut Vec<u8>, id: u32, extents: &Extents, position: Position) {
        debug_assert!(self.style.is_structured(), "a status comes in chunks");
        let count = extents.as_slice().len();
        if self.style == HeaderStyle::Extended {
            self.chunk(out, chunk::BLOCK_STATUS_EXT, position, 8 + 16 * count as u64);
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&(count as u32).to_be_bytes());
            for &(length, flags) in extents.as_slice() {
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&u64::from(flags).to_be_bytes());
            }
        } else {
            self.chunk(out, chunk::BLOCK_STATUS, position, 4 + 8 * count as u64);
            out.extend_from_slice(&id.to_be_bytes());
            for &(length, flags) in extents.as_slice() {
                let length = u32::try_from(length).expect("cut when it was added");
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&flags.to_be_bytes());
            }
        }
    }

    fn simple(&self, out: &mut Vec<u8>, error: u32) {
        let header = Simple {
            magic: SIMPLE_REPLY_MAGIC.into(),
            error: error.into(),
            cookie: self.cookie.into(),
        };
        out.extend_from_slice(header.as_bytes());
    }

    fn chunk(&self, out: &mut Vec<u8>, kind: u16, position: Position, length: u64) {
        let flags = match position {
            Position::Last => chunk::FLAG_DONE,
            Position::More => 0,
        };
        if self.style == HeaderStyle::Extended {
            let header = Extended {
                magic: EXTENDED_REPLY_MAGIC.into(),
                flags: flags.into(),
                kind: kind.into(),
                cookie: self.cookie.into(),
                offset: self.offset.into(),
                length: length.into(),
            };
            out.extend_from_slice(header.as_bytes());
        } else {
            let header = Structured {
                magic: STRUCTURED_REPLY_MAGIC.into(),
                flags: flags.into(),
                kind: kind.into(),
                cookie: self.cookie.into(),
                length: u32::try_from(length).expect("data and extents are limited").into(),
            };
            out.extend_from_slice(header.as_bytes());
        }
    }
}

fn put_error(out: &mut Vec<u8>, errno: Errno, message: &str) {
    out.extend_from_slice(&errno.to_wire().to_be_bytes());
    out.extend_from_slice(&(message.len() as u16).to_be_bytes());
    out.extend_from_slice(message.as_bytes());
}

/// The longest prefix of `message` that fits in a protocol string.
fn cut(message: &str) -> &str {
    let mut end = message.len().min(MAX_STRING);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
