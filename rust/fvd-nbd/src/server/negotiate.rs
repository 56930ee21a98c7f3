//! Runs the handshake on a socket.

use std::future::poll_fn;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::ConnectionError;
use super::input::Input;
use super::output::Output;
use crate::protocol::handshake::{Catalog, Event, Handshake};
use crate::protocol::session::Session;

/// The result of a negotiation.
pub(super) enum Outcome {
    /// The transmission phase begins. Requests that have already arrived are in the input.
    Session(Session),
    /// The client waits for TLS to start, and has sent nothing after its request.
    StartTls,
    /// The client left.
    Left,
}

pub(super) async fn greet<S: AsyncWrite + Unpin>(socket: &mut S) -> Result<(), ConnectionError> {
    let mut output = Output::default();
    output.put(|out| out.extend_from_slice(&Handshake::greeting()));
    Ok(poll_fn(|context| output.poll_write(socket, context)).await?)
}

/// Negotiates until the handshake ends or TLS must start.
pub(super) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    input: &mut Input,
    handshake: &mut Handshake,
    catalog: &dyn Catalog,
) -> Result<Outcome, ConnectionError> {
    let mut output = Output::default();
    loop {
        let mut bytes = input.bytes();
        let before = bytes.len();
        let mut event = Ok(Event::NeedInput);
        output.put(|out| event = handshake.feed(&mut bytes, catalog, out));
        let consumed = before - bytes.len();
        input.consume(consumed);
        let event = event?;
        let sent = poll_fn(|context| output.poll_write(socket, context)).await;
        if event == Event::Aborted {
            // A client may close the connection without waiting for the acknowledgement.
            return Ok(Outcome::Left);
        }
        sent?;
        match event {
            Event::NeedInput => {
                if poll_fn(|context| input.poll_fill(socket, context)).await? == 0 {
                    return Ok(Outcome::Left);
                }
            }
            Event::Reply | Event::Aborted => {}
            Event::StartTls => return Ok(Outcome::StartTls),
            Event::Done(session) => return Ok(Outcome::Session(session)),
        }
    }
}
