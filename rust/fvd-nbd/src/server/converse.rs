//! One client, from the greeting to the end.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Shared;
use super::clients::Client;
use super::connection::{Connection, ConnectionError};
use super::export::Export;
use super::input::Input;
use super::negotiate::negotiate;
use super::phase::{Phase, reached, until};

pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin, E: Export>(
    mut socket: S,
    client: &Client,
    shared: &Arc<Shared<E>>,
    mut phases: watch::Receiver<Phase>,
) -> Result<(), ConnectionError> {
    let mut input = Input::new();
    let handshake = negotiate(&mut socket, &mut input, &shared.exports);
    let handshake = until(&mut phases, Phase::Ending, timeout(shared.limits.handshake, handshake)).await;
    let session = match handshake {
        None | Some(Ok(Ok(None))) => return Ok(()),
        Some(Ok(Ok(Some(session)))) => session,
        Some(Ok(Err(error))) => return Err(error),
        Some(Err(_)) => return Err(ConnectionError::Deadline("to end the handshake")),
    };
    let Some(export) = shared.exports.get(&session.export.name) else {
        return Err(ConnectionError::NoExport(session.export.name));
    };
    client.took_an_export();
    let connection = Connection {
        socket,
        input,
        export: Arc::clone(export),
        session: Arc::new(session),
        shared: Arc::clone(shared),
    };
    let ending = Box::pin(async move { reached(&mut phases, Phase::Ending).await });
    connection.run(ending).await
}
