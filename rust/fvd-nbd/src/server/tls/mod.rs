//! TLS: by certificate, or by keys that both sides know beforehand.

use std::sync::Arc;

use s2n_tls::config::{self, Config};
use s2n_tls::connection::{self, Connection};
use s2n_tls::enums::Mode;
use s2n_tls::psk::Psk;
use s2n_tls::security;
use s2n_tls_tokio::TlsAcceptor;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::ConnectionError;

mod psk;
mod stream;
mod subject;
mod x509;

pub(super) use stream::TlsStream;

/// Most bytes of a file with keys or certificates.
const MAX_FILE: u64 = 1 << 20;

/// Bytes that are encrypted before they are sent with one system call.
const SEND_BUFFER: u32 = 128 * 1024;

/// A failed handshake is told to the client so many seconds later at the most: how long it took
/// tells it nothing.
const BLINDING: u32 = 1;

/// How a server proves who it is, and what it demands of its clients.
///
/// Made once, at the start: files that change later are not read again.
#[derive(Clone, Debug)]
pub struct Credentials {
    config: Config,
    keys: Arc<[Psk]>,
    /// The subjects of the certificates of those who are let in; None: all.
    allowed: Option<Arc<[String]>>,
}

/// What [`TlsAcceptor`] makes connections from.
impl connection::Builder for Credentials {
    type Output = Connection;

    fn build_connection(&self, mode: Mode) -> Result<Connection, s2n_tls::error::Error> {
        let mut connection = self.config.build_connection(mode)?;
        for key in &*self.keys {
            connection.append_psk(key)?;
        }
        // One read of the socket takes what has arrived, not a record's header and then the rest.
        connection.set_receive_buffering(true)?;
        connection.prefer_throughput()?;
        Ok(connection)
    }
}

impl Credentials {
    fn new(config: config::Builder, keys: Vec<Psk>) -> Result<Self, s2n_tls::error::Error> {
        Ok(Self {
            config: config.build()?,
            keys: keys.into(),
            allowed: None,
        })
    }

    /// Shakes hands with a client that has asked for TLS.
    pub(super) async fn accept<S>(&self, socket: S) -> Result<TlsStream<S>, ConnectionError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match TlsAcceptor::new(self.clone()).accept(socket).await {
            Ok(stream) => {
                self.check(stream.as_ref())?;
                Ok(TlsStream::new(stream))
            }
            Err(error) => Err(ConnectionError::Tls(error.message().to_owned())),
        }
    }

    /// Whether the client, whose certificate was verified, is one that is let in.
    fn check(&self, connection: &Connection) -> Result<(), ConnectionError> {
        let Some(allowed) = &self.allowed else {
            return Ok(());
        };
        let name = peer(connection).unwrap_or_default();
        if allowed.contains(&name) {
            return Ok(());
        }
        Err(ConnectionError::NotAllowed(name))
    }
}

/// The subject of the certificate that the other side has shown.
fn peer(connection: &Connection) -> Option<String> {
    let chain = connection.peer_cert_chain().ok()?;
    let certificate = chain.iter().next()?.ok()?;
    subject::subject(certificate.der().ok()?)
}

/// What all kinds of credentials have in common: TLS 1.3, and 1.2 with what is safe of it.
fn builder() -> Result<config::Builder, s2n_tls::error::Error> {
    let mut builder = Config::builder();
    builder.set_security_policy(&security::DEFAULT_TLS13)?;
    // Whom to trust is said by the operator, not by the machine.
    builder.with_system_certs(false)?;
    builder.set_send_buffer_size(SEND_BUFFER)?;
    builder.set_max_blinding_delay(BLINDING)?;
    Ok(builder)
}
