//! TLS with certificates or with pre-shared keys.

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

/// The maximum size of a file with keys or certificates in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The number of bytes that are encrypted before they are sent with one system call.
const SEND_BUFFER: u32 = 128 * 1024;

/// The maximum delay, in seconds, before a failed handshake is reported to the client. The random delay hides
/// how long the handshake took.
const BLINDING: u32 = 1;

/// How the server authenticates itself, and what it requires of its clients.
///
/// The files are read once, when this is created. Later changes have no effect.
#[derive(Clone, Debug)]
pub struct Credentials {
    config: Config,
    keys: Arc<[Psk]>,
    /// The subjects of client certificates that are allowed; None: all.
    allowed: Option<Arc<[String]>>,
}

/// [`TlsAcceptor`] calls this to create connections.
impl connection::Builder for Credentials {
    type Output = Connection;

    fn build_connection(&self, mode: Mode) -> Result<Connection, s2n_tls::error::Error> {
        let mut connection = self.config.build_connection(mode)?;
        for key in &*self.keys {
            connection.append_psk(key)?;
        }
        // With this, one read of the socket takes everything that has arrived, not only the header of a
        // record.
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

    /// Performs the TLS handshake with a client that has asked for TLS.
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

    /// Checks that the subject of the client's verified certificate is allowed.
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

/// The subject of the certificate that the client presented.
fn peer(connection: &Connection) -> Option<String> {
    let chain = connection.peer_cert_chain().ok()?;
    let certificate = chain.iter().next()?.ok()?;
    subject::subject(certificate.der().ok()?)
}

/// The configuration that all kinds of credentials share: TLS 1.3, and the safe parts of TLS 1.2.
fn builder() -> Result<config::Builder, s2n_tls::error::Error> {
    let mut builder = Config::builder();
    builder.set_security_policy(&security::DEFAULT_TLS13)?;
    // The operator, not the system's certificate store, says which authorities to trust.
    builder.with_system_certs(false)?;
    builder.set_send_buffer_size(SEND_BUFFER)?;
    builder.set_max_blinding_delay(BLINDING)?;
    Ok(builder)
}
