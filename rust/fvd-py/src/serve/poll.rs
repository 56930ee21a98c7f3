//! How long the server spins for the next request of a client.

use std::time::Duration;

use pyo3::Borrowed;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// The maximum. While it spins, a thread of the runtime does nothing else.
const MAX: Duration = Duration::from_micros(500);

/// A number of nanoseconds, 0 to [`MAX`]. `ValueError` for any other int.
pub(crate) struct Poll(pub(super) Duration);

impl<'py> FromPyObject<'_, 'py> for Poll {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number: PyResult<u64> = object.extract();
        match number.map(Duration::from_nanos) {
            Ok(time) if time <= MAX => Ok(Self(time)),
            Err(error) if !error.is_instance_of::<PyOverflowError>(object.py()) => Err(error),
            _ => Err(PyValueError::new_err(format!(
                "`poll_max_ns` is at least 0 and at most {}",
                MAX.as_nanos()
            ))),
        }
    }
}
