//! Errors that are sent in replies, and errors that end a connection.

use std::fmt;
use std::io;

/// An error number of the NBD protocol, independent of the system's errno values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Errno {
    /// Not permitted. Also the answer to a write to a read-only export.
    Perm = 1,
    /// The storage failed.
    Io = 5,
    /// No memory.
    NoMem = 12,
    /// The request is invalid.
    Inval = 22,
    /// No space. Also the answer to a write beyond the end of the export.
    NoSpc = 28,
    /// Too long for one unfragmented reply. Only as the answer to a read.
    Overflow = 75,
    /// Zeroing would not be faster than a write. Only as the answer to `WRITE_ZEROES` with `FAST_ZERO`.
    NotSup = 95,
    /// The server is shutting down.
    Shutdown = 108,
}

impl Errno {
    /// The number as it is sent in a reply.
    #[must_use]
    pub fn to_wire(self) -> u32 {
        self as u32
    }

    /// Maps a system error. Overflow and "not supported" have special meanings in NBD, so "not supported"
    /// becomes [`Errno::Inval`] and overflow becomes [`Errno::Io`].
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

/// Why a request is refused: an error number for programs, a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// What was wrong, with the value. The client gets it only if structured replies were negotiated.
    pub message: String,
}

impl Refusal {
    /// A refusal with `message`.
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { errno, message }
    }
}

/// A protocol violation that ends the connection: it is uncertain where the next message begins, a limit is
/// exceeded, or no error reply exists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The client's handshake flags contain bits that the server did not offer.
    UnknownClientFlags(u32),
    /// An option does not begin with its magic number. Contains the value that was found.
    OptionMagic(u64),
    /// The data of an option is longer than [`MAX_OPTION_SKIP`](crate::protocol::constants::MAX_OPTION_SKIP).
    OptionTooLong {
        /// The option number.
        option: u32,
        /// The length of its data in bytes.
        length: u32,
    },
    /// More than [`MAX_OPTIONS`](crate::protocol::constants::MAX_OPTIONS) options.
    TooManyOptions,
    /// An option other than `EXPORT_NAME` from a client without fixed newstyle: such a client cannot take a
    /// reply.
    NotFixedNewstyle {
        /// The option number.
        option: u32,
    },
    /// `EXPORT_NAME` failed. This option has no error reply. Contains the reason.
    ExportName(String),
    /// Plain text arrived after the request to start TLS.
    PlaintextAfterStartTls,
    /// More bytes were fed after the handshake had ended.
    HandshakeOver,
    /// A request does not begin with the magic number of the negotiated header style.
    RequestMagic {
        /// The magic number of the negotiated style.
        expected: u32,
        /// The number that was received.
        found: u32,
    },
    /// The payload of a request is longer than [`MAX_PAYLOAD`](crate::protocol::constants::MAX_PAYLOAD).
    PayloadTooLong {
        /// The cookie of the request, needed to answer it before the connection ends.
        cookie: u64,
        /// The announced payload length in bytes.
        length: u64,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownClientFlags(flags) => write!(f, "the client set handshake flags {flags:#x}, not all offered"),
            Self::OptionMagic(found) => write!(f, "an option begins with {found:#018x}, not with IHAVEOPT"),
            Self::OptionTooLong { option, length } => write!(f, "option {option} announces {length} bytes of data"),
            Self::TooManyOptions => write!(f, "more than {} options", crate::protocol::constants::MAX_OPTIONS),
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
                crate::protocol::constants::MAX_PAYLOAD
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
