//! The function `compare`.

use std::path::PathBuf;
use std::time::Duration;

use fvd::chain::ChainOptions;
use fvd::tool::compare::{Comparison, compare as compare_disks};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, blocking, read_only, using};
use crate::disk::Disk;
use crate::numbers;
use crate::progress::Reporter;
use crate::remote::{Far, Remote};
use crate::source::Sources;

/// Compares two disks, each a path or an open image. See `fvd.compare`.
///
/// Returns a dictionary: `identical`; `reason`: None, 'content', 'status' or 'size'; `offset`: the first
/// difference in bytes, or None; `size_a` and `size_b` in bytes.
#[pyfunction]
#[pyo3(signature = (
    a, b, *, a_format = None, b_format = None, strict = false, cache = "writeback", base_error = None,
    base_timeout = None, force_share = false, trust = Vec::new(), cache_dir = None, remote = None, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn compare<'py>(
    py: Python<'py>,
    a: Disk,
    b: Disk,
    a_format: Option<&str>,
    b_format: Option<&str>,
    strict: bool,
    cache: &str,
    base_error: Option<&str>,
    #[pyo3(from_py_with = numbers::base_timeout)] base_timeout: Option<Duration>,
    force_share: bool,
    trust: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    remote: Option<Remote>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let on_outage = arguments::outage(base_error, base_timeout)?;
    let mut sources = Sources::new();
    let (a, b) = (
        a.named(&mut sources, using(on_outage))?,
        b.named(&mut sources, using(on_outage))?,
    );
    let options = ChainOptions {
        direct: arguments::cache(cache)?.is_direct(),
        ..read_only(force_share, &trust, on_outage, Far::new(cache_dir, remote), sources)?
    };
    let mut reporter = Reporter::new(progress);
    let result = blocking(py, || {
        a.with(a_format, &options, |a| {
            b.with(b_format, &options, |b| {
                let outcome = compare_disks(&*a, &*b, strict, &mut |progress| reporter.report(progress));
                let outcome = outcome.map_err(|failed| failed.error)?;
                Ok((outcome, a.len(), b.len()))
            })
        })
    });
    let (outcome, size_a, size_b) = match result {
        Ok(compared) => compared,
        Err(error) => return Err(reporter.cause(error)),
    };
    let (reason, offset) = match outcome {
        Comparison::Identical => (None, None),
        Comparison::ContentDiffers { offset } => (Some("content"), Some(offset)),
        Comparison::StatusDiffers { offset } => (Some("status"), Some(offset)),
        Comparison::SizeDiffers => (Some("size"), None),
    };
    let dict = PyDict::new(py);
    dict.set_item("identical", reason.is_none())?;
    dict.set_item("reason", reason)?;
    dict.set_item("offset", offset)?;
    dict.set_item("size_a", size_a)?;
    dict.set_item("size_b", size_b)?;
    Ok(dict)
}
