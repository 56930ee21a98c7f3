//! `map`, and the extents of an open image.

use std::path::PathBuf;

use fvd::Result;
use fvd::chain::open_source;
use fvd::source::BaseSource;
use fvd::tool::map::{MapEntry, map as each_extent};
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arguments::{blocking, read_only};

pub(crate) fn collect(source: &dyn BaseSource, start: u64, length: Option<u64>) -> Result<Vec<MapEntry>> {
    let mut entries = Vec::new();
    block_on(each_extent(source, start, length, |entry| entries.push(entry)))?;
    Ok(entries)
}

pub(crate) fn to_list<'py>(py: Python<'py>, entries: &[MapEntry]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for entry in entries {
        let item = PyDict::new(py);
        item.set_item("start", entry.start)?;
        item.set_item("length", entry.length)?;
        item.set_item("depth", entry.depth)?;
        item.set_item("present", entry.present)?;
        item.set_item("zero", entry.zero)?;
        item.set_item("data", entry.data)?;
        if let Some(location) = &entry.location {
            item.set_item("offset", location.offset)?;
            item.set_item("filename", location.path.as_os_str())?;
        }
        list.append(item)?;
    }
    Ok(list)
}

/// Maps a disk of any readable format. See `fvd.map`.
#[pyfunction]
#[pyo3(signature = (path, *, format = None, start = 0, length = None, force_share = false, trust = Vec::new()))]
pub(crate) fn map<'py>(
    py: Python<'py>,
    path: PathBuf,
    format: Option<&str>,
    start: u64,
    length: Option<u64>,
    force_share: bool,
    trust: Vec<PathBuf>,
) -> PyResult<Bound<'py, PyList>> {
    let options = read_only(force_share, &trust)?;
    let entries = blocking(py, || {
        let source = block_on(open_source(&path, format, &options))?;
        collect(&*source, start, length)
    })?;
    to_list(py, &entries)
}
