//! The function `amend`.

use std::path::PathBuf;

use fvd::image::amend::Changes;
use fvd::tool;
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::PyMapping;

use crate::arguments::{blocking, read_only};
use crate::errors::raise;
use crate::options::value;
use crate::remote::{Far, Remote};
use crate::source::Sources;

/// Changes header fields of an image that is not in use. See `fvd.amend`.
///
/// `attributes` maps field names to a bool, an int or a str. `ValueError` for an unknown field or an invalid
/// value.
#[pyfunction]
#[pyo3(signature = (path, attributes, *, format = None, shrink = false, backing_unsafe = false, trust = Vec::new(), remote = None))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn amend(
    py: Python<'_>,
    path: PathBuf,
    attributes: &Bound<'_, PyMapping>,
    format: Option<&str>,
    shrink: bool,
    backing_unsafe: bool,
    trust: Vec<PathBuf>,
    remote: Option<Remote>,
) -> PyResult<()> {
    let mut changes = Changes::new(shrink);
    for item in attributes.items()?.iter() {
        let (name, object): (String, Bound<'_, PyAny>) = item.extract()?;
        let set = changes.set(&name, value(&object)?);
        set.map_err(|error| raise(&error.with_path(&path)))?;
    }
    let options = read_only(false, &trust, None, Far::new(None, remote), Sources::new())?;
    blocking(py, || {
        block_on(tool::amend(&path, format, &changes, backing_unsafe, &options))
    })?;
    Ok(())
}
