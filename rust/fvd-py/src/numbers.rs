//! Numbers as arguments, for `from_py_with`: each function is named after one argument, and knows its range.

use std::time::Duration;

use fvd::tool::convert::MAX_SPARSE_SIZE;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// Offsets are signed 64-bit integers.
const MAX_SIZE: u64 = i64::MAX as u64;
const MAX_DESCRIPTOR: u64 = i32::MAX as u64;
/// While a thread of the runtime polls, it does nothing else.
const MAX_POLL_NS: u64 = 500_000;
/// Longer than any process runs, and never too large to be added to the present time.
const MAX_SECONDS: u32 = u32::MAX;

/// Declares the integer arguments, with the largest value of each; the smallest is 0. Outside that range they
/// raise `ValueError`, and `TypeError` if they are no integers.
macro_rules! integers {
    ($($argument:ident: $max:expr;)+) => { $(
        pub(crate) fn $argument<T: Integer>(object: &Bound<'_, PyAny>) -> PyResult<T> {
            T::extract(object, stringify!($argument), $max)
        }
    )+ };
}

integers! {
    count: MAX_SIZE;
    handshake_limit: u32::MAX.into();
    length: MAX_SIZE;
    limit: MAX_SIZE;
    offset: MAX_SIZE;
    poll_max_ns: MAX_POLL_NS;
    port: u16::MAX.into();
    rate: MAX_SIZE;
    rate_limit: MAX_SIZE;
    shared: MAX_SIZE;
    size: MAX_SIZE;
    source: MAX_DESCRIPTOR;
    sparse_size: MAX_SPARSE_SIZE;
    start: MAX_SIZE;
    target: MAX_DESCRIPTOR;
    unit: MAX_SIZE;
}

/// The type of an integer argument.
pub(crate) trait Integer: Sized {
    /// `object`, which is the argument `name` and may be from 0 to `max`.
    fn extract(object: &Bound<'_, PyAny>, name: &str, max: u64) -> PyResult<Self>;
}

macro_rules! integer {
    ($($type:ty)+) => { $(
        impl Integer for $type {
            fn extract(object: &Bound<'_, PyAny>, name: &str, max: u64) -> PyResult<Self> {
                number(object, name, max)
            }
        }
    )+ };
}

integer!(i32 u16 u32 u64 usize);

impl<T: Integer> Integer for Option<T> {
    fn extract(object: &Bound<'_, PyAny>, name: &str, max: u64) -> PyResult<Self> {
        (!object.is_none()).then(|| T::extract(object, name, max)).transpose()
    }
}

fn number<T: TryFrom<u64>>(object: &Bound<'_, PyAny>, name: &str, max: u64) -> PyResult<T> {
    let number = match object.extract::<u64>() {
        Ok(number) if number <= max => T::try_from(number).ok(),
        Err(error) if !error.is_instance_of::<PyOverflowError>(object.py()) => return Err(error),
        _ => None,
    };
    number.ok_or_else(|| PyValueError::new_err(format!("{name} must be between 0 and {max}, not {object}")))
}

/// A time in seconds, more than 0.
pub(crate) fn base_timeout(object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    positive(object, "base_timeout")
}

/// A time in seconds, more than 0.
pub(crate) fn patience(object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    positive(object, "patience")
}

/// How long to wait, in seconds. A negative time counts as 0.
pub(crate) fn timeout(object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if object.is_none() {
        return Ok(None);
    }
    match seconds(object)? {
        None if object.lt(0)? => Ok(Some(Duration::ZERO)),
        None => Err(PyValueError::new_err(format!(
            "timeout must be at most {MAX_SECONDS} seconds, not {object}"
        ))),
        time => Ok(time),
    }
}

fn positive(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Duration>> {
    if object.is_none() {
        return Ok(None);
    }
    match seconds(object)?.filter(|time| !time.is_zero()) {
        None => Err(PyValueError::new_err(format!(
            "{name} must be more than 0 and at most {MAX_SECONDS} seconds, not {object}"
        ))),
        time => Ok(time),
    }
}

/// A number of seconds, which may have a fraction. `None` if it is negative, too large or NaN.
fn seconds(object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    match object.extract::<f64>() {
        Ok(time) if time <= MAX_SECONDS.into() => Ok(Duration::try_from_secs_f64(time).ok()),
        Err(error) if !error.is_instance_of::<PyOverflowError>(object.py()) => Err(error),
        _ => Ok(None),
    }
}
