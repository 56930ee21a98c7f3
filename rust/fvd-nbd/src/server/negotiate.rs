//! The handshake on a socket.

use std::future::poll_fn;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::ConnectionError;
use super::input::Input;
use super::output::Output;
use crate::handshake::{Catalog, Event, Handshake, TlsPolicy};
use crate::session::Session;

/// Negotiates until there is a session, with the requests that came behind it in `input`. None: the
/// client took its leave.
pub(super) async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    input: &mut Input,
    catalog: &dyn Catalog,
) -> Result<Option<Session>, ConnectionError> {
    let mut output = Output::default();
    output.put(|out| out.extend_from_slice(&Handshake::greeting()));
    let mut handshake = Handshake::new(TlsPolicy::Off);
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
            // Clients may hang up without waiting for the acknowledgement.
            return Ok(None);
        }
        sent?;
        match event {
            Event::NeedInput => {
                if poll_fn(|context| input.poll_fill(socket, context)).await? == 0 {
                    return Ok(None);
                }
            }
            Event::Reply | Event::Aborted => {}
            Event::StartTls => unreachable!("without TLS it is refused"),
            Event::Done(session) => return Ok(Some(session)),
        }
    }
}
