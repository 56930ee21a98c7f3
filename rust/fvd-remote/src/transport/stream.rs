//! Streams: TCP and Unix sockets, and TLS over them.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fvd::process::CloseOnFork;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::AddressRule;
use super::failure::{Failure, FailureKind};

/// Bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream that no forked child keeps open (F4).
pub(crate) struct Socket<S> {
    // First: it ends before the descriptor is closed.
    _close_on_fork: CloseOnFork,
    pub(super) stream: S,
}

impl<S: AsFd> Socket<S> {
    fn new(stream: S) -> Self {
        Self {
            _close_on_fork: CloseOnFork::new(stream.as_fd()),
            stream,
        }
    }
}

/// Connects to `host`, at an address that `rule` allows.
pub(crate) async fn dial(
    host: &str,
    port: u16,
    rule: &AddressRule,
    limit: Duration,
) -> Result<Socket<TcpStream>, Failure> {
    let bare = host.trim_matches(['[', ']']);
    let found = timeout(limit, lookup_host((bare, port))).await;
    let found = found.map_err(|_| silent(&format!("an address of {host}")))?;
    let resolved =
        |error: io::Error| Failure::caused(FailureKind::Resolve, &format!("could not resolve {host}"), &error);
    let addresses: Vec<SocketAddr> = found.map_err(resolved)?.collect();
    let mut last = Failure::new(FailureKind::Resolve, format!("{host} has no address"));
    for address in addresses {
        // After the lookup, so that no name leads there either.
        rule.check(host, address.ip())?;
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Only a matter of latency.
                _ = stream.set_nodelay(true);
                return Ok(Socket::new(stream));
            }
            Ok(Err(error)) => {
                let what = format!("could not connect to {host} ({address})");
                last = Failure::caused(FailureKind::Connect, &what, &error);
            }
            Err(_) => last = silent(&format!("a connection to {host} ({address})")),
        }
    }
    Err(last)
}

/// Connects to a server of this machine.
pub(crate) async fn dial_unix(path: &Path, limit: Duration) -> Result<Socket<UnixStream>, Failure> {
    let what = format!("a connection to {}", path.display());
    match timeout(limit, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => Ok(Socket::new(stream)),
        Ok(Err(error)) => {
            let what = format!("could not connect to {}", path.display());
            Err(Failure::caused(FailureKind::Connect, &what, &error))
        }
        Err(_) => Err(silent(&what)),
    }
}

/// Starts TLS. The server must have a certificate for `host`.
pub(crate) async fn tls(
    stream: impl Stream + 'static,
    host: &str,
    config: &Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, Failure> {
    let bare = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(bare)
        .map_err(|error| Failure::caused(FailureKind::Tls, "a name that no certificate has", &error))?;
    let connector = TlsConnector::from(Arc::clone(config));
    let what = format!("no secure connection to {host}");
    let stream = connector.connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| {
        let kind = FailureKind::Tls;
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(reason) => Failure::new(kind, format!("{what}: {reason}")),
            None => Failure::caused(kind, &what, &error),
        }
    })?))
}

pub(super) fn silent(what: &str) -> Failure {
    Failure::new(FailureKind::Silent, format!("{what} took too long"))
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_checked_after_its_name_was_resolved() {
        let limit = Duration::from_secs(10);
        for host in ["169.254.169.254", "[fe80::1]", "0.0.0.0"] {
            let dialled = dial(host, 80, &AddressRule::Public, limit).await;
            let failure = dialled.err().expect("refused");
            assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        }
    }
}
