//! Opens a connection: name, address, proxy, TLS.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fvd::process::CloseOnFork;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::AddressRule;
use super::failure::{Failure, FailureKind};
use super::pool::{Connection, Origin};
use super::proxy::Proxy;

/// The head of a proxy's answer is never longer.
const PROXY_ANSWER: usize = 8192;

/// What a connection needs beside its origin.
pub(super) struct Route<'a> {
    pub(super) rule: &'a AddressRule,
    pub(super) proxy: Option<&'a Proxy>,
    /// For `https`.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) timeout: Duration,
}

/// A stream that no forked child keeps open (F4).
struct Socket {
    // First: it ends before the descriptor is closed.
    _close_on_fork: CloseOnFork,
    stream: TcpStream,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) async fn connect(origin: &Origin, route: Route<'_>) -> Result<Connection, Failure> {
    if let Ok(address) = origin.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        route.rule.check(&origin.host, address)?;
    }
    let socket = match route.proxy {
        // The user has named the proxy, so any address will do.
        Some(proxy) => dial(&proxy.host, proxy.port, &AddressRule::Any, route.timeout).await?,
        None => dial(&origin.host, origin.port, route.rule, route.timeout).await?,
    };
    let secured = timeout(route.timeout, secure(socket, origin, &route)).await;
    let stream = secured.map_err(|_| silent("a secure connection"))??;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (connection, driver) = handshake.map_err(|error| Failure::broken("could not connect", &error))?;
    // It ends with the connection. Its error reaches the request that meets it.
    drop(tokio::spawn(driver));
    Ok(connection)
}

async fn dial(host: &str, port: u16, rule: &AddressRule, limit: Duration) -> Result<Socket, Failure> {
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
                return Ok(Socket {
                    _close_on_fork: CloseOnFork::new(stream.as_fd()),
                    stream,
                });
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

async fn secure(mut socket: Socket, origin: &Origin, route: &Route<'_>) -> Result<Box<dyn Stream>, Failure> {
    let Some(config) = &route.tls else {
        return Ok(Box::new(socket));
    };
    if let Some(proxy) = route.proxy {
        tunnel(&mut socket.stream, origin, proxy).await?;
    }
    let host = origin.host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host)
        .map_err(|error| Failure::caused(FailureKind::Tls, "a name that no certificate has", &error))?;
    let connector = TlsConnector::from(Arc::clone(config));
    let what = format!("no secure connection to {}", origin.host);
    let stream = connector.connect(name, socket).await;
    Ok(Box::new(stream.map_err(|error| {
        let kind = FailureKind::Tls;
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(reason) => Failure::new(kind, format!("{what}: {reason}")),
            None => Failure::caused(kind, &what, &error),
        }
    })?))
}

/// Asks a proxy for a connection to `origin`.
async fn tunnel(stream: &mut TcpStream, origin: &Origin, proxy: &Proxy) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::caused(FailureKind::Connect, "the proxy broke the connection", &error);
    let target = format!("{}:{}", origin.host, origin.port);
    let authorization = proxy.authorization.as_ref();
    let authorization = authorization.map(|value| format!("Proxy-Authorization: {}\r\n", value.expose()));
    let authorization = authorization.unwrap_or_default();
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    stream.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == PROXY_ANSWER {
            return Err(Failure::new(FailureKind::Connect, "the proxy's answer is too long"));
        }
        // Byte by byte: what follows belongs to TLS.
        answer.push(stream.read_u8().await.map_err(broken)?);
    }
    let status = String::from_utf8_lossy(&answer);
    let status = status.split_whitespace().nth(1).unwrap_or_default();
    if status.starts_with('2') {
        return Ok(());
    }
    let shown: String = status.chars().filter(char::is_ascii_digit).take(3).collect();
    Err(Failure::new(
        FailureKind::Connect,
        format!(
            "the proxy {}:{} refused a connection to {target}: status {shown}",
            proxy.host, proxy.port
        ),
    ))
}

fn silent(what: &str) -> Failure {
    Failure::new(FailureKind::Silent, format!("{what} took too long"))
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
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
    use crate::transport::Proxies;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn an_address_is_checked_after_its_name_was_resolved() {
        for host in ["169.254.169.254", "[fe80::1]", "0.0.0.0"] {
            let failure = dial(host, 80, &AddressRule::Public, LIMIT)
                .await
                .err()
                .expect("refused");
            assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        }
    }

    #[tokio::test]
    async fn no_proxy_is_asked_for_an_address_that_is_refused() {
        let proxies = Proxies::fixed("http://127.0.0.1:1").expect("valid");
        let origin = Origin {
            is_https: false,
            host: "169.254.169.254".to_owned(),
            port: 80,
        };
        let route = Route {
            rule: &AddressRule::Public,
            proxy: proxies.find(false, "169.254.169.254"),
            tls: None,
            timeout: LIMIT,
        };
        let failure = connect(&origin, route).await.expect_err("refused");
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    }
}
