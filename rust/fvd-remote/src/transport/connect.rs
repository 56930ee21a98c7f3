//! Opens a connection for HTTP: address, proxy, TLS.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::AddressRule;
use super::failure::{Failure, FailureKind};
use super::pool::{Connection, Origin};
use super::proxy::Proxy;
use super::stream::{Socket, Stream, dial, silent, tls};
use crate::simulated;

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

pub(super) async fn connect(origin: &Origin, route: Route<'_>) -> Result<Connection, Failure> {
    if let Ok(address) = origin.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        route.rule.check(&origin.host, address)?;
    }
    if let Some(stream) = simulated::dial(&origin.host, origin.port) {
        return handshake(stream).await;
    }
    let socket = match route.proxy {
        // The user has named the proxy, so any address will do.
        Some(proxy) => dial(&proxy.host, proxy.port, &AddressRule::Any, route.timeout).await?,
        None => dial(&origin.host, origin.port, route.rule, route.timeout).await?,
    };
    let secured = timeout(route.timeout, secure(socket, origin, &route)).await;
    let stream = secured.map_err(|_| silent("a secure connection"))??;
    handshake(stream).await
}

async fn handshake(stream: impl Stream + 'static) -> Result<Connection, Failure> {
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (connection, driver) = shaken.map_err(|error| Failure::broken("could not connect", &error))?;
    // It ends with the connection. Its error reaches the request that meets it.
    drop(tokio::spawn(driver));
    Ok(connection)
}

async fn secure(mut socket: Socket<TcpStream>, origin: &Origin, route: &Route<'_>) -> Result<Box<dyn Stream>, Failure> {
    let Some(config) = &route.tls else {
        return Ok(Box::new(socket));
    };
    if let Some(proxy) = route.proxy {
        tunnel(&mut socket.stream, origin, proxy).await?;
    }
    tls(socket, &origin.host, config).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Proxies;

    const LIMIT: Duration = Duration::from_secs(10);

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
