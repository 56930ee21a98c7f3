//! Why there was no answer, or not all of it.

use std::error::Error as _;
use std::fmt;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The name has no address.
    Resolve,
    /// No connection.
    Connect,
    /// No secure connection: a certificate, or the protocol.
    Tls,
    /// The connection broke before the answer, or in it.
    Broken,
    /// Nothing came for too long.
    Silent,
    /// The server refuses what was asked for: it has no such export, or wants TLS.
    Denied,
    /// A rule of ours forbids the request. To try again changes nothing.
    Refused,
    /// There are no credentials.
    Credentials,
}

/// A failed request. The text has neither URL nor header, because both may have credentials in them.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// `what` failed because of `error`, which is named with its innermost cause.
    pub(crate) fn caused(kind: FailureKind, what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self::new(kind, format!("{what}: {innermost}"))
    }

    pub(crate) fn is_permanent(&self) -> bool {
        self.kind == FailureKind::Refused
    }

    /// From hyper, while a request was sent or a body read.
    pub(crate) fn broken(what: &str, error: &hyper::Error) -> Self {
        match error.source() {
            Some(source) => Self::caused(FailureKind::Broken, what, source),
            None => Self::new(FailureKind::Broken, format!("{what}: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
