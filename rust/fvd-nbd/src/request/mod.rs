//! Requests: 28 bytes, 32 with extended headers, and what a write sends behind them.
//!
//! ```text
//! magic u32 | flags u16 | command u16 | cookie u64 | offset u64 | length u32 (u64 if extended)
//! ```

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::constants::{MAX_PAYLOAD, cmd};
use crate::error::{ProtocolError, Refusal};
use crate::reply::ReplyTo;
use crate::session::{HeaderStyle, Session};

mod check;
#[cfg(test)]
mod tests;

/// The fields that both headers begin with.
#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    magic: U32,
    flags: U16,
    command: U16,
    cookie: U64,
    offset: U64,
}

const _: () = assert!(size_of::<Head>() + size_of::<U32>() == 28);
const _: () = assert!(size_of::<Head>() + size_of::<U64>() == 32);

/// What a client wants. Ranges lie within the export; zeroing and writing, on one that is writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Data, in one piece if `unfragmented`.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes, at most the maximum block size; can be 0.
        length: u32,
        /// The reply has at most one chunk of data.
        unfragmented: bool,
    },
    /// Writes the payload.
    Write {
        /// First byte.
        offset: u64,
        /// Bytes, at most the maximum block size; can be 0.
        length: u32,
        /// Durable when it is answered.
        fua: bool,
    },
    /// Makes what was answered before durable.
    Flush,
    /// What is here is not needed any more.
    Trim {
        /// First byte.
        offset: u64,
        /// Bytes; can be 0.
        length: u64,
        /// Durable when it is answered.
        fua: bool,
    },
    /// What is here will be needed soon.
    Cache {
        /// First byte.
        offset: u64,
        /// Bytes; can be 0.
        length: u64,
    },
    /// Writes zeros.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Bytes; can be 0.
        length: u64,
        /// Durable when it is answered.
        fua: bool,
        /// Keeps, or takes, the space.
        no_hole: bool,
        /// Fails with [`Errno::NotSup`](crate::error::Errno::NotSup) if writing would be as fast.
        fast: bool,
    },
    /// What the selected metadata contexts, of which there is one at least, say.
    BlockStatus {
        /// First byte.
        offset: u64,
        /// Bytes, at least 1.
        length: u64,
        /// One extent only.
        one: bool,
    },
    /// Ends the connection; there is no reply.
    Disconnect,
}

/// A request, and how to answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the reply goes.
    pub reply_to: ReplyTo,
    /// Bytes that follow the header: to be written, or, if the request is refused, to be read past
    /// before the reply. At most [`MAX_PAYLOAD`].
    pub payload: u32,
    /// What to do.
    pub command: Result<Command, Refusal>,
}

impl Request {
    /// Reads a header: exactly [`HeaderStyle::request_len`] bytes.
    ///
    /// # Errors
    ///
    /// The connection ends: where the next request begins is not certain, or too far away.
    ///
    /// # Panics
    ///
    /// If `header` has another length.
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
    /// Of the payload or of the range, as `flags` say.
    length: u64,
}

impl Raw {
    fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of payload behind the header, whether or not the request makes sense.
    ///
    /// A write has one, also with extended headers, where it ought to announce it and QEMU (10.0)
    /// does not.
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
