//! The function `open`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fvd::chain::open_image;
use pollster::block_on;
use pyo3::prelude::*;

use crate::arguments::{Opening, blocking, outage};
use crate::background::Background;
use crate::exit;
use crate::handle::Handle;
use crate::image::Image;
use crate::numbers;
use crate::remote::{Far, Remote};
use crate::source::{Source, Sources};

/// Opens an FVD image. See `fvd.open`.
#[pyfunction]
#[pyo3(signature = (
    path, *, writable = false, write_base = false, cache = "writeback", discard = "unmap", detect_zeroes = "off",
    copy_on_read = None, base_error = None, base_timeout = None, force_share = false, trust = Vec::new(),
    cache_dir = None, remote = None, base = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn open(
    py: Python<'_>,
    path: PathBuf,
    writable: bool,
    write_base: bool,
    cache: &str,
    discard: &str,
    detect_zeroes: &str,
    copy_on_read: Option<bool>,
    base_error: Option<&str>,
    #[pyo3(from_py_with = numbers::base_timeout)] base_timeout: Option<Duration>,
    force_share: bool,
    trust: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    remote: Option<Remote>,
    base: Option<Bound<'_, Source>>,
) -> PyResult<Image> {
    let opening = Opening {
        writable,
        write_base,
        cache,
        discard,
        detect_zeroes,
        copy_on_read,
        on_outage: outage(base_error, base_timeout)?,
        limits_local: false,
        force_share,
        trust: &trust,
        far: Far::new(cache_dir, remote),
        base: base.map(|base| Arc::clone(&base.get().0)),
        sources: Sources::new(),
    };
    let options = opening.options()?;
    let engine = blocking(py, || block_on(open_image(&path, &options)))?;
    let size = engine.size();
    let open = Arc::new(Handle::new(engine, Background::start));
    blocking(py, || open.start())?;
    exit::remember(&open);
    Ok(Image::new(open, size, path.into_os_string(), writable))
}
