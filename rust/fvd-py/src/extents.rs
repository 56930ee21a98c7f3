//! The function `map`, and the extents of an open image.

use std::collections::VecDeque;
use std::path::PathBuf;

use fvd::Result;
use fvd::chain::open_source;
use fvd::source::BaseSource;
use fvd::tool::map::{MapEntry, Mapper, map as each_extent};
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arguments::{blocking, read_only};
use crate::numbers;
use crate::remote::{Far, Remote};
use crate::source::Sources;

/// The number of extents that are looked up at once, without the GIL.
const BATCH: usize = 256;

pub(crate) async fn collect(source: &dyn BaseSource, start: u64, length: Option<u64>) -> Result<Vec<MapEntry>> {
    let mut entries = Vec::new();
    each_extent(source, start, length, |entry| entries.push(entry)).await?;
    Ok(entries)
}

/// The extents as a list of dictionaries.
pub(crate) struct Entries(pub(crate) Vec<MapEntry>);

impl<'py> IntoPyObject<'py> for Entries {
    type Target = PyList;
    type Output = Bound<'py, PyList>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        to_list(py, &self.0)
    }
}

fn to_list<'py>(py: Python<'py>, entries: &[MapEntry]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for entry in entries {
        list.append(to_dict(py, entry)?)?;
    }
    Ok(list)
}

fn to_dict<'py>(py: Python<'py>, entry: &MapEntry) -> PyResult<Bound<'py, PyDict>> {
    let item = PyDict::new(py);
    item.set_item("start", entry.start)?;
    item.set_item("length", entry.length)?;
    item.set_item("depth", entry.depth)?;
    item.set_item("present", entry.present)?;
    item.set_item("zero", entry.zero)?;
    item.set_item("data", entry.data)?;
    item.set_item("compressed", entry.compressed)?;
    if let Some(location) = &entry.location {
        item.set_item("offset", location.offset)?;
        item.set_item("filename", location.path.as_os_str())?;
    }
    Ok(item)
}

/// The iterator that `map` returns. It looks up one batch of extents at a time, so its memory use is bounded.
#[pyclass(module = "fvd")]
pub(crate) struct Extents {
    source: Box<dyn BaseSource>,
    mapper: Mapper,
    ready: VecDeque<MapEntry>,
}

#[pymethods]
impl Extents {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.ready.is_empty() {
            blocking(py, || self.fetch())?;
        }
        self.ready.pop_front().map(|entry| to_dict(py, &entry)).transpose()
    }
}

impl Extents {
    fn fetch(&mut self) -> Result<()> {
        while self.ready.len() < BATCH
            && let Some(entry) = block_on(self.mapper.next(&*self.source))?
        {
            self.ready.push_back(entry);
        }
        Ok(())
    }
}

/// Return an iterator over the extents of a disk, in order: which layer holds each, and where.
///
/// `start` and `length` are in bytes, from 0, of any alignment. Without `length` the map goes to the end of
/// the disk, and nothing lies beyond that. Neighbours with the same properties are one extent.
///
/// The disk stays open, and locked, until the iterator is deleted. Raises `NotPermittedError` if the image
/// names a file that is not trusted; the iterator itself can raise `IoError`.
///
/// ```pycon
/// >>> for extent in fvd.map("disk.fvd", start=4096):
/// ...     extent["start"], extent["length"], extent["zero"]
/// (4096, 67104768, True)
/// >>> next(fvd.map("overlay.fvd"))["depth"]
/// 1
/// ```
#[pyfunction]
#[pyo3(signature = (path, *, format = None, start = 0, length = None, force_share = false, trust = Vec::new(), remote = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn map(
    py: Python<'_>,
    path: PathBuf,
    format: Option<&str>,
    #[pyo3(from_py_with = numbers::start)] start: u64,
    #[pyo3(from_py_with = numbers::length)] length: Option<u64>,
    force_share: bool,
    trust: Vec<PathBuf>,
    remote: Option<Remote>,
) -> PyResult<Extents> {
    let options = read_only(force_share, &trust, None, Far::new(None, remote), Sources::new())?;
    let source = blocking(py, || block_on(open_source(&path, format, &options)))?;
    Ok(Extents {
        mapper: Mapper::new(&*source, start, length),
        source,
        ready: VecDeque::new(),
    })
}
