//! Errors that travel in replies, and those that end a connection.

use std::fmt;
use std::io;

/// An error number as NBD numbers them, whatever the system does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Errno {
    /// Not permitted; also a write to an export that is read-only.
    Perm = 1,
    /// The storage failed.
    Io = 5,
    /// No memory.
    NoMem = 12,
    /// The request cannot be.
    Inval = 22,
    /// No space; also a write beyond the end.
    NoSpc = 28,
    /// Too long not to be fragmented. Only as the answer to a read.
    Overflow = 75,
    /// Not faster than a write. Only as the answer to a fast zeroing.
    NotSup = 95,
    /// The server is about to end.
    Shutdown = 108,
}

impl Errno {
    /// The number in a reply.
    #[must_use]
    pub fn to_wire(self) -> u32 {
        self as u32
    }

    /// The kind of a system's error. Overflow and "not supported" have a meaning of their own in
    /// NBD, so that the system's become [`Errno::Inval`].
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::Perm,
            Kind::OutOfMemory => Self::NoMem,
            Kind::InvalidInput | Kind::Unsupported => Self::Inval,
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::NoSpc,
            _ => Self::Io,
        }
    }
}

/// Why a request is not served: a number for programs, words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number.
    pub errno: Errno,
    /// What was wrong, and with which value. Reaches the client if replies are structured.
    pub message: String,
}

impl Refusal {
    /// A refusal with `message`.
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { errno, message }
    }
}

/// What a client did after which the connection cannot go on: it is not certain where its next
/// message begins, or there is no way to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The flags that answer the greeting have bits that were not offered.
    UnknownClientFlags(u32),
    /// An option does not begin with its magic number.
    OptionMagic(u64),
    /// The data of an option is longer than [`MAX_OPTION_SKIP`](crate::constants::MAX_OPTION_SKIP).
    OptionTooLong {
        /// The option.
        option: u32,
        /// Bytes of its data.
        length: u32,
    },
    /// More than [`MAX_OPTIONS`](crate::constants::MAX_OPTIONS) options.
    TooManyOptions,
    /// An option other than `EXPORT_NAME`, without fixed newstyle: it could not be answered.
    NotFixedNewstyle {
        /// The option.
        option: u32,
    },
    /// `EXPORT_NAME` cannot be served, and has no error reply.
    ExportName(String),
    /// Plain text after the request to start TLS.
    PlaintextAfterStartTls,
    /// Bytes after the end of the handshake was told.
    HandshakeOver,
    /// A request does not begin with the magic number of the negotiated style.
    RequestMagic {
        /// What was negotiated.
        expected: u32,
        /// What came.
        found: u32,
    },
    /// The payload of a request is longer than [`MAX_PAYLOAD`](crate::constants::MAX_PAYLOAD).
    PayloadTooLong {
        /// The request's cookie, to answer before the connection ends.
        cookie: u64,
        /// Bytes announced.
        length: u64,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownClientFlags(flags) => write!(f, "the client set handshake flags {flags:#x}, not all offered"),
            Self::OptionMagic(found) => write!(f, "an option begins with {found:#018x}, not with IHAVEOPT"),
            Self::OptionTooLong { option, length } => write!(f, "option {option} announces {length} bytes of data"),
            Self::TooManyOptions => write!(f, "more than {} options", crate::constants::MAX_OPTIONS),
            Self::NotFixedNewstyle { option } => {
                write!(
                    f,
                    "option {option} from a client that cannot take a reply (no fixed newstyle)"
                )
            }
            Self::ExportName(why) => write!(f, "EXPORT_NAME refused: {why}"),
            Self::PlaintextAfterStartTls => write!(f, "plain text behind the request to start TLS"),
            Self::HandshakeOver => write!(f, "the handshake is over"),
            Self::RequestMagic { expected, found } => {
                write!(f, "a request begins with {found:#010x}, not with {expected:#010x}")
            }
            Self::PayloadTooLong { length, .. } => write!(
                f,
                "a payload of {length} bytes, the limit is {}",
                crate::constants::MAX_PAYLOAD
            ),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_become_those_of_nbd() {
        let cases = [
            (1, Errno::Perm),
            (5, Errno::Io),
            (12, Errno::NoMem),
            (13, Errno::Perm),
            (22, Errno::Inval),
            (27, Errno::NoSpc),
            (28, Errno::NoSpc),
            (30, Errno::Perm),
            (75, Errno::Io),
            (95, Errno::Inval),
            (122, Errno::NoSpc),
        ];
        for (number, expected) in cases {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(Errno::from_io(&error), expected, "{error}");
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_specification() {
        let all = [
            Errno::Perm,
            Errno::Io,
            Errno::NoMem,
            Errno::Inval,
            Errno::NoSpc,
            Errno::Overflow,
            Errno::NotSup,
            Errno::Shutdown,
        ];
        assert_eq!(all.map(Errno::to_wire), [1, 5, 12, 22, 28, 75, 95, 108]);
    }
}
