//! The fixed newstyle negotiation, from the greeting to an export that is open.
//!
//! ```text
//! TLS (if wanted) -> structured replies -> base:allocation -> GO, or EXPORT_NAME
//! ```
//!
//! One option at a time. Structured replies and the context are not needed: without them reads have simple
//! replies, and nothing is known of holes.

mod answer;
mod send;

use super::fault::ServerFault;
use crate::protocol::constants::{
    FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, INIT_MAGIC, MAX_OPTION_DATA, OPTION_MAGIC, OPTION_REPLY_MAGIC, opt,
};
use crate::protocol::export::BlockSizes;

/// The largest number of replies to one option that a client reads.
pub const MAX_REPLIES: u32 = 256;

/// The length of the greeting in bytes.
const GREETING_LEN: usize = 18;
/// The length of the header of a reply in bytes.
const REPLY_HEAD_LEN: usize = 20;
/// The length of the reply to `EXPORT_NAME` in bytes, and of the zeros after it.
const EXPORT_LEN: usize = 10;
const ZEROES_LEN: usize = 124;

/// What the caller must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send what there is to send, then read more.
    Continue,
    /// Start TLS, then call [`Negotiation::tls_started`]. There is nothing to send.
    StartTls,
    /// The export is open. The rest of the input is replies.
    Done(Opened),
}

/// An export that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Size in bytes, at most `i64::MAX`.
    pub size: u64,
    /// The transmission flags.
    pub flags: u16,
    /// The block sizes. What the server does not say is the default.
    pub block_sizes: BlockSizes,
    /// Whether reads have structured replies.
    pub structured: bool,
    /// The id of `base:allocation`, if the server can report it.
    pub allocation: Option<u32>,
}

/// The client side of the negotiation with one server.
#[derive(Debug)]
pub struct Negotiation {
    export: String,
    wants_tls: bool,
    phase: Phase,
    /// The received part of an incomplete message: at most [`MAX_OPTION_DATA`] bytes.
    buffer: Vec<u8>,
    /// Whether the reply to `EXPORT_NAME` has zeros after it.
    has_zeroes: bool,
    /// Replies to the present option.
    replies: u32,
    opened: Opened,
    /// Whether the server has said what the size is.
    has_size: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Greeting,
    /// The header of a reply to this option.
    Head(u32),
    Data {
        option: u32,
        kind: u32,
        length: usize,
    },
    /// The reply to `EXPORT_NAME`.
    Export,
    Tls,
    Over,
}

impl Negotiation {
    /// Opens `export` (at most 4096 bytes, "": the default export). With `tls`, everything but the greeting
    /// goes over TLS.
    #[must_use]
    pub fn new(export: &str, tls: bool) -> Self {
        Self {
            export: export.to_owned(),
            wants_tls: tls,
            phase: Phase::Greeting,
            buffer: Vec::new(),
            has_zeroes: true,
            replies: 0,
            opened: Opened {
                size: 0,
                flags: 0,
                block_sizes: BlockSizes {
                    maximum: 32 << 20,
                    ..BlockSizes::default()
                },
                structured: false,
                allocation: None,
            },
            has_size: false,
        }
    }

    /// Takes `input`, and appends to `out` what is to be sent.
    ///
    /// # Errors
    ///
    /// The server breaks the protocol, or refuses; the connection must be closed.
    pub fn feed(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Step, ServerFault> {
        loop {
            let length = match self.phase {
                Phase::Greeting => GREETING_LEN,
                Phase::Head(_) => REPLY_HEAD_LEN,
                Phase::Data { length, .. } => length,
                Phase::Export if self.has_zeroes => EXPORT_LEN + ZEROES_LEN,
                Phase::Export => EXPORT_LEN,
                Phase::Tls => return ServerFault::violation("plain text behind the start of TLS"),
                Phase::Over => return ServerFault::violation("the negotiation is over"),
            };
            let Some(message) = self.gather(input, length) else {
                return Ok(Step::Continue);
            };
            match self.phase {
                Phase::Greeting => self.greet(&message, out)?,
                Phase::Head(option) => self.phase = self.head(option, &message)?,
                Phase::Data { option, kind, .. } => {
                    self.phase = Phase::Head(option);
                    self.reply(option, kind, &message, out)?;
                }
                _ => self.export(&message)?,
            }
            match self.phase {
                Phase::Tls if !input.is_empty() => {
                    return ServerFault::violation("plain text behind the start of TLS");
                }
                Phase::Tls => return Ok(Step::StartTls),
                Phase::Over => return Ok(Step::Done(self.opened.clone())),
                _ => {}
            }
        }
    }

    /// TLS has started: goes on with the next option.
    ///
    /// # Panics
    ///
    /// Unless the last step was [`Step::StartTls`].
    pub fn tls_started(&mut self, out: &mut Vec<u8>) {
        assert!(matches!(self.phase, Phase::Tls), "TLS starts when the server agrees");
        self.send(opt::STRUCTURED_REPLY, &[], out);
    }

    fn greet(&mut self, greeting: &[u8], out: &mut Vec<u8>) -> Result<(), ServerFault> {
        let (magic, rest) = greeting.split_at(8);
        if magic != INIT_MAGIC.to_be_bytes() {
            return ServerFault::violation("it does not greet as an NBD server does");
        }
        let (style, flags) = rest.split_at(8);
        if style != OPTION_MAGIC.to_be_bytes() {
            return ServerFault::violation("it speaks the old protocol, without options");
        }
        let offered = be_u16(flags);
        let flags = offered & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        self.has_zeroes = flags & FLAG_NO_ZEROES == 0;
        out.extend_from_slice(&u32::from(flags).to_be_bytes());
        let is_fixed = flags & FLAG_FIXED_NEWSTYLE != 0;
        match (self.wants_tls, is_fixed) {
            (true, true) => self.send(opt::STARTTLS, &[], out),
            (true, false) => return ServerFault::violation("it has no TLS"),
            (false, true) => self.send(opt::STRUCTURED_REPLY, &[], out),
            (false, false) => self.send_export_name(out),
        }
        Ok(())
    }

    fn head(&mut self, option: u32, head: &[u8]) -> Result<Phase, ServerFault> {
        if head[..8] != OPTION_REPLY_MAGIC.to_be_bytes() {
            return ServerFault::violation("a reply to an option does not begin as one");
        }
        if be_u32(&head[8..12]) != option {
            return ServerFault::violation("a reply to an option that was not sent");
        }
        self.replies += 1;
        if self.replies > MAX_REPLIES {
            return ServerFault::violation(format!("more than {MAX_REPLIES} replies to an option"));
        }
        let (kind, length) = (be_u32(&head[12..16]), be_u32(&head[16..]));
        if length > MAX_OPTION_DATA {
            return ServerFault::violation(format!("a reply of {length} bytes to an option"));
        }
        let length = length as usize;
        Ok(Phase::Data { option, kind, length })
    }

    /// Takes the next `length` bytes, or all of `input` if there are not enough yet.
    fn gather(&mut self, input: &mut &[u8], length: usize) -> Option<Vec<u8>> {
        let missing = length - self.buffer.len();
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.buffer.extend_from_slice(taken);
        *input = rest;
        (taken.len() == missing).then(|| std::mem::take(&mut self.buffer))
    }
}

fn be_u16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(bytes.try_into().expect("two bytes"))
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn be_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}
