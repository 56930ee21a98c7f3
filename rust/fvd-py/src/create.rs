//! `create`.

use std::ffi::OsString;
use std::path::PathBuf;

use fvd::image::CreateOptions;
use fvd::tool::{self, Backing, CreateRequest};
use pollster::block_on;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

use crate::arguments::{blocking, gate};
use crate::errors::raise;

/// Makes a new image. See `fvd.create`.
#[pyfunction]
#[pyo3(signature = (
    path, size = None, *, format = "fvd", backing_file = None, backing_format = None,
    options = None, unsafe_backing = false, trust = Vec::new()
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn create<'py>(
    py: Python<'py>,
    path: PathBuf,
    size: Option<u64>,
    format: &str,
    backing_file: Option<OsString>,
    backing_format: Option<String>,
    options: Option<&Bound<'py, PyMapping>>,
    unsafe_backing: bool,
    trust: Vec<PathBuf>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut create = CreateOptions::default();
    if let Some(options) = options {
        apply(&mut create, options)?;
    }
    let request = CreateRequest {
        path,
        size,
        backing: backing_file.map(|name| Backing {
            name,
            format: backing_format,
            unchecked: unsafe_backing,
        }),
        options: create,
        gate: gate(&trust)?,
    };
    match format {
        "fvd" => {}
        "raw" => {
            let size = blocking(py, || block_on(tool::create_raw(&request)))?;
            let result = PyDict::new(py);
            result.set_item("size", size)?;
            return Ok(result);
        }
        _ => {
            let message = format!("Unknown file format '{format}': fvd and raw can be created");
            return Err(PyValueError::new_err(message));
        }
    }
    let header = blocking(py, || block_on(tool::create(&request)))?;
    let result = PyDict::new(py);
    result.set_item("size", header.virtual_disk_size)?;
    if !header.base_img.is_empty() {
        result.set_item("backing_file", header.base_img)?;
        if !header.base_img_fmt.is_empty() {
            result.set_item("backing_fmt", header.base_img_fmt)?;
        }
        result.set_item("block_size", header.block_size)?;
        result.set_item("copy_on_read", header.copy_on_read)?;
    }
    result.set_item("compact_image", header.compact_image)?;
    if header.compact_image {
        result.set_item("chunk_size", header.chunk_size)?;
        result.set_item("storage_grow_unit", header.storage_grow_unit)?;
    }
    if !header.data_file.is_empty() {
        result.set_item("data_file", header.data_file)?;
    }
    result.set_item("journal_size", header.journal_size)?;
    Ok(result)
}

/// Sets the options by the names of the original driver.
pub(crate) fn apply(create: &mut CreateOptions, options: &Bound<'_, PyMapping>) -> PyResult<()> {
    for item in options.items()?.iter() {
        let (name, value): (String, Bound<'_, PyAny>) = item.extract()?;
        set(create, &name, &value).map_err(|error| {
            let py = value.py();
            if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyValueError>(py) {
                PyValueError::new_err(format!("Parameter '{name}': {}", error.value(py)))
            } else {
                error
            }
        })?;
    }
    Ok(())
}

fn set(create: &mut CreateOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let layout = &mut create.layout;
    match name {
        "compact_image" => layout.compact = value.extract()?,
        "block_size" => layout.block_size = Some(value.extract()?),
        "chunk_size" => layout.chunk_size = Some(value.extract()?),
        "storage_grow_unit" => layout.storage_grow_unit = Some(value.extract()?),
        "journal_size" => layout.journal_size = Some(value.extract()?),
        "add_storage_cmd" => create.add_storage_cmd = value.extract()?,
        "data_file" => create.data_file = value.extract()?,
        "data_file_fmt" => create.data_file_fmt = value.extract()?,
        "copy_on_read" => create.copy_on_read = value.extract()?,
        "prefetch_start_delay" => create.prefetch_start_delay = Some(value.extract()?),
        "detect_sparse_hole" => create.detect_sparse_hole = Some(value.extract()?),
        _ => {
            let message = format!("Invalid parameter '{name}'");
            return Err(raise(&fvd::Error::invalid_argument(message)));
        }
    }
    Ok(())
}
