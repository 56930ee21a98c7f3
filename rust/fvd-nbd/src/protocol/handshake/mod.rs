//! The fixed newstyle negotiation, from the greeting to a [`Session`].
//!
//! ```text
//! server  greeting 18 bytes
//! client  flags u32
//! client  option: IHAVEOPT u64 | option u32 | length u32 | data        as often as it likes
//! server  replies: magic u64 | option u32 | type u32 | length u32 | data      one or more
//! ```
//!
//! `EXPORT_NAME` and `GO` end the negotiation with a session. `ABORT` ends it with an acknowledgement.
//! Anything that leaves it uncertain where the next option begins ends it with a [`ProtocolError`].

use crate::protocol::constants::{
    FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, INIT_MAGIC, MAX_OPTION_DATA, MAX_OPTION_SKIP, MAX_OPTIONS, OPTION_MAGIC, opt,
};
use crate::protocol::error::ProtocolError;
use crate::protocol::export::ExportInfo;
use crate::protocol::session::Session;
use answer::Agreed;

mod answer;
mod data;
mod reply;
#[cfg(test)]
mod tests;

/// The length of the greeting in bytes.
const GREETING_LEN: usize = 18;
/// The length of an option's header, before its data, in bytes.
const OPTION_HEAD_LEN: usize = 16;

/// The exports of a server. Called during a handshake, so the methods must not block.
pub trait Catalog: Sync {
    /// The exports for the reply to `LIST`.
    fn list(&self) -> Vec<ExportInfo>;

    /// The export that clients open as `name`; "" is the default export. The name in the result may differ.
    fn find(&self, name: &str) -> Option<ExportInfo>;
}

/// Whether clients may or must use TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// No TLS.
    #[default]
    Off,
    /// Clients that ask for TLS get it.
    Optional,
    /// All clients must use TLS. Before that, every option but `STARTTLS` and `ABORT` is refused.
    Required,
}

/// What the caller must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Read more: the input is consumed, and there is nothing to send.
    NeedInput,
    /// Send the reply, then feed the rest of the input.
    Reply,
    /// Send the reply, start TLS, call [`Handshake::tls_started`].
    StartTls,
    /// Send the reply and close the connection.
    Aborted,
    /// Send the reply. The rest of the input is requests.
    Done(Session),
}

/// The server side of the negotiation with one client.
#[derive(Debug)]
pub struct Handshake {
    tls: TlsPolicy,
    phase: Phase,
    /// The received part of an incomplete message: at most [`MAX_OPTION_DATA`] bytes.
    buffer: Vec<u8>,
    options: u32,
    client_flags: u32,
    encrypted: bool,
    shutting_down: bool,
    agreed: Agreed,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    ClientFlags,
    Head,
    Data {
        option: u32,
        length: u32,
    },
    /// Skips data that is too long to be kept.
    Skip {
        option: u32,
        left: u32,
    },
    /// `STARTTLS` was acknowledged; TLS has not started yet.
    Tls,
    Over,
}

impl Handshake {
    /// A new negotiation. The caller sends [`Handshake::greeting`] first.
    #[must_use]
    pub fn new(tls: TlsPolicy) -> Self {
        Self {
            tls,
            phase: Phase::ClientFlags,
            buffer: Vec::new(),
            options: 0,
            client_flags: 0,
            encrypted: false,
            shutting_down: false,
            agreed: Agreed::default(),
        }
    }

    /// The greeting: the first bytes on a connection, sent by the server.
    #[must_use]
    pub fn greeting() -> [u8; GREETING_LEN] {
        let mut bytes = [0; GREETING_LEN];
        bytes[..8].copy_from_slice(&INIT_MAGIC.to_be_bytes());
        bytes[8..16].copy_from_slice(&OPTION_MAGIC.to_be_bytes());
        bytes[16..].copy_from_slice(&(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes());
        bytes
    }

    /// From now on every option but `ABORT` is answered with `ERR_SHUTDOWN`.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// Must be called when TLS has started. The negotiation begins again, and nothing that was agreed before
    /// counts. Only the client's handshake flags stay, because a client sends them once.
    pub fn tls_started(&mut self) {
        debug_assert!(matches!(self.phase, Phase::Tls), "TLS was asked for");
        self.encrypted = true;
        self.agreed = Agreed::default();
        self.phase = Phase::Head;
    }

    /// Consumes the client's bytes from the front of `input`, up to the end of one option, and appends the
    /// reply to `out`.
    ///
    /// # Errors
    ///
    /// The client broke the protocol: the caller must close the connection without a reply. Later calls fail
    /// with [`ProtocolError::HandshakeOver`].
    pub fn feed(
        &mut self,
        input: &mut &[u8],
        catalog: &dyn Catalog,
        out: &mut Vec<u8>,
    ) -> Result<Event, ProtocolError> {
        let answered = out.len();
        let event = self.advance(input, catalog, out);
        if event.is_err() {
            self.phase = Phase::Over;
            out.truncate(answered);
        }
        event
    }

    fn advance(&mut self, input: &mut &[u8], catalog: &dyn Catalog, out: &mut Vec<u8>) -> Result<Event, ProtocolError> {
        loop {
            match self.phase {
                Phase::ClientFlags => {
                    let Some(flags) = self.gather(input, 4) else {
                        return Ok(Event::NeedInput);
                    };
                    self.take_flags(be_u32(&flags))?;
                    self.phase = Phase::Head;
                }
                Phase::Head => {
                    let Some(head) = self.gather(input, OPTION_HEAD_LEN) else {
                        return Ok(Event::NeedInput);
                    };
                    self.phase = self.take_head(&head)?;
                }
                Phase::Data { option, length } => {
                    let Some(data) = self.gather(input, length as usize) else {
                        return Ok(Event::NeedInput);
                    };
                    self.phase = Phase::Head;
                    let event = self.answer(option, Some(&data), catalog, out)?;
                    return self.after(event, input);
                }
                Phase::Skip { option, left } => {
                    let skipped = input.len().min(left as usize);
                    *input = &input[skipped..];
                    let left = left - skipped as u32;
                    if left > 0 {
                        self.phase = Phase::Skip { option, left };
                        return Ok(Event::NeedInput);
                    }
                    self.phase = Phase::Head;
                    let event = self.answer(option, None, catalog, out)?;
                    return self.after(event, input);
                }
                Phase::Tls if input.is_empty() => return Ok(Event::NeedInput),
                Phase::Tls => return Err(ProtocolError::PlaintextAfterStartTls),
                Phase::Over => return Err(ProtocolError::HandshakeOver),
            }
        }
    }

    /// Sets the phase that follows `event`.
    fn after(&mut self, event: Event, input: &[u8]) -> Result<Event, ProtocolError> {
        match event {
            Event::StartTls if !input.is_empty() => return Err(ProtocolError::PlaintextAfterStartTls),
            Event::StartTls => self.phase = Phase::Tls,
            Event::Aborted | Event::Done(_) => self.phase = Phase::Over,
            Event::Reply | Event::NeedInput => {}
        }
        Ok(event)
    }

    fn take_flags(&mut self, flags: u32) -> Result<(), ProtocolError> {
        if flags & !u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES) != 0 {
            return Err(ProtocolError::UnknownClientFlags(flags));
        }
        self.client_flags = flags;
        Ok(())
    }

    fn client_set(&self, flag: u16) -> bool {
        self.client_flags & u32::from(flag) != 0
    }

    /// The phase that follows the header of an option.
    fn take_head(&mut self, head: &[u8]) -> Result<Phase, ProtocolError> {
        let (magic, rest) = head.split_at(8);
        let magic = u64::from_be_bytes(magic.try_into().expect("split at 8"));
        if magic != OPTION_MAGIC {
            return Err(ProtocolError::OptionMagic(magic));
        }
        let (option, length) = (be_u32(&rest[..4]), be_u32(&rest[4..]));
        self.options += 1;
        if self.options > MAX_OPTIONS {
            return Err(ProtocolError::TooManyOptions);
        }
        if !self.client_set(FLAG_FIXED_NEWSTYLE) && option != opt::EXPORT_NAME {
            return Err(ProtocolError::NotFixedNewstyle { option });
        }
        if length > MAX_OPTION_SKIP {
            return Err(ProtocolError::OptionTooLong { option, length });
        }
        Ok(if length > MAX_OPTION_DATA {
            Phase::Skip { option, left: length }
        } else {
            Phase::Data { option, length }
        })
    }

    /// Takes the next `length` bytes: first those that are buffered, then from `input`. If there are not
    /// enough yet, buffers all of `input` and returns None.
    fn gather(&mut self, input: &mut &[u8], length: usize) -> Option<Vec<u8>> {
        let missing = length - self.buffer.len();
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.buffer.extend_from_slice(taken);
        *input = rest;
        (taken.len() == missing).then(|| std::mem::take(&mut self.buffer))
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}
