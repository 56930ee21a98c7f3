//! URLs of files on other machines: their form, their normal form, names relative to them, and prefixes. No
//! I/O.
//!
//! Two URLs are compared in their normal form (`docs/design/trust.md`, "URLs"), and only the normal form is
//! ever sent to a server. So a server cannot understand a URL in another way than the gate did.

mod path;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use crate::error::{Error, Result};

use path::Segments;

/// Schemes of object stores: what follows the bucket is a key, taken as it is written.
const STORES: [&str; 3] = ["s3", "gs", "az"];

/// Schemes whose server is a socket of this machine, named by the parameter `socket`.
const SOCKETS: [&str; 2] = ["nbd+unix", "nbds+unix"];

const DEFAULT_PORTS: [(&str, &str); 4] = [("http", "80"), ("https", "443"), ("nbd", "10809"), ("nbds", "10809")];

/// Parameters that are secrets, in lower case: signatures, and what goes with them.
const SECRETS: [&str; 17] = [
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "awsaccesskeyid",
    "x-goog-signature",
    "x-goog-credential",
    "googleaccessid",
    "signature",
    "sig",
    "key-pair-id",
    "token",
    "access_token",
    "auth",
    "password",
    "secret",
    "apikey",
    "api_key",
];

/// Whether `name` is a URL, and not the path of a local file: it begins with a scheme and `://`. A file of
/// that name is written `./https://...`.
#[must_use]
pub fn is_url(name: &OsStr) -> bool {
    split_scheme(name.as_bytes()).is_some()
}

/// The scheme, and what follows `://`.
fn split_scheme(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = name.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = (&name[..end], name[end..].strip_prefix(b"://")?);
    let first = scheme.first()?;
    let others = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    (first.is_ascii_alphabetic() && scheme.iter().all(others)).then_some((scheme, rest))
}

/// `name` as text that may be shown: without what stands before an `@`, and without a query that holds a
/// secret. Any other name is returned as it is.
#[must_use]
pub fn shown(name: &OsStr) -> String {
    let text = name.to_string_lossy();
    let Some((scheme, rest)) = text.split_once("://").filter(|_| is_url(name)) else {
        return text.into_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (path, query) = rest
        .split_once('?')
        .map_or((rest, None), |(path, query)| (path, Some(query)));
    let query = match query {
        Some(query) if secret_in(query).is_some() => "?...".to_owned(),
        Some(query) => format!("?{query}"),
        None => String::new(),
    };
    format!("{scheme}://{authority}{path}{query}")
}

/// The name of a parameter in `query` that is a secret.
fn secret_in(query: &str) -> Option<&str> {
    let names = query
        .split(['&', ';'])
        .map(|pair| pair.split('=').next().unwrap_or(pair));
    names
        .into_iter()
        .find(|name| SECRETS.contains(&path::decoded(name).to_ascii_lowercase().as_str()))
}

/// A URL in its normal form. It has no credentials before its host.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    /// Host and port, or the bucket.
    authority: String,
    path: Segments,
    query: Option<String>,
}

impl Url {
    /// The normal form of `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is no URL, has credentials
    /// before its host, or can be understood in two ways. The message does not contain the credentials.
    pub fn parse(name: &OsStr) -> Result<Self> {
        let refuse = |why: &str| Error::invalid_argument(format!("The URL '{}' {why}", shown(name)));
        let text = name.to_str().ok_or_else(|| refuse("is not UTF-8"))?;
        let Some((scheme, rest)) = text.split_once("://").filter(|_| is_url(name)) else {
            return Err(refuse("has no scheme"));
        };
        if text.chars().any(|char| char.is_control() || char == '\\') {
            return Err(refuse("has a control character or a backslash in it"));
        }
        let scheme = scheme.to_ascii_lowercase();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            let hint = "they belong into the configuration or the environment";
            return Err(refuse("has credentials in it (before the '@')").with_hint(hint));
        }
        let (path, query) = rest
            .split_once('?')
            .map_or((rest, None), |(path, query)| (path, Some(query)));
        let is_key = STORES.contains(&scheme.as_str());
        if !is_key && rest.contains('#') {
            return Err(refuse("has a fragment (#), which no server would see"));
        }
        let authority = authority_of(&scheme, authority).ok_or_else(|| refuse("names no server"))?;
        let path = Segments::parse(path, is_key).map_err(|why| refuse(&why))?;
        let query = query.map(str::to_owned);
        let url = Self {
            scheme,
            authority,
            path,
            query,
        };
        if url.is_socket() && url.socket().is_none() {
            return Err(refuse("names no socket (?socket=PATH)"));
        }
        Ok(url)
    }

    /// Fails if the URL holds a secret, and so must not be written into an image.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument), without the secret.
    pub fn check_storable(&self) -> Result<()> {
        let Some(secret) = self.query.as_deref().and_then(secret_in) else {
            return Ok(());
        };
        let message = format!(
            "The URL '{}' is signed (it has the parameter '{secret}'), and what an image names is no secret",
            self.shown()
        );
        Err(Error::invalid_argument(message).with_hint("use the URL without its signature"))
    }

    /// The file called `name` by an image at this URL: a relative path, which starts at the folder of the
    /// image.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotPermitted`](crate::ErrorKind::NotPermitted) for every other name: an image on another
    /// machine cannot name a file on this one.
    pub fn join(&self, name: &OsStr) -> Result<Self> {
        let refuse = |why: &str| {
            let message = format!("The image names '{}', {why}", name.display());
            Error::new(crate::ErrorKind::NotPermitted, message)
        };
        let text = name.to_str().ok_or_else(|| refuse("which is no part of a URL"))?;
        if text.starts_with('/') {
            return Err(refuse(
                "a file of the machine it was made on, and it lies on another one",
            ));
        }
        if text.chars().any(|char| char.is_control() || char == '\\') {
            return Err(refuse("which is no part of a URL"));
        }
        if self.scheme.starts_with("nbd") {
            return Err(refuse("and an export of an NBD server is in no folder"));
        }
        let is_key = STORES.contains(&self.scheme.as_str());
        let path = self.path.join(text, is_key);
        let path = path.map_err(|why| refuse(&format!("which {why}")))?;
        Ok(Self {
            path,
            query: None,
            ..self.clone()
        })
    }

    /// Whether `other` has this prefix: the same scheme and server, and all segments of this path.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.authority == other.authority
            && self.socket() == other.socket()
            && self.path.covers(&other.path)
    }

    /// The part of the path below `folder`, if this lies in that folder or below it: whether a segment of it
    /// begins with a dot.
    pub(crate) fn hidden_below(&self, folder: &Self) -> Option<bool> {
        folder.covers(self).then(|| self.path.is_hidden_below(&folder.path))
    }

    /// The folder of the file: the URL without its last segment and without its query.
    #[must_use]
    pub fn folder(&self) -> Self {
        let query = self.query.clone().filter(|_| self.is_socket());
        let path = if self.scheme.starts_with("nbd") {
            self.path.clone()
        } else {
            self.path.folder()
        };
        Self {
            path,
            query,
            ..self.clone()
        }
    }

    /// Fails for a URL that cannot be a prefix of others.
    pub(crate) fn check_prefix(&self) -> Result<()> {
        if self.query.is_none() || self.is_socket() {
            return Ok(());
        }
        let message = format!(
            "The trusted URL '{}' has a query, and stands for all URLs below it",
            self.shown()
        );
        Err(Error::invalid_argument(message))
    }

    /// The URL as it may be shown: without secrets.
    #[must_use]
    pub fn shown(&self) -> String {
        shown(OsStr::new(&self.to_string()))
    }

    fn is_socket(&self) -> bool {
        SOCKETS.contains(&self.scheme.as_str())
    }

    fn socket(&self) -> Option<String> {
        let query = self.query.as_deref().filter(|_| self.is_socket())?;
        let value = query.split('&').find_map(|pair| pair.strip_prefix("socket="))?;
        Some(path::decoded(value)).filter(|value| !value.is_empty())
    }
}

/// Host and port in their normal form. None if there is none and there must be one.
fn authority_of(scheme: &str, authority: &str) -> Option<String> {
    if SOCKETS.contains(&scheme) {
        return authority.is_empty().then(String::new);
    }
    if authority.is_empty() {
        return None;
    }
    if STORES.contains(&scheme) {
        return Some(authority.to_owned());
    }
    let authority = authority.to_ascii_lowercase();
    // A port follows the last colon, unless that is part of an IPv6 address in brackets.
    let Some((host, port)) = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) else {
        return Some(authority);
    };
    if host.is_empty() {
        return None;
    }
    let is_default = port.is_empty() || DEFAULT_PORTS.contains(&(scheme, port));
    Some(if is_default { host.to_owned() } else { authority.clone() })
}

impl fmt::Display for Url {
    /// The whole URL, with its query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}
