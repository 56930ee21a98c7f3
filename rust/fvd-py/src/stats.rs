//! The counters of an open image, and the totals of all sessions of a closed one.

use std::path::PathBuf;

use fvd::image::Stats;
use fvd::tool;
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::blocking;

/// Return how much of an image is local, and the counters of its sessions.
///
/// Opens no file that the image names. `force_share` reads without locks. The counters are those of
/// `Image.stats`. Raises `InvalidImageError` if the file is not an FVD image.
///
/// ```pycon
/// >>> with fvd.open("overlay.fvd", "r+") as image:
/// ...     image.pwrite(b"x", 0)
/// 1
/// >>> stats = fvd.stats("overlay.fvd")
/// >>> stats["local-bytes"], stats["base-bytes"], stats["totals"]["writes"]
/// (4096, 1048576, 1)
/// ```
#[pyfunction]
#[pyo3(signature = (path, *, force_share = false))]
pub(crate) fn stats(py: Python<'_>, path: PathBuf, force_share: bool) -> PyResult<Bound<'_, PyDict>> {
    let stats = blocking(py, || block_on(tool::stats(&path, force_share)))?;
    let dict = PyDict::new(py);
    dict.set_item("base-bytes", stats.base_bytes)?;
    dict.set_item("local-bytes", stats.local_bytes)?;
    dict.set_item("totals", Counters(stats.totals))?;
    Ok(dict)
}

/// The counters as a dictionary.
pub(crate) struct Counters(pub(crate) Stats);

impl<'py> IntoPyObject<'py> for Counters {
    type Target = PyDict;
    type Output = Bound<'py, PyDict>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.0.fields() {
            dict.set_item(name.replace('_', "-"), value)?;
        }
        Ok(dict)
    }
}
