//! `map`: where the bytes of a disk come from.

use std::path::PathBuf;

use fvd::Result;
use fvd::chain::open_source;
use fvd::source::{BaseSource, Content, Run};
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arguments::{blocking, read_only};

/// A run, and where in the disk it starts (bytes).
pub(crate) type Entry = (u64, Run);

pub(crate) fn collect(source: &dyn BaseSource, start: u64, length: Option<u64>) -> Result<Vec<Entry>> {
    let _ = (source, start, length, Content::Data);
    Ok(Vec::new())
}

pub(crate) fn to_list<'py>(py: Python<'py>, entries: &[Entry]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (start, run) in entries {
        let item = PyDict::new(py);
        item.set_item("start", start)?;
        item.set_item("length", run.len)?;
        item.set_item("depth", run.depth)?;
        item.set_item("present", run.present)?;
        item.set_item("zero", run.content == Content::Zero)?;
        item.set_item("data", run.content == Content::Data)?;
        if let Some(location) = &run.location {
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
