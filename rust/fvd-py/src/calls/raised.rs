//! An exception of Python code as the reason of an error of the core.

use std::error::Error as StdError;
use std::{fmt, io};

use fvd::Error;
use pyo3::prelude::*;

use crate::held::Held;

/// What Python code has raised. The text names only its class: what an exception says can be a secret.
pub(crate) struct Raised {
    text: String,
    exception: Held<Py<PyAny>>,
}

impl Raised {
    /// `who` raised `exception`.
    pub(crate) fn new(who: &str, exception: &Bound<'_, PyAny>) -> Self {
        let class = exception.get_type().name();
        let class = class.map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
        Self {
            text: format!("{who} raised {class}"),
            exception: Held::new(exception.clone().unbind()),
        }
    }

    /// The error of an operation, a verb phrase, that failed because of it.
    pub(crate) fn failed(self, op: &str) -> Error {
        Error::io(op, io::Error::other(self))
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Raised {}

/// The exception of Python code that led to `error`.
pub(crate) fn cause(py: Python<'_>, error: &Error) -> Option<Py<PyAny>> {
    let source = error.source()?.downcast_ref::<io::Error>()?;
    let raised = source.get_ref()?.downcast_ref::<Raised>()?;
    Some(raised.exception.clone_ref(py))
}
