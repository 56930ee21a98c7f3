//! Errors that end a connection.

use std::fmt;
use std::io;

use crate::protocol::error::ProtocolError;

/// Why a connection ended although neither side asked for it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The socket failed.
    Socket(io::Error),
    /// The TLS handshake failed. Contains the reason.
    Tls(String),
    /// The client's certificate has this subject, which is not among the allowed ones.
    NotAllowed(String),
    /// The client broke the protocol.
    Protocol(ProtocolError),
    /// The client was too slow. Contains what it was too slow to do.
    Deadline(&'static str),
    /// The export disappeared between the handshake and the first request. Contains its name.
    NoExport(String),
    /// A request was not answered because of a bug in this server.
    Lost,
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "the connection failed: {error}"),
            Self::Tls(why) => write!(f, "TLS did not start: {why}"),
            Self::NotAllowed(name) => write!(f, "the client with the certificate of '{name}' is not let in"),
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
            Self::Deadline(what) => write!(f, "the client took too long {what}"),
            Self::NoExport(name) => write!(f, "export {name:?} is not there any more"),
            Self::Lost => write!(f, "a request was not answered"),
        }
    }
}

impl std::error::Error for ConnectionError {}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl From<ProtocolError> for ConnectionError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}
