//! The function `convert`.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use fvd::chain::ChainOptions;
use fvd::image::CreateOptions;
use fvd::tool::convert::{ConvertRequest, Format, Source, Target, convert as convert_disk};
use pyo3::Borrowed;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyMapping};

use crate::arguments::{self, blocking, gate, using};
use crate::buffer::duplicate;
use crate::create::apply;
use crate::disk::{Disk, unfit};
use crate::numbers;
use crate::progress::Reporter;
use crate::remote::{Far, Remote, opener};
use crate::source::{Sources, with_sources};

/// The source: a disk, or the file descriptor of a stream.
pub(crate) enum From {
    Stream(i32),
    Disk(Disk),
}

impl<'py> FromPyObject<'_, 'py> for From {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyInt>() {
            return numbers::source(&object).map(Self::Stream);
        }
        let disk = object.extract().map(Self::Disk);
        disk.map_err(|_: PyErr| unfit(object, "a path, an open image, a source or the descriptor of a stream"))
    }
}

/// The target: a path, or the file descriptor of a stream.
pub(crate) enum To {
    Stream(i32),
    Path(PathBuf),
}

impl<'py> FromPyObject<'_, 'py> for To {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyInt>() {
            return numbers::target(&object).map(Self::Stream);
        }
        let path = object.extract().map(Self::Path);
        path.map_err(|_: PyErr| unfit(object, "a path or the descriptor of a stream"))
    }
}

/// Converts a disk. See `fvd.convert`.
///
/// Returns a dictionary: `format` of the target, and its `size` in bytes.
#[pyfunction]
#[pyo3(signature = (
    source, target, *, source_format = None, target_format = "raw", options = None, backing_file = None,
    backing_format = None, sparse_size = 4096, no_create = false, out_of_order = false, force = false,
    target_is_zero = false, cache = "unsafe", source_cache = "writeback", base_error = None, base_timeout = None,
    force_share = false, rate_limit = None, trust = Vec::new(), cache_dir = None, remote = None, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
#[expect(clippy::fn_params_excessive_bools, reason = "keyword arguments of Python")]
pub(crate) fn convert<'py>(
    py: Python<'py>,
    source: From,
    target: To,
    source_format: Option<String>,
    target_format: &str,
    options: Option<&Bound<'py, PyMapping>>,
    backing_file: Option<PathBuf>,
    backing_format: Option<String>,
    #[pyo3(from_py_with = numbers::sparse_size)] sparse_size: u64,
    no_create: bool,
    out_of_order: bool,
    force: bool,
    target_is_zero: bool,
    cache: &str,
    source_cache: &str,
    base_error: Option<&str>,
    #[pyo3(from_py_with = numbers::base_timeout)] base_timeout: Option<Duration>,
    force_share: bool,
    #[pyo3(from_py_with = numbers::rate_limit)] rate_limit: Option<u64>,
    trust: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    remote: Option<Remote>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let format = match target_format {
        "raw" => Format::Raw,
        "fvd" => Format::Fvd,
        _ => {
            let message = format!("Unknown file format '{target_format}': fvd and raw can be created");
            return Err(PyValueError::new_err(message));
        }
    };
    let mut create = CreateOptions::default();
    if let Some(options) = options {
        apply(&mut create, options)?;
    }
    create.base_img = backing_file.unwrap_or_default().into_os_string();
    create.base_img_fmt = backing_format.unwrap_or_default();
    let gate = gate(&trust)?;
    let on_outage = arguments::outage(base_error, base_timeout)?;
    let mut sources = Sources::new();
    let source = match source {
        From::Disk(disk) => From::Disk(disk.named(&mut sources, using(on_outage))?),
        stream @ From::Stream(_) => stream,
    };
    let remote = with_sources(sources, opener(on_outage, gate.clone(), Far::new(cache_dir, remote)));
    let (cache, source_cache) = (arguments::cache(cache)?, arguments::cache(source_cache)?);
    let (input, target) = (from(source, source_format.as_deref())?, to(target)?);
    let rate = arguments::rate(rate_limit);
    let mut reporter = Reporter::new(progress);
    let run = |source| {
        let request = ConvertRequest {
            create,
            sparse_size,
            no_create,
            out_of_order,
            force,
            target_is_zero,
            cache,
            source_cache,
            gate,
            remote: Some(remote),
            force_share,
            rate,
            ..ConvertRequest::new(source, target, format)
        };
        convert_disk(&request, &mut |progress| reporter.report(progress))
    };
    let result = blocking(py, || match input {
        Input::ToOpen(source) => run(source),
        Input::IsOpen(disk) => {
            let format = source_format.as_deref();
            disk.with(format, &ChainOptions::default(), |disk| run(Source::Open(disk)))
        }
    });
    let converted = match result {
        Ok(converted) => converted,
        Err(error) => return Err(reporter.cause(error)),
    };
    let dict = PyDict::new(py);
    dict.set_item("format", target_format)?;
    dict.set_item("size", converted.size)?;
    Ok(dict)
}

/// The source, by whether it is already open.
enum Input {
    ToOpen(Source),
    IsOpen(Disk),
}

fn from(source: From, format: Option<&str>) -> PyResult<Input> {
    Ok(match source {
        From::Disk(Disk::File(path)) => {
            let format = format.map(str::to_owned);
            Input::ToOpen(Source::File { path, format })
        }
        From::Disk(disk) => Input::IsOpen(disk),
        From::Stream(fd) if matches!(format, None | Some("raw")) => Input::ToOpen(Source::Stream(stream(fd)?)),
        From::Stream(_) => return Err(PyValueError::new_err("Only a raw disk can be read from a stream")),
    })
}

fn to(target: To) -> PyResult<Target> {
    match target {
        To::Path(path) => Ok(Target::File(path)),
        To::Stream(fd) => Ok(Target::Stream(stream(fd)?)),
    }
}

/// A duplicate of the descriptor: the caller's descriptor stays open.
fn stream(fd: i32) -> PyResult<File> {
    Ok(duplicate(fd)?)
}
