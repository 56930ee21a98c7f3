//! The addresses on which a server listens: binding, and the URIs for clients.

use std::fmt::Write as _;
use std::io::{self, ErrorKind as IoErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fvd::{Error, ErrorKind, Result};
use tokio::net::TcpListener;

use crate::server::Listener;

/// The TCP port that is registered for NBD.
pub const DEFAULT_PORT: u16 = 10809;

/// The number of ports that are tried if port 0 was given for a host name with several addresses.
const PORTS: u32 = 8;

/// Where to listen.
#[derive(Debug)]
pub enum Address {
    /// A Unix socket at this path.
    Unix(PathBuf),
    /// All addresses of a host.
    Tcp {
        /// A host name or an IP address.
        host: String,
        /// The port; 0 selects a free one.
        port: u16,
    },
    /// A socket that is already listening.
    Inherited(OwnedFd),
}

/// The address of a bound socket.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// A passed socket without a name. Only the process that created it knows how to reach it.
    Unnamed,
}

/// Binds the sockets of an address, at least one.
pub(super) async fn bind(address: Address) -> Result<Vec<Listener>> {
    match address {
        Address::Unix(path) => bind_unix(&path).map(|listener| vec![listener]),
        Address::Tcp { host, port } => bind_tcp(&host, port).await,
        Address::Inherited(socket) => match Listener::from_fd(socket) {
            Ok(listener) => Ok(vec![listener]),
            Err(error) => Err(Error::io("take over the socket that was handed over", error)),
        },
    }
}

fn bind_unix(path: &Path) -> Result<Listener> {
    Listener::unix(path).map_err(|error| {
        let kind = kind_of(&error);
        Error::io("listen on", error).with_context(kind, "").with_path(path)
    })
}

/// Binds the socket for metrics, `ADDRESS:PORT`.
pub(super) async fn bind_metrics(address: &str) -> Result<(SocketAddr, TcpListener)> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        Ok((listener.local_addr()?, listener))
    };
    bound.await.map_err(|error: io::Error| {
        let message = format!("Could not listen on {address} for metrics: {}", os_text(&error));
        Error::new(kind_of(&error), message)
    })
}

async fn bind_tcp(host: &str, port: u16) -> Result<Vec<Listener>> {
    let failed = |error: io::Error| {
        let kind = kind_of(&error);
        let advice = match kind {
            ErrorKind::InUse => " (-p chooses another port, 0 one that is free)",
            _ => "",
        };
        let message = format!("Could not listen on {host}, port {port}: {}{advice}", os_text(&error));
        Error::new(kind, message)
    };
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(failed)?.collect();
    let mut attempts = if port == 0 { PORTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_all(&addresses).await {
            // The port that was free on the first address was in use on another one.
            Err(error) if error.kind() == IoErrorKind::AddrInUse && attempts > 0 => {}
            bound => return bound.map_err(failed),
        }
    }
}

/// Binds all addresses that this machine has. If the port is 0, all get the same free port.
async fn bind_all(addresses: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    let (mut all, mut port, mut first_error) = (Vec::new(), None, None);
    for &(mut address) in addresses {
        address.set_port(port.unwrap_or(address.port()));
        match Listener::tcp(address).await {
            Ok(listener) => {
                port = listener.tcp_address().map(|address| address.port());
                all.push(listener);
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    match first_error {
        // A host name may resolve to addresses that this machine does not have (IPv6).
        Some(error) if all.is_empty() || error.kind() == IoErrorKind::AddrInUse => Err(error),
        _ if all.is_empty() => Err(IoErrorKind::AddrNotAvailable.into()),
        _ => Ok(all),
    }
}

impl Place {
    pub(super) fn of(listener: &Listener) -> Self {
        match (listener.tcp_address(), listener.unix_path()) {
            (Some(address), _) => Self::Tcp(address),
            // Clients may have a different working directory.
            (None, Some(path)) => Self::Unix(std::path::absolute(&path).unwrap_or(path)),
            (None, None) => Self::Unnamed,
        }
    }

    /// The address, if other machines can reach it (TCP, not loopback).
    pub(super) fn reachable(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) if !address.ip().to_canonical().is_loopback() => Some(*address),
            _ => None,
        }
    }

    /// The URI of the export `name` on this socket. None if the socket has no name.
    pub(super) fn uri(&self, name: &str, has_tls: bool) -> Option<String> {
        let (scheme, name) = (if has_tls { "nbds" } else { "nbd" }, percent(name.as_bytes()));
        match self {
            Self::Unix(path) => {
                let path = percent(path.as_os_str().as_bytes());
                Some(format!("{scheme}+unix:///{name}?socket={path}"))
            }
            Self::Tcp(address) if address.ip().is_unspecified() => {
                Some(format!("{scheme}://localhost:{}/{name}", address.port()))
            }
            Self::Tcp(address) => Some(format!("{scheme}://{address}/{name}")),
            Self::Unnamed => None,
        }
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        IoErrorKind::AddrInUse => ErrorKind::InUse,
        IoErrorKind::PermissionDenied => ErrorKind::NotPermitted,
        _ => ErrorKind::Io,
    }
}

/// Percent-encodes what a URI cannot contain.
fn percent(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            text.push(byte as char);
        } else {
            // Writing to a String does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The system's error message, without the suffix "(os error N)" that Rust appends.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_of_a_name_get_the_same_free_port() {
        let loopback = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"].map(|address| address.parse().unwrap());
        let listeners = bind_all(&loopback).await.unwrap();
        let places: Vec<_> = listeners.iter().map(Place::of).collect();
        let port = listeners[0].tcp_address().unwrap().port();
        assert_ne!(port, 0);
        for (number, place) in (1..).zip(&places) {
            let address = format!("127.0.0.{number}:{port}");
            assert_eq!(place.uri("x", false).unwrap(), format!("nbd://{address}/x"));
            std::net::TcpStream::connect(address).unwrap();
        }
        assert_eq!(places.len(), 3);
        // Addresses that this machine does not have are skipped, for example the IPv6 address of a host name.
        let mixed = ["192.0.2.1:0", "127.0.0.1:0"].map(|address| address.parse().unwrap());
        let [listener] = &bind_all(&mixed).await.unwrap()[..] else {
            panic!("one is there");
        };
        assert!(listener.tcp_address().unwrap().ip().is_loopback());
    }

    #[test]
    fn uris_escape_special_characters_in_names_and_paths() {
        let unix = Place::Unix(PathBuf::from("/run/a b?&#%.sock"));
        assert_eq!(
            unix.uri("disk 1/é", false).unwrap(),
            "nbd+unix:///disk%201/%C3%A9?socket=/run/a%20b%3F%26%23%25.sock"
        );
        let tcp = |address: &str| Place::Tcp(address.parse().unwrap());
        assert_eq!(tcp("[::1]:7").uri("", true).unwrap(), "nbds://[::1]:7/");
        assert_eq!(tcp("0.0.0.0:7").uri("x", false).unwrap(), "nbd://localhost:7/x");
    }
}
