//! The functions behind `fvd.Cache`.

use std::path::PathBuf;

use fvd_remote::{CacheCheck, CacheObject, list_cache, prune_cache, verify_cache};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::blocking;
use crate::numbers;

/// What is in a cache. See `fvd.Cache.objects`.
#[pyfunction]
pub(crate) fn cache_list(py: Python<'_>, directory: PathBuf) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let found = blocking(py, || list_cache(&directory))?;
    found.iter().map(|object| describe(py, object)).collect()
}

fn describe<'py>(py: Python<'py>, object: &CacheObject) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &object.name)?;
    dict.set_item("url", &object.url)?;
    dict.set_item("pin", object.pin.to_string())?;
    dict.set_item("length", object.pin.len)?;
    dict.set_item("present", object.present)?;
    dict.set_item("used", object.used)?;
    dict.set_item("last_use", object.last_use)?;
    dict.set_item("open", object.is_open)?;
    Ok(dict)
}

/// Checks a cache. See `fvd.Cache.verify`.
#[pyfunction]
pub(crate) fn cache_verify(py: Python<'_>, directory: PathBuf) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let found = blocking(py, || verify_cache(&directory))?;
    let describe = |check: &CacheCheck| {
        let dict = PyDict::new(py);
        dict.set_item("url", &check.url)?;
        dict.set_item("checked", check.checked)?;
        dict.set_item("damaged", check.damaged)?;
        Ok(dict)
    };
    found.iter().map(describe).collect()
}

/// Makes a cache smaller. See `fvd.Cache.prune`.
#[pyfunction]
pub(crate) fn cache_prune(
    py: Python<'_>,
    directory: PathBuf,
    #[pyo3(from_py_with = numbers::size)] size: u64,
) -> PyResult<u64> {
    blocking(py, || prune_cache(&directory, size))
}
