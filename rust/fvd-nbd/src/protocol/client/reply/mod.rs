//! Decodes replies, simple ones and structured ones.

mod chunk;
mod read;
mod status;

use std::collections::HashMap;

use super::fault::{RequestFault, ServerFault};
use crate::protocol::constants::{SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC};
use chunk::Chunk;
use read::Filling;
use status::StatusOf;

pub use chunk::MAX_CHUNK;
pub use read::MAX_PIECES;
pub use status::Extent;

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

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn be_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}
