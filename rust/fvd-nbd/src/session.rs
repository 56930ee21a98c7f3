//! What both sides agreed upon in the handshake; it does not change afterwards.

use crate::constants::{EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC};
use crate::export::ExportInfo;
use crate::meta::Contexts;

/// The headers of requests and replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeaderStyle {
    /// 32-bit lengths, one reply a request.
    #[default]
    Simple,
    /// 32-bit lengths, replies in chunks.
    Structured,
    /// 64-bit lengths, replies in chunks.
    Extended,
}

impl HeaderStyle {
    /// Bytes of the header of a request.
    #[must_use]
    pub fn request_len(self) -> usize {
        if self == Self::Extended { 32 } else { 28 }
    }

    /// The first four bytes of a request.
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

/// The outcome of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The export, as the client was told about it.
    pub export: ExportInfo,
    /// The headers of requests and replies.
    pub style: HeaderStyle,
    /// The metadata contexts that the client selected for this export; without structured replies
    /// there are none.
    pub contexts: Contexts,
    /// Whether TLS was started.
    pub encrypted: bool,
}
