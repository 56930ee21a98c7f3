//! The conversation with one client, from the greeting to its end.

use std::future::Future;
use std::io::ErrorKind;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::Shared;
use super::clients::Client;
use super::connection::{Connection, ConnectionError};
use super::export::Export;
use super::input::Input;
use super::negotiate::{Outcome, greet, negotiate};
use super::phase::{Phase, reached, until};
use super::socket::Socket;
use super::tls::Credentials;
use crate::protocol::handshake::{Handshake, TlsPolicy};
use crate::protocol::session::Session;

/// What a conversation needs from the server.
pub(super) struct ConnectionContext<'a, E> {
    pub(super) client: &'a Client,
    pub(super) shared: &'a Arc<Shared<E>>,
    pub(super) phases: watch::Receiver<Phase>,
    /// The time by which the handshake, including that of TLS, must have ended.
    pub(super) deadline: Instant,
}

pub(super) async fn converse<S, E>(mut socket: S, mut around: ConnectionContext<'_, E>) -> Result<(), ConnectionError>
where
    S: Socket,
    E: Export,
{
    let shared = around.shared;
    let policy = shared.tls.as_ref().map_or(TlsPolicy::Off, |(_, policy)| *policy);
    let mut handshake = Handshake::new(policy);
    let mut input = Input::new();
    let plain = async {
        greet(&mut socket).await?;
        negotiate(&mut socket, &mut input, &mut handshake, &shared.exports).await
    };
    match left_in_handshake(around.in_time(plain).await)? {
        None | Some(Outcome::Left) => Ok(()),
        Some(Outcome::Session(session)) => around.transmit(socket, input, session).await,
        Some(Outcome::StartTls) => {
            let (credentials, _) = shared.tls.as_ref().expect("without TLS it is refused");
            drop(input);
            around.encrypted(socket, handshake, credentials).await
        }
    }
}

/// A client that disconnects during the handshake only probed whether a server is there. That is no failure.
fn left_in_handshake(outcome: Result<Option<Outcome>, ConnectionError>) -> Result<Option<Outcome>, ConnectionError> {
    match outcome {
        Err(ConnectionError::Socket(error))
            if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            Ok(Some(Outcome::Left))
        }
        outcome => outcome,
    }
}

impl<E: Export> ConnectionContext<'_, E> {
    /// Continues after the client has asked for TLS. Of the plain text phase only the handshake flags are
    /// kept.
    async fn encrypted<S: Socket>(
        mut self,
        socket: S,
        mut handshake: Handshake,
        credentials: &Credentials,
    ) -> Result<(), ConnectionError> {
        let mut input = Input::new();
        let exports = &self.shared.exports;
        let secret = async {
            let mut socket = credentials.accept(socket).await?;
            handshake.tls_started();
            let outcome = negotiate(&mut socket, &mut input, &mut handshake, exports).await?;
            Ok((outcome, socket))
        };
        match self.in_time(secret).await? {
            Some((Outcome::Session(session), socket)) => self.transmit(socket, input, session).await,
            Some((Outcome::StartTls, _)) => unreachable!("under TLS it is refused"),
            Some((Outcome::Left, _)) | None => Ok(()),
        }
    }

    /// Runs a part of the handshake within the deadline. Returns None if the server ends before it is done.
    async fn in_time<T>(
        &mut self,
        part: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<Option<T>, ConnectionError> {
        match until(&mut self.phases, Phase::Ending, timeout_at(self.deadline, part)).await {
            None => Ok(None),
            Some(Ok(outcome)) => outcome.map(Some),
            Some(Err(_)) => Err(ConnectionError::Deadline("to end the handshake")),
        }
    }

    async fn transmit<S: Socket>(self, socket: S, input: Input, session: Session) -> Result<(), ConnectionError> {
        let Self {
            client,
            shared,
            mut phases,
            ..
        } = self;
        let Some(export) = shared.exports.get(&session.export.name) else {
            return Err(ConnectionError::NoExport(session.export.name));
        };
        client.took_an_export();
        debug!(export = %session.export.name, style = ?session.style, "the client uses an export");
        let connection = Connection {
            buffers: shared.buffers(),
            socket,
            input,
            export: Arc::clone(export),
            session: Arc::new(session),
            shared: Arc::clone(shared),
        };
        let ending = Box::pin(async move { reached(&mut phases, Phase::Ending).await });
        connection.run(ending).await
    }
}
