//! Converts errors of the core to Python exceptions: an `OSError` with `errno`, `strerror` and `filename`.

use std::io::{self, Write as _};
use std::path::Path;

use fvd::{Error, ErrorKind};
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::calls::cause;

create_exception!(
    fvd,
    FvdError,
    PyOSError,
    "The base class of fvd's errors. It has `errno`, `strerror` and `filename` as OSError.

It has three more attributes. `op` is what failed (`'open'`, `'read'`, ...). `offset` is where in the file
`filename` it failed, in bytes. `needs_trust` is the directory that must be given in `trust=` to open what an
image names. Each is None where it does not apply.

```pycon
>>> try:
...     fvd.open('missing.fvd')
... except fvd.FvdError as error:
...     error.errno, error.filename, error.op
(2, 'missing.fvd', 'open')
```
"
);
create_exception!(
    fvd,
    InvalidImageError,
    FvdError,
    "The image violates the format, or needs a check. `errno` is EINVAL.

```pycon
>>> fvd.open('base.raw')
Traceback (most recent call last):
fvd.InvalidImageError: [Errno 22] not an FVD image: ...: 'base.raw'
```
"
);
create_exception!(
    fvd,
    UnsupportedError,
    FvdError,
    "fvd does not support this format, this feature or this kind of file. `errno` is EOPNOTSUPP.

```pycon
>>> fvd.check('base.raw')
Traceback (most recent call last):
fvd.UnsupportedError: [Errno 95] This image format does not support checks: 'base.raw'
```
"
);
create_exception!(
    fvd,
    IoError,
    FvdError,
    "An operation of the operating system failed. `errno` is its error: ENOENT if a file does not exist.

```pycon
>>> fvd.info('missing.fvd')
Traceback (most recent call last):
fvd.IoError: [Errno 2] No such file or directory: 'missing.fvd'
```
"
);
create_exception!(
    fvd,
    NotPermittedError,
    FvdError,
    "Access was refused by the operating system, by the trust rules or because the image is open read-only.

`errno` is EACCES, EPERM or EROFS. If `trust=` helps, `needs_trust` is the directory.

```pycon
>>> with fvd.open('disk.fvd') as image:
...     image.pwrite(b'hello', 0)
Traceback (most recent call last):
fvd.NotPermittedError: [Errno 13] The image is open read-only: 'disk.fvd'
```
"
);
create_exception!(
    fvd,
    InUseError,
    FvdError,
    "The image is in use by another process, by this one or by a server. `errno` is EAGAIN.

```pycon
>>> with fvd.open('disk.fvd', 'r+'):
...     fvd.open('disk.fvd')
Traceback (most recent call last):
fvd.InUseError: [Errno 11] Failed to get shared \"write\" lock...: 'disk.fvd'
```
"
);
create_exception!(
    fvd,
    NoSpaceError,
    FvdError,
    "No space is left on the file system, in the quota or on the device, or a file would be too large.

`errno` is ENOSPC, EDQUOT or EFBIG. The request can be repeated when there is space."
);
create_exception!(
    fvd,
    PoisonedError,
    FvdError,
    "A sync or a write of metadata failed before, so the image cannot be written to.

`errno` is that of the first failure. The image can still be read. Close it and open it again: it is then
recovered from its journal."
);

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EOPNOTSUPP: i32 = 95;

/// The attributes that `FvdError` adds to those of `OSError`. The class has None for each.
const OP: &str = "op";
const OFFSET: &str = "offset";
const NEEDS_TRUST: &str = "needs_trust";

/// Sets the default attributes on the class. Only some instances override them.
pub(crate) fn add_defaults(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<FvdError>();
    class.setattr(OP, py.None())?;
    class.setattr(OFFSET, py.None())?;
    class.setattr(NEEDS_TRUST, py.None())
}

/// Prints a notice that is no error to stderr, if there is a stderr. May be called on any thread, without the
/// GIL.
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
        if let Some(cause) = cause(py, error) {
            exception.set_cause(py, Some(PyErr::from_value(cause.into_bound(py))));
        }
        op.and(offset)
            .and(trust)
            .map_or_else(|failure| failure, |()| exception.clone_ref(py))
    })
}

/// The reason, with a hint for Python callers. The command line prints a different hint.
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
        // The name cannot be shown.
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
