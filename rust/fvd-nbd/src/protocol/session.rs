//! What the client and the server agreed on in the handshake. It does not change afterwards.

use crate::protocol::constants::{EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC};
use crate::protocol::export::ExportInfo;
use crate::protocol::meta::Contexts;

/// The negotiated style of request and reply headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeaderStyle {
    /// 32-bit lengths, one simple reply per request.
    #[default]
    Simple,
    /// 32-bit lengths, structured replies in chunks.
    Structured,
    /// 64-bit lengths, replies in chunks.
    Extended,
}

impl HeaderStyle {
    /// The length of a request header in bytes: 32 with extended headers, otherwise 28.
    #[must_use]
    pub fn request_len(self) -> usize {
        if self == Self::Extended { 32 } else { 28 }
    }

    /// The magic number at the start of a request.
    #[must_use]
    pub fn request_magic(self) -> u32 {
        if self == Self::Extended {
            EXTENDED_REQUEST_MAGIC
        } else {
            REQUEST_MAGIC
        }
    }

    /// Whether replies come in chunks.
    #[must_use]
    pub fn is_structured(self) -> bool {
        self >= Self::Structured
    }
}

/// The result of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The properties of the export as they were sent to the client.
    pub export: ExportInfo,
    /// The style of request and reply headers.
    pub style: HeaderStyle,
    /// The metadata contexts that the client selected for this export. Empty without structured replies.
    pub contexts: Contexts,
    /// Whether the connection uses TLS.
    pub encrypted: bool,
}
