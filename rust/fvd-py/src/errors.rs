//! Errors of the core as Python exceptions: an `OSError` with `errno`, `strerror` and `filename`.

use std::io::{self, Write as _};
use std::path::Path;

use fvd::{Error, ErrorKind};
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

create_exception!(
    fvd,
    FvdError,
    PyOSError,
    "Any failure of fvd; `errno`, `strerror` and `filename` as in OSError."
);
create_exception!(
    fvd,
    InvalidImageError,
    FvdError,
    "The image contradicts the format, or needs a check."
);
create_exception!(fvd, UnsupportedError, FvdError, "The format allows it, fvd does not.");
create_exception!(fvd, IoError, FvdError, "The operating system failed an operation.");
create_exception!(
    fvd,
    NotPermittedError,
    FvdError,
    "Access was refused, by the system or by the trust rules."
);
create_exception!(
    fvd,
    InUseError,
    FvdError,
    "Somebody else uses the image: another process, or a server."
);
create_exception!(
    fvd,
    NoSpaceError,
    FvdError,
    "No space is left on the file system, the quota or the device."
);
create_exception!(
    fvd,
    PoisonedError,
    FvdError,
    "An earlier failed write of metadata made the image unusable."
);

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EOPNOTSUPP: i32 = 95;

/// What exceptions of the core have besides the attributes of `OSError`. On the class: no value.
const OP: &str = "op";
const OFFSET: &str = "offset";
const NEEDS_TRUST: &str = "needs_trust";

/// Gives the class the attributes that only some instances set.
pub(crate) fn add_defaults(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<FvdError>();
    class.setattr(OP, py.None())?;
    class.setattr(OFFSET, py.None())?;
    class.setattr(NEEDS_TRUST, py.None())
}

/// Tells a user of what is no error, on stderr, if there is any. On any thread, without the GIL.
pub(crate) fn notice(text: &str) {
    let _ = writeln!(io::stderr(), "fvd: {text}");
}

/// The exception for `error`.
pub(crate) fn raise(error: &Error) -> PyErr {
    let exception = exception(error);
    if error.kind() == ErrorKind::InvalidArgument {
        return exception;
    }
    Python::attach(|py| {
        let value = exception.value(py);
        let op = error.op().map_or(Ok(()), |op| value.setattr(OP, op));
        let offset = error.offset().map_or(Ok(()), |offset| value.setattr(OFFSET, offset));
        let trust = error.needs_trust().map(Path::as_os_str);
        let trust = trust.map_or(Ok(()), |directory| value.setattr(NEEDS_TRUST, directory));
        op.and(offset)
            .and(trust)
            .map_or_else(|failure| failure, |()| exception.clone_ref(py))
    })
}

/// Why, and what helps in the words of Python; the command line has its own.
fn reason(error: &Error) -> String {
    let reason = error.reason();
    let Some(directory) = error.needs_trust() else {
        return reason;
    };
    let quoted = Python::attach(|py| {
        let list = PyList::new(py, [directory.as_os_str()])?;
        Ok::<_, PyErr>(list.repr()?.to_string())
    });
    match quoted {
        Ok(list) => format!("{reason}: trust={list} allows it"),
        // A name that cannot be shown.
        Err(_) => reason,
    }
}

fn exception(error: &Error) -> PyErr {
    let arguments = |fallback: i32| {
        let filename = error.path().map(|path| path.as_os_str().to_owned());
        (error.errno().unwrap_or(fallback), reason(error), filename)
    };
    match error.kind() {
        ErrorKind::InvalidArgument => PyValueError::new_err(error.to_string()),
        ErrorKind::InvalidImage => InvalidImageError::new_err(arguments(EINVAL)),
        ErrorKind::Unsupported => UnsupportedError::new_err(arguments(EOPNOTSUPP)),
        ErrorKind::NotPermitted => NotPermittedError::new_err(arguments(EACCES)),
        ErrorKind::InUse => InUseError::new_err(arguments(EAGAIN)),
        ErrorKind::NoSpace => NoSpaceError::new_err(arguments(ENOSPC)),
        ErrorKind::Cancelled => IoError::new_err(arguments(EINTR)),
        ErrorKind::Poisoned => PoisonedError::new_err(arguments(EIO)),
        _ => IoError::new_err(arguments(EIO)),
    }
}
