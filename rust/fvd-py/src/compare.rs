//! `compare`.

use std::path::PathBuf;

use fvd::chain::{ChainOptions, open_source};
use fvd::tool::compare::{Comparison, compare as compare_disks};
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, blocking, read_only};
use crate::progress::Reporter;

/// Compares two disks. See `fvd.compare`.
#[pyfunction]
#[pyo3(signature = (
    a, b, *, a_format = None, b_format = None, strict = false, cache = "writeback", force_share = false,
    trust = Vec::new(), progress = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn compare<'py>(
    py: Python<'py>,
    a: PathBuf,
    b: PathBuf,
    a_format: Option<&str>,
    b_format: Option<&str>,
    strict: bool,
    cache: &str,
    force_share: bool,
    trust: Vec<PathBuf>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = ChainOptions {
        direct: arguments::cache(cache)?.is_direct(),
        ..read_only(force_share, &trust)?
    };
    let (a, b) = blocking(py, || {
        let a = block_on(open_source(&a, a_format, &options))?;
        let b = block_on(open_source(&b, b_format, &options))?;
        Ok((a, b))
    })?;
    let mut reporter = Reporter::new(progress);
    let result = blocking(py, || {
        let outcome = compare_disks(&*a, &*b, strict, &mut |progress| reporter.report(progress));
        outcome.map_err(|failed| failed.error)
    });
    let (reason, offset) = match result {
        Err(error) => return Err(reporter.cause(error)),
        Ok(Comparison::Identical) => (None, None),
        Ok(Comparison::ContentDiffers { offset }) => (Some("content"), Some(offset)),
        Ok(Comparison::StatusDiffers { offset }) => (Some("status"), Some(offset)),
        Ok(Comparison::SizeDiffers) => (Some("size"), None),
    };
    let dict = PyDict::new(py);
    dict.set_item("identical", reason.is_none())?;
    dict.set_item("reason", reason)?;
    dict.set_item("offset", offset)?;
    dict.set_item("size_a", a.len())?;
    dict.set_item("size_b", b.len())?;
    Ok(dict)
}
