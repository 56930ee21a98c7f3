//! The functions that `fvd.measure` calls.

use std::path::PathBuf;

use fvd::tool::{self, Backing, CreateRequest, Progress, drive};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use crate::arguments::{blocking, gate, read_only, using};
use crate::create::apply;
use crate::disk::Disk;
use crate::numbers;
use crate::progress::{Reporter, interruptible};
use crate::remote::{Far, Remote, opener};
use crate::source::Sources;

/// Counts the units of `unit` bytes of a disk that hold data. Reads only metadata. Without `unit`, nothing is
/// counted.
///
/// Returns the size of the disk in bytes, and the number of units.
#[pyfunction]
#[pyo3(signature = (
    source, unit = None, *, source_format = None, force_share = false, trust = Vec::new(), cache_dir = None, remote = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn units_with_data(
    py: Python<'_>,
    source: Disk,
    #[pyo3(from_py_with = numbers::unit)] unit: Option<u64>,
    source_format: Option<&str>,
    force_share: bool,
    trust: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    remote: Option<Remote>,
) -> PyResult<(u64, u64)> {
    if unit == Some(0) {
        return Err(PyValueError::new_err("unit must be at least 1, not 0"));
    }
    let mut sources = Sources::new();
    let source = source.named(&mut sources, using(None))?;
    let options = read_only(force_share, &trust, None, Far::new(cache_dir, remote), sources)?;
    let mut reporter = Reporter::new(None);
    let nothing = Progress { done: 0, total: None };
    let result = blocking(py, || {
        source.with(source_format, &options, |disk| {
            let count = async {
                match unit {
                    Some(unit) => tool::units_with_data(&*disk, unit).await,
                    None => Ok(0),
                }
            };
            Ok((disk.len(), drive(count, &mut || reporter.report(nothing))?))
        })
    });
    result.map_err(|error| reporter.cause(error))
}

/// The numbers of the image that `create` would make with these arguments. Makes no file.
///
/// Returns a dictionary, with sizes in bytes: `size` of the disk, `metadata_size`, and `chunk_size`, which is 0
/// for an image that is not compact.
#[pyfunction]
#[pyo3(signature = (
    size, *, backing_file = None, backing_format = None, options = None, trust = Vec::new(), remote = None
))]
pub(crate) fn plan<'py>(
    py: Python<'py>,
    #[pyo3(from_py_with = numbers::size)] size: Option<u64>,
    backing_file: Option<PathBuf>,
    backing_format: Option<String>,
    options: Option<&Bound<'py, PyMapping>>,
    trust: Vec<PathBuf>,
    remote: Option<Remote>,
) -> PyResult<Bound<'py, PyDict>> {
    let gate = gate(&trust)?;
    let mut request = CreateRequest {
        path: PathBuf::from("new.fvd"),
        size,
        backing: backing_file.map(|name| Backing {
            name: name.into_os_string(),
            format: backing_format,
            unchecked: false,
        }),
        options: fvd::image::CreateOptions::default(),
        remote: Some(opener(None, gate.clone(), Far::new(None, remote))),
        gate,
        force: false,
    };
    if let Some(options) = options {
        apply(&mut request.options, options)?;
    }
    let header = interruptible(py, || tool::plan(&request))?;
    let dict = PyDict::new(py);
    dict.set_item("size", header.virtual_disk_size)?;
    dict.set_item("metadata_size", header.metadata_size)?;
    let chunk_size = if header.compact_image { header.chunk_size } else { 0 };
    dict.set_item("chunk_size", chunk_size)?;
    Ok(dict)
}
