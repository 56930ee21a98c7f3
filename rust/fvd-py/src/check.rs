//! The function `check`.

use std::path::PathBuf;

use fvd::chain::ChainOptions;
use fvd::image::check::{Repair, Report};
use fvd::tool;
use pollster::block_on;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{blocking, gate};

/// Check the metadata of an image and, with `repair`, repair it: only `leaks`, or `all`.
///
/// Corruption is a result, not an error: see `fvd.types.CheckResult`. With `backing_chain`, the data file is
/// checked, too, and the base is opened to see that it exists. `force_share` reads without locks.
///
/// Raises `UnsupportedError` for a format that has no check, `InvalidImageError` if the file is no image,
/// `InUseError` if another process writes to it (with `repair`: has it open), and `ValueError` for `repair`
/// with `force_share`.
///
/// ```pycon
/// >>> found = fvd.check("disk.fvd", repair="leaks")
/// >>> found["corruptions"], found["leaks-fixed"]
/// (0, 0)
/// ```
#[pyfunction]
#[pyo3(signature = (
    path, *, format = None, repair = None, force_share = false, backing_chain = false, trust = Vec::new()
))]
pub(crate) fn check<'py>(
    py: Python<'py>,
    path: PathBuf,
    format: Option<&str>,
    repair: Option<&str>,
    force_share: bool,
    backing_chain: bool,
    trust: Vec<PathBuf>,
) -> PyResult<Bound<'py, PyDict>> {
    let repair = match repair {
        None => Repair::None,
        Some("leaks") => Repair::Leaks,
        Some("all") => Repair::All,
        Some(other) => {
            return Err(PyValueError::new_err(format!(
                "repair: 'leaks' or 'all', not '{other}'"
            )));
        }
    };
    let options = ChainOptions {
        force_share,
        gate: gate(&trust)?,
        ..ChainOptions::default()
    };
    let report = blocking(py, || {
        block_on(tool::check(&path, format, repair, backing_chain, &options))
    })?;
    let dict = PyDict::new(py);
    dict.set_item("filename", path.as_os_str())?;
    dict.set_item("format", "fvd")?;
    fill(&dict, &report)?;
    Ok(dict)
}

fn fill(dict: &Bound<'_, PyDict>, report: &Report) -> PyResult<()> {
    dict.set_item("check-errors", report.check_errors)?;
    dict.set_item("corruptions", report.corruptions)?;
    dict.set_item("leaks", report.leaks)?;
    dict.set_item("corruptions-fixed", report.corruptions_fixed)?;
    dict.set_item("leaks-fixed", report.leaks_fixed)?;
    dict.set_item("image-end-offset", report.image_end_offset)?;
    dict.set_item("total-clusters", report.total_chunks)?;
    dict.set_item("allocated-clusters", report.allocated_chunks)?;
    dict.set_item("fragmented-clusters", report.fragmented_chunks)?;
    dict.set_item("total-blocks", report.total_blocks)?;
    dict.set_item("local-blocks", report.local_blocks)?;
    dict.set_item("suspect", report.suspect)?;
    dict.set_item("needs-recovery", report.needs_recovery)?;
    dict.set_item("data-file-unchecked", report.data_file_unchecked)?;
    let messages: Vec<String> = report.findings.iter().map(|finding| finding.message.clone()).collect();
    dict.set_item("messages", messages)
}
