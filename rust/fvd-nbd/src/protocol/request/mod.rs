//! Requests: a header of 28 bytes (32 with extended headers), and the payload that follows the header of a
//! write.
//!
//! ```text
//! magic u32 | flags u16 | command u16 | cookie u64 | offset u64 | length u32 (u64 if extended)
//! ```

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::protocol::constants::{MAX_PAYLOAD, cmd};
use crate::protocol::error::{ProtocolError, Refusal};
use crate::protocol::reply::ReplyTo;
use crate::protocol::session::{HeaderStyle, Session};

mod check;
#[cfg(test)]
mod tests;

/// The fields at the start of both header styles.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Head {
    pub(super) magic: U32,
    pub(super) flags: U16,
    pub(super) command: U16,
    pub(super) cookie: U64,
    pub(super) offset: U64,
}

const _: () = assert!(size_of::<Head>() + size_of::<U32>() == 28);
const _: () = assert!(size_of::<Head>() + size_of::<U64>() == 32);

/// A checked command. Its range lies within the export. Commands that change data are for writable exports
/// only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reads data.
    Read {
        /// The offset of the first byte.
        offset: u64,
        /// The length in bytes, at most the maximum block size; may be 0.
        length: u32,
        /// The reply has at most one chunk of data.
        unfragmented: bool,
    },
    /// Writes the payload.
    Write {
        /// The offset of the first byte.
        offset: u64,
        /// The length in bytes, at most the maximum block size; may be 0.
        length: u32,
        /// Whether the change must be durable before it is answered.
        fua: bool,
    },
    /// Makes the writes that were answered before it durable.
    Flush,
    /// Discards the content of the range.
    Trim {
        /// The offset of the first byte.
        offset: u64,
        /// The length in bytes; may be 0.
        length: u64,
        /// Whether the change must be durable before it is answered.
        fua: bool,
    },
    /// Announces that the range will be read soon.
    Cache {
        /// The offset of the first byte.
        offset: u64,
        /// The length in bytes; may be 0.
        length: u64,
    },
    /// Writes zeroes.
    WriteZeroes {
        /// The offset of the first byte.
        offset: u64,
        /// The length in bytes; may be 0.
        length: u64,
        /// Whether the change must be durable before it is answered.
        fua: bool,
        /// Keeps the range allocated, or allocates it.
        no_hole: bool,
        /// Fails with [`Errno::NotSup`](crate::protocol::error::Errno::NotSup) if zeroing would not be faster
        /// than writing.
        fast: bool,
    },
    /// Queries the selected metadata contexts. At least one is selected.
    BlockStatus {
        /// The offset of the first byte.
        offset: u64,
        /// The length in bytes, at least 1.
        length: u64,
        /// Whether only one extent is wanted.
        one: bool,
    },
    /// Ends the connection; there is no reply.
    Disconnect,
}

/// A decoded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the reply needs from the request.
    pub reply_to: ReplyTo,
    /// The number of payload bytes that follow the header, at most [`MAX_PAYLOAD`]. They are the data to
    /// write or, if the request is refused, must be skipped before the reply.
    pub payload: u32,
    /// The command, or why it is refused.
    pub command: Result<Command, Refusal>,
}

impl Request {
    /// Decodes a header of exactly [`HeaderStyle::request_len`] bytes, and checks the request.
    ///
    /// # Errors
    ///
    /// The caller must end the connection. The magic number is wrong ([`ProtocolError::RequestMagic`]), or
    /// the payload is too long to be skipped ([`ProtocolError::PayloadTooLong`]).
    ///
    /// # Panics
    ///
    /// If `header` has a different length.
    pub fn decode(header: &[u8], session: &Session) -> Result<Self, ProtocolError> {
        assert_eq!(header.len(), session.style.request_len(), "a whole header");
        let (head, length) = Head::read_from_prefix(header).expect("the header is longer");
        let length = if session.style == HeaderStyle::Extended {
            U64::read_from_bytes(length).expect("8 of 32 bytes are left").get()
        } else {
            U32::read_from_bytes(length)
                .expect("4 of 28 bytes are left")
                .get()
                .into()
        };
        let expected = session.style.request_magic();
        if head.magic != expected {
            let found = head.magic.get();
            return Err(ProtocolError::RequestMagic { expected, found });
        }
        let raw = Raw {
            flags: head.flags.get(),
            command: head.command.get(),
            offset: head.offset.get(),
            length,
        };
        let cookie = head.cookie.get();
        Ok(Self {
            reply_to: ReplyTo {
                style: session.style,
                cookie,
                offset: raw.offset,
                read: raw.command == cmd::READ,
            },
            payload: raw.payload(session.style, cookie)?,
            command: raw.check(session),
        })
    }
}

/// The fields of a request, as the client sent them.
#[derive(Clone, Copy, Debug)]
struct Raw {
    flags: u16,
    command: u16,
    offset: u64,
    /// The length of the payload or of the range, depending on `flags`.
    length: u64,
}

impl Raw {
    fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The number of payload bytes after the header, whether or not the request is valid.
    ///
    /// A write always has a payload. With extended headers the client should announce it by a flag, but QEMU
    /// (10.0) does not.
    fn payload(self, style: HeaderStyle, cookie: u64) -> Result<u32, ProtocolError> {
        let announced = style == HeaderStyle::Extended && self.has(cmd::FLAG_PAYLOAD_LEN);
        let length = if announced || self.command == cmd::WRITE {
            self.length
        } else {
            0
        };
        match u32::try_from(length) {
            Ok(length) if length <= MAX_PAYLOAD => Ok(length),
            _ => Err(ProtocolError::PayloadTooLong { cookie, length }),
        }
    }
}
