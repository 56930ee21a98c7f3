//! `convert`.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

use fvd::image::CreateOptions;
use fvd::tool::convert::{ConvertRequest, Format, Source, Target, convert as convert_disk};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use crate::arguments::{self, blocking, gate};
use crate::buffer::duplicate;
use crate::create::apply;
use crate::progress::Reporter;

/// A path, or the descriptor of a stream.
#[derive(FromPyObject)]
pub(crate) enum Place {
    Stream(i32),
    Path(PathBuf),
}

/// Converts a disk. See `fvd.convert`.
#[pyfunction]
#[pyo3(signature = (
    source, target, *, source_format = None, target_format = "raw", options = None, backing_file = None,
    backing_format = None, sparse_size = 4096, no_create = false, out_of_order = false, force = false, target_is_zero = false,
    cache = "unsafe", source_cache = "writeback", force_share = false, trust = Vec::new(), progress = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn convert<'py>(
    py: Python<'py>,
    source: Place,
    target: Place,
    source_format: Option<String>,
    target_format: &str,
    options: Option<&Bound<'py, PyMapping>>,
    backing_file: Option<OsString>,
    backing_format: Option<String>,
    sparse_size: u64,
    no_create: bool,
    out_of_order: bool,
    force: bool,
    target_is_zero: bool,
    cache: &str,
    source_cache: &str,
    force_share: bool,
    trust: Vec<PathBuf>,
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
    create.base_img = backing_file.unwrap_or_default();
    create.base_img_fmt = backing_format.unwrap_or_default();
    let request = ConvertRequest {
        create,
        sparse_size,
        no_create,
        out_of_order,
        force,
        target_is_zero,
        cache: arguments::cache(cache)?,
        source_cache: arguments::cache(source_cache)?,
        gate: gate(&trust)?,
        force_share,
        ..ConvertRequest::new(from(source, source_format)?, to(target)?, format)
    };
    let mut reporter = Reporter::new(progress);
    let result = blocking(py, || convert_disk(&request, &mut |progress| reporter.report(progress)));
    let converted = match result {
        Ok(converted) => converted,
        Err(error) => return Err(reporter.cause(error)),
    };
    let dict = PyDict::new(py);
    dict.set_item("target_format", target_format)?;
    dict.set_item("size", converted.size)?;
    Ok(dict)
}

fn from(place: Place, format: Option<String>) -> PyResult<Source> {
    match place {
        Place::Path(path) => Ok(Source::File { path, format }),
        Place::Stream(fd) if matches!(format.as_deref(), None | Some("raw")) => Ok(Source::Stream(stream(fd)?)),
        Place::Stream(_) => Err(PyValueError::new_err("Only a raw disk can be read from a stream")),
    }
}

fn to(place: Place) -> PyResult<Target> {
    match place {
        Place::Path(path) => Ok(Target::File(path)),
        Place::Stream(fd) => Ok(Target::Stream(stream(fd)?)),
    }
}

/// A descriptor of our own: that of the caller stays open.
fn stream(fd: i32) -> PyResult<File> {
    Ok(duplicate(fd)?)
}
