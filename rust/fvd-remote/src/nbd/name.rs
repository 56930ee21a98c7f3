//! The URL of an export, as the NBD URI specification has it.

use std::path::PathBuf;

use fvd::{Error, Result};
use percent_encoding::percent_decode_str;
use url::Url;

/// The port without one in the URL.
const PORT: u16 = 10809;
/// The longest name of an export, in bytes.
const LONGEST: usize = 4096;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// An export, and the server that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// As it was given.
    pub(crate) text: String,
    pub(super) server: Server,
    /// "" is the default export.
    pub(super) export: String,
    pub(super) tls: bool,
}

impl Name {
    /// Reads a URL. None: it names no export, but something else.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>> {
        let (scheme, _) = text.split_once("://").unwrap_or_default();
        let (tls, unix) = match scheme.to_ascii_lowercase().as_str() {
            "nbd" => (false, false),
            "nbds" => (true, false),
            "nbd+unix" => (false, true),
            "nbds+unix" => (true, true),
            _ => return Ok(None),
        };
        let refuse = |why: &str| Err(Error::invalid_argument(format!("The URL of a base {why}")));
        let Ok(url) = Url::parse(text) else {
            return refuse("on an NBD server is nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("has no user name and no password: images are copied, and NBD has no passwords");
        }
        if url.fragment().is_some() {
            return refuse("has no fragment (#)");
        }
        let socket = match socket(&url, unix) {
            Ok(socket) => socket,
            Err(why) => return refuse(&why),
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        if socket.as_ref().is_some_and(|path| path.is_relative()) {
            // It would be another one in each folder that the image is opened from.
            return refuse("names its socket by the whole path (?socket=/...)");
        }
        let server = match socket {
            Some(socket) if unix && host.is_empty() => Server::Unix(socket),
            None if !unix && !host.is_empty() => {
                let port = url.port().unwrap_or(PORT);
                Server::Tcp { host, port }
            }
            _ if unix => return refuse("names a socket, and no host: nbd+unix:///EXPORT?socket=PATH"),
            _ => return refuse("names a host: nbd://HOST[:PORT]/EXPORT"),
        };
        let path = url.path();
        let Ok(export) = percent_decode_str(path.strip_prefix('/').unwrap_or(path)).decode_utf8() else {
            return refuse("has an export in UTF-8");
        };
        if export.len() > LONGEST || export.contains('\0') {
            return refuse("has an export of at most 4096 bytes, none of them 0");
        }
        Ok(Some(Self {
            text: text.to_owned(),
            server,
            export: export.into_owned(),
            tls,
        }))
    }

    /// The server, for messages.
    pub(crate) fn label(&self) -> String {
        let scheme = if self.tls { "nbds" } else { "nbd" };
        match &self.server {
            Server::Tcp { host, port: PORT } => format!("{scheme}://{host}"),
            Server::Tcp { host, port } => format!("{scheme}://{host}:{port}"),
            Server::Unix(path) => format!("{scheme}+unix:///?socket={}", path.display()),
        }
    }

    /// For which name the server must have a certificate.
    pub(super) fn tls_host(&self) -> &str {
        match &self.server {
            Server::Tcp { host, .. } => host,
            Server::Unix(_) => "localhost",
        }
    }
}

/// The path of the socket. No other parameter is known; `why` if there is one.
fn socket(url: &Url, unix: bool) -> Result<Option<PathBuf>, String> {
    let mut socket = None;
    for pair in url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name.starts_with("tls-") {
            return Err(format!(
                "has no parameter {name}: the certificates for NBD servers belong into the configuration (ca_file, \
                 client_cert, client_key; docs/remote.md)"
            ));
        }
        if name != "socket" || !unix || socket.is_some() {
            return Err(format!(
                "has no parameter {name}, or not here: only one `socket`, with nbd+unix"
            ));
        }
        let Ok(path) = percent_decode_str(value).decode_utf8() else {
            return Err("has a socket whose path is UTF-8".to_owned());
        };
        socket = Some(PathBuf::from(path.into_owned())).filter(|path| !path.as_os_str().is_empty());
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Name {
        Name::parse(text).expect("valid").expect("an export")
    }

    #[test]
    fn a_url_names_a_server_and_an_export() {
        for (text, host, port, export, tls) in [
            ("nbd://host", "host", 10809, "", false),
            ("nbd://host/", "host", 10809, "", false),
            ("nbds://host:99/a%20b/c", "host", 99, "a b/c", true),
            ("nbd://[::1]:99/%C3%A9", "[::1]", 99, "é", false),
        ] {
            let name = parsed(text);
            let host = host.to_owned();
            assert_eq!(name.server, Server::Tcp { host, port }, "{text}");
            assert_eq!(
                (name.export.as_str(), name.tls, name.text.as_str()),
                (export, tls, text)
            );
        }
        let name = parsed("nbds+unix:///e?socket=/run/a%20b");
        assert_eq!(name.server, Server::Unix("/run/a b".into()));
        assert_eq!(
            (name.export.as_str(), name.tls, name.tls_host()),
            ("e", true, "localhost")
        );
        assert_eq!(Name::parse("https://host/x").expect("no NBD"), None);
    }

    #[test]
    fn a_url_with_anything_else_is_refused_without_showing_a_secret() {
        for (text, why) in [
            ("nbd://user:hunter2@host/x", "no password"),
            ("nbd://hunter2@host/x", "no password"),
            ("nbd://host/x#y", "fragment"),
            ("nbd:///x", "names a host"),
            ("nbd+unix:///x", "names a socket"),
            ("nbd+unix:///x?socket=", "names a socket"),
            ("nbd+unix:///x?socket=run/s", "whole path"),
            ("nbd+unix://host/x?socket=/s", "names a socket"),
            ("nbd+unix:///x?socket=/s&socket=/t", "only one"),
            ("nbd://host/x?socket=/s", "only one"),
            ("nbds://host/x?tls-certificates=/etc/pki", "client_cert"),
            ("nbds://host/x?tls-psk-file=/etc/keys", "tls-psk-file"),
            ("nbd://host/%FF", "UTF-8"),
            ("nbd://host/%00", "4096"),
            ("nbd://host:port/", "nbd://HOST"),
        ] {
            let error = Name::parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
