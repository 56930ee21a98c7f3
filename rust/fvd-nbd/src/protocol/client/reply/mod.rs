//! Decodes replies, simple ones and structured ones.

mod read;
mod status;

use std::collections::HashMap;

use super::fault::{RequestFault, ServerFault, shown};
use crate::protocol::constants::{MAX_STRING, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk};
use read::Filling;
use status::StatusOf;

pub use read::MAX_PIECES;
pub use status::Extent;

/// The most bytes of a chunk that is no data: 131072 extents.
pub const MAX_CHUNK: u32 = 4 + (8 << 17);
/// The most bytes of an error: a message of maximum length, and the fields around it.
const MAX_ERROR: u32 = MAX_STRING as u32 + 64;

const SIMPLE_LEN: usize = 16;
const STRUCTURED_LEN: usize = 20;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All bytes of the range.
    Data(Vec<u8>),
    /// What the range consists of, from its start: at least one extent, perhaps not up to its end.
    Status(Vec<Extent>),
}

/// A request that has been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The cookie of the request.
    pub cookie: u64,
    /// The answer, or the server's error.
    pub result: Result<Answer, RequestFault>,
}

/// Decodes the replies of one connection. It keeps what has come of replies that are not whole.
#[derive(Debug)]
pub struct Replies {
    structured: bool,
    /// The id of the metadata context.
    context: Option<u32>,
    open: HashMap<u64, Open>,
    phase: Phase,
    buffer: Vec<u8>,
}

/// A request without a whole answer.
#[derive(Debug)]
struct Open {
    wanted: Wanted,
    fault: Option<RequestFault>,
}

#[derive(Debug)]
enum Wanted {
    Read(Filling),
    Status(StatusOf),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The header of a reply, of which this many bytes are needed.
    Head(usize),
    /// The start of a chunk of data.
    DataOffset(Chunk),
    /// Bytes for a range, from `at` (bytes from its start).
    Data {
        cookie: u64,
        at: usize,
        end: usize,
        is_last: bool,
    },
    /// The payload of another chunk.
    Payload(Chunk),
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    kind: u16,
    is_last: bool,
    cookie: u64,
    length: u32,
}

impl Replies {
    /// For a connection with or without structured replies. `context`: the id of `base:allocation`.
    #[must_use]
    pub fn new(structured: bool, context: Option<u32>) -> Self {
        Self {
            structured,
            context,
            open: HashMap::new(),
            phase: Phase::Head(SIMPLE_LEN),
            buffer: Vec::new(),
        }
    }

    /// A request to read `length` bytes from `offset` (bytes) is about to be sent. Each cookie is used once.
    pub fn expect_read(&mut self, cookie: u64, offset: u64, length: u32) {
        self.expect(cookie, Wanted::Read(Filling::new(offset, length)));
    }

    /// A request for the status of `length` bytes is about to be sent.
    pub fn expect_status(&mut self, cookie: u64, length: u32) {
        self.expect(cookie, Wanted::Status(StatusOf::new(length)));
    }

    fn expect(&mut self, cookie: u64, wanted: Wanted) {
        let before = self.open.insert(cookie, Open { wanted, fault: None });
        debug_assert!(before.is_none(), "a cookie is used once");
    }

    /// Takes `input` up to the end of the next whole answer. None: all of `input` is taken.
    ///
    /// # Errors
    ///
    /// The server breaks the protocol; the connection must be closed.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Done>, ServerFault> {
        loop {
            if let Phase::Data {
                cookie,
                at,
                end,
                is_last,
            } = self.phase
            {
                let (taken, rest) = input.split_at((end - at).min(input.len()));
                self.filling(cookie)?.put(at, taken);
                *input = rest;
                let at = at + taken.len();
                self.phase = Phase::Data {
                    cookie,
                    at,
                    end,
                    is_last,
                };
                if at < end {
                    return Ok(None);
                }
                self.phase = Phase::Head(SIMPLE_LEN);
                if is_last {
                    return self.finish(cookie).map(Some);
                }
                continue;
            }
            let length = match self.phase {
                Phase::Head(length) => length,
                Phase::DataOffset(_) => 8,
                Phase::Payload(chunk) => chunk.length as usize,
                Phase::Data { .. } => unreachable!("handled above"),
            };
            let missing = length - self.buffer.len();
            let (taken, rest) = input.split_at(missing.min(input.len()));
            self.buffer.extend_from_slice(taken);
            *input = rest;
            if taken.len() < missing {
                return Ok(None);
            }
            if let Some(done) = self.message()? {
                return Ok(Some(done));
            }
        }
    }

    /// A whole message is in the buffer.
    fn message(&mut self) -> Result<Option<Done>, ServerFault> {
        if matches!(self.phase, Phase::Head(SIMPLE_LEN)) && self.buffer[..4] == STRUCTURED_REPLY_MAGIC.to_be_bytes() {
            self.phase = Phase::Head(STRUCTURED_LEN);
            return Ok(None);
        }
        let message = std::mem::take(&mut self.buffer);
        match std::mem::replace(&mut self.phase, Phase::Head(SIMPLE_LEN)) {
            Phase::Head(STRUCTURED_LEN) => {
                self.phase = self.chunk(&message)?;
                Ok(None)
            }
            Phase::Head(_) => self.simple(&message),
            Phase::DataOffset(chunk) => {
                let length = chunk.length as usize - 8;
                let at = self.filling(chunk.cookie)?.cover(be_u64(&message), length as u64)?;
                self.phase = Phase::Data {
                    cookie: chunk.cookie,
                    at,
                    end: at + length,
                    is_last: chunk.is_last,
                };
                Ok(None)
            }
            Phase::Payload(chunk) => {
                self.payload(chunk, &message)?;
                if chunk.is_last {
                    return self.finish(chunk.cookie).map(Some);
                }
                Ok(None)
            }
            Phase::Data { .. } => unreachable!("data is not buffered"),
        }
    }

    fn simple(&mut self, head: &[u8]) -> Result<Option<Done>, ServerFault> {
        if head[..4] != SIMPLE_REPLY_MAGIC.to_be_bytes() {
            return ServerFault::violation("a reply does not begin as one");
        }
        let (errno, cookie) = (be_u32(&head[4..8]), be_u64(&head[8..16]));
        let structured = self.structured;
        let open = self.open(cookie)?;
        if errno != 0 {
            let message = String::new();
            open.fault = Some(RequestFault { errno, message });
            return self.finish(cookie).map(Some);
        }
        match &mut open.wanted {
            Wanted::Read(filling) if !structured => {
                let end = filling.cover_all()?;
                self.phase = Phase::Data {
                    cookie,
                    at: 0,
                    end,
                    is_last: true,
                };
                Ok(None)
            }
            _ => ServerFault::violation("a simple reply where chunks were agreed on"),
        }
    }

    /// The header of a chunk.
    fn chunk(&mut self, head: &[u8]) -> Result<Phase, ServerFault> {
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
    fn payload(&mut self, chunk: Chunk, payload: &[u8]) -> Result<(), ServerFault> {
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

    fn open(&mut self, cookie: u64) -> Result<&mut Open, ServerFault> {
        match self.open.get_mut(&cookie) {
            Some(open) => Ok(open),
            None => ServerFault::violation("an answer to no request"),
        }
    }

    fn filling(&mut self, cookie: u64) -> Result<&mut Filling, ServerFault> {
        match &mut self.open(cookie)?.wanted {
            Wanted::Read(filling) => Ok(filling),
            Wanted::Status(_) => ServerFault::violation("data for a status"),
        }
    }

    /// The last chunk has come.
    fn finish(&mut self, cookie: u64) -> Result<Done, ServerFault> {
        let Some(open) = self.open.remove(&cookie) else {
            return ServerFault::violation("an answer to no request");
        };
        let result = match (open.fault, open.wanted) {
            (Some(fault), _) => Err(fault),
            (None, Wanted::Read(filling)) => Ok(Answer::Data(filling.finish()?)),
            (None, Wanted::Status(status)) => Ok(Answer::Status(status.finish()?)),
        };
        Ok(Done { cookie, result })
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

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn be_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}
