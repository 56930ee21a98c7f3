//! The functions `commit` and `rebase`.

use std::path::PathBuf;

use fvd::chain::ChainOptions;
use fvd::tool::{CommitRequest, RebaseRequest, commit as commit_disk, rebase as rebase_disk};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, blocking, read_only};
use crate::numbers;
use crate::progress::Reporter;
use crate::remote::{Far, Remote};
use crate::source::Sources;

/// Writes what an image has to its base. See `fvd.commit`.
///
/// Returns a dictionary: `size` of the disk, and the number of bytes `written`.
#[pyfunction]
#[pyo3(signature = (
    path, *, format = None, keep = false, cache = "writeback", rate_limit = None, trust = Vec::new(), remote = None,
    progress = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn commit<'py>(
    py: Python<'py>,
    path: PathBuf,
    format: Option<String>,
    keep: bool,
    cache: &str,
    #[pyo3(from_py_with = numbers::rate_limit)] rate_limit: Option<u64>,
    trust: Vec<PathBuf>,
    remote: Option<Remote>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let request = CommitRequest {
        path,
        format,
        keep,
        rate: arguments::rate(rate_limit),
        chain: options(cache, &trust, remote)?,
    };
    let mut reporter = Reporter::new(progress);
    let result = blocking(py, || commit_disk(&request, &mut |progress| reporter.report(progress)));
    let done = result.map_err(|error| reporter.cause(error))?;
    dict(py, done.size, "written", done.written)
}

/// Gives an image another base. See `fvd.rebase`.
///
/// Returns a dictionary: `size` of the disk, and the number of bytes `copied`.
#[pyfunction]
#[pyo3(signature = (
    path, backing_file, *, backing_format = None, format = None, name_only = false, cache = "writeback",
    rate_limit = None, trust = Vec::new(), remote = None, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn rebase<'py>(
    py: Python<'py>,
    path: PathBuf,
    backing_file: Option<PathBuf>,
    backing_format: Option<String>,
    format: Option<String>,
    name_only: bool,
    cache: &str,
    #[pyo3(from_py_with = numbers::rate_limit)] rate_limit: Option<u64>,
    trust: Vec<PathBuf>,
    remote: Option<Remote>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let request = RebaseRequest {
        path,
        format,
        base: backing_file.unwrap_or_default().into_os_string(),
        base_format: backing_format.unwrap_or_default(),
        name_only,
        rate: arguments::rate(rate_limit),
        chain: options(cache, &trust, remote)?,
    };
    let mut reporter = Reporter::new(progress);
    let result = blocking(py, || rebase_disk(&request, &mut |progress| reporter.report(progress)));
    let done = result.map_err(|error| reporter.cause(error))?;
    dict(py, done.size, "copied", done.copied)
}

fn options(cache: &str, trust: &[PathBuf], remote: Option<Remote>) -> PyResult<ChainOptions> {
    Ok(ChainOptions {
        direct: arguments::cache(cache)?.is_direct(),
        ..read_only(false, trust, None, Far::new(None, remote), Sources::new())?
    })
}

fn dict<'py>(py: Python<'py>, size: u64, name: &str, bytes: u64) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("size", size)?;
    dict.set_item(name, bytes)?;
    Ok(dict)
}
