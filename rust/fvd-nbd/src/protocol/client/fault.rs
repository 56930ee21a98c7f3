//! How a server breaks the protocol, and how it refuses.

use std::fmt;

/// Characters of a server's message that are kept.
const MESSAGE: usize = 256;

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFault {
    /// The server does what the protocol forbids, or more than this client accepts. Says what.
    Violation(String),
    /// The server refuses an option without which there is no session.
    Refused {
        /// The option.
        option: u32,
        /// The type of the reply (`rep::ERR_...`).
        code: u32,
        /// The server's message, shortened; may be empty.
        message: String,
    },
}

impl ServerFault {
    pub(super) fn violation<T>(text: impl Into<String>) -> Result<T, Self> {
        Err(Self::Violation(text.into()))
    }
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(what) => write!(f, "the server breaks the protocol: {what}"),
            Self::Refused { option, code, message } => {
                let number = code & 0xffff;
                write!(f, "the server refuses option {option} with error {number}")?;
                match message.as_str() {
                    "" => Ok(()),
                    text => write!(f, " ({text})"),
                }
            }
        }
    }
}

impl std::error::Error for ServerFault {}

/// The reply to one request: an error. The connection goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFault {
    /// The error number, as it was sent: not each is an [`Errno`](crate::protocol::error::Errno).
    pub errno: u32,
    /// The server's message, shortened; may be empty.
    pub message: String,
}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answers with error {}", self.errno)?;
        match self.message.as_str() {
            "" => Ok(()),
            text => write!(f, " ({text})"),
        }
    }
}

/// A server's text as a message may show it: in one line, and not long.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MESSAGE)]);
    let characters = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    characters.take(MESSAGE).collect()
}
