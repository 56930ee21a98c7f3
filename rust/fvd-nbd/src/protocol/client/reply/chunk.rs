//! Chunks of structured replies.

use super::{Phase, Replies, Wanted, be_u32, be_u64};
use crate::protocol::client::fault::{RequestFault, ServerFault, shown};
use crate::protocol::constants::{MAX_STRING, chunk};

/// The most bytes of a chunk that is no data: 131072 extents.
pub const MAX_CHUNK: u32 = 4 + (8 << 17);
/// The most bytes of an error: a message of maximum length, and the fields around it.
const MAX_ERROR: u32 = MAX_STRING as u32 + 64;

/// The header of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) kind: u16,
    pub(super) is_last: bool,
    pub(super) cookie: u64,
    pub(super) length: u32,
}

impl Replies {
    /// The header of a chunk.
    pub(super) fn chunk(&mut self, head: &[u8]) -> Result<Phase, ServerFault> {
        if !self.structured {
            return ServerFault::violation("a reply in chunks, which were not agreed on");
        }
        let field = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let chunk = Chunk {
            kind: field(6),
            is_last: field(4) & chunk::FLAG_DONE != 0,
            cookie: be_u64(&head[8..16]),
            length: be_u32(&head[16..]),
        };
        let open = self.open(chunk.cookie)?;
        let longest = match (chunk.kind, &open.wanted) {
            (chunk::NONE, _) if chunk.is_last => 0..=0,
            (chunk::OFFSET_DATA, Wanted::Read(filling)) => 9..=filling.length().saturating_add(8),
            (chunk::OFFSET_HOLE, Wanted::Read(_)) => 12..=12,
            (chunk::BLOCK_STATUS, Wanted::Status(_)) => 12..=MAX_CHUNK,
            (kind, _) if kind & 1 << 15 != 0 => 6..=MAX_ERROR,
            (kind, _) => return ServerFault::violation(format!("a chunk of type {kind}")),
        };
        if !longest.contains(&chunk.length) {
            let Chunk { kind, length, .. } = chunk;
            return ServerFault::violation(format!("a chunk of type {kind} and {length} bytes"));
        }
        Ok(match chunk.kind {
            chunk::OFFSET_DATA => Phase::DataOffset(chunk),
            _ => Phase::Payload(chunk),
        })
    }

    /// The payload of a chunk that is no data.
    pub(super) fn payload(&mut self, chunk: Chunk, payload: &[u8]) -> Result<(), ServerFault> {
        let context = self.context;
        let open = self.open(chunk.cookie)?;
        match (chunk.kind, &mut open.wanted) {
            (chunk::NONE, _) => {}
            (chunk::OFFSET_HOLE, Wanted::Read(filling)) => {
                let length = be_u32(&payload[8..]);
                if length == 0 {
                    return ServerFault::violation("a hole of 0 bytes");
                }
                filling.cover(be_u64(&payload[..8]), length.into())?;
            }
            (chunk::BLOCK_STATUS, Wanted::Status(status)) => status.take(context, payload)?,
            _ => {
                let fault = error(payload)?;
                // The first one says why.
                open.fault.get_or_insert(fault);
            }
        }
        Ok(())
    }
}

/// An error chunk: number, length of the message, message. What follows it is not needed.
fn error(payload: &[u8]) -> Result<RequestFault, ServerFault> {
    let (errno, length) = (be_u32(&payload[..4]), u16::from_be_bytes([payload[4], payload[5]]));
    match payload[6..].get(..length as usize) {
        Some(_) if errno == 0 => ServerFault::violation("an error with the number 0"),
        Some(message) => Ok(RequestFault {
            errno,
            message: shown(message),
        }),
        None => ServerFault::violation("an error message that is longer than its chunk"),
    }
}
