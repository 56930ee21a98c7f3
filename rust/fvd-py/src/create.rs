//! The function `create`.

use std::ffi::OsStr;
use std::path::PathBuf;

use fvd::format::Header;
use fvd::image::CreateOptions;
use fvd::tool::{self, Backing, CreateRequest};
use pollster::block_on;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping};

use crate::arguments::{blocking, gate};
use crate::errors::raise;
use crate::numbers;
use crate::options::value;
use crate::progress::interruptible;
use crate::remote::{Far, Remote, opener};

/// Creates an image. `size` is in bytes; None: the size of the backing file, rounded up to whole sectors. See
/// `fvd.create`.
///
/// Returns a dictionary: `filename`, `format`, `size` in bytes, `options` with their resulting values, and
/// `needs_trust`: the directories that must be trusted to open the image.
#[pyfunction]
#[pyo3(signature = (
    path, size = None, *, format = "fvd", backing_file = None, backing_format = None,
    options = None, backing_unsafe = false, force = false, trust = Vec::new(), remote = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn create<'py>(
    py: Python<'py>,
    path: PathBuf,
    #[pyo3(from_py_with = numbers::size)] size: Option<u64>,
    format: &str,
    backing_file: Option<PathBuf>,
    backing_format: Option<String>,
    options: Option<&Bound<'py, PyMapping>>,
    backing_unsafe: bool,
    force: bool,
    trust: Vec<PathBuf>,
    remote: Option<Remote>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut create = CreateOptions::default();
    if let Some(options) = options {
        apply(&mut create, options)?;
    }
    let gate = gate(&trust)?;
    let request = CreateRequest {
        path,
        size,
        backing: backing_file.map(|name| Backing {
            name: name.into_os_string(),
            format: backing_format,
            unchecked: backing_unsafe,
        }),
        options: create,
        remote: Some(opener(None, gate.clone(), Far::new(None, remote))),
        gate,
        force,
    };
    let result = PyDict::new(py);
    result.set_item("filename", request.path.as_os_str())?;
    result.set_item("format", format)?;
    match format {
        "fvd" => {
            let header = interruptible(py, || tool::create(&request))?;
            result.set_item("size", header.virtual_disk_size)?;
            result.set_item("options", options_of(py, &header)?)?;
            let names = [&header.base_img, &header.data_file].into_iter();
            let trust = names.filter_map(|name| request.gate.missing_trust(&request.path, name));
            let mut directories: Vec<PathBuf> = trust.collect();
            directories.dedup();
            result.set_item("needs_trust", names_of(&directories))?;
        }
        "raw" => {
            result.set_item("size", blocking(py, || block_on(tool::create_raw(&request)))?)?;
            result.set_item("options", PyDict::new(py))?;
            result.set_item("needs_trust", PyList::empty(py))?;
        }
        _ => {
            let message = format!("Unknown file format '{format}': fvd and raw can be created");
            return Err(PyValueError::new_err(message));
        }
    }
    Ok(result)
}

fn names_of(paths: &[PathBuf]) -> Vec<&OsStr> {
    paths.iter().map(|path| path.as_os_str()).collect()
}

/// The options with their resulting values, under the names of the arguments, in the order of the manual.
fn options_of<'py>(py: Python<'py>, header: &Header) -> PyResult<Bound<'py, PyDict>> {
    let options = PyDict::new(py);
    if !header.base_img.is_empty() {
        options.set_item("backing_file", &header.base_img)?;
        if !header.base_img_fmt.is_empty() {
            options.set_item("backing_fmt", &header.base_img_fmt)?;
        }
        options.set_item("block_size", header.block_size)?;
        options.set_item("copy_on_read", header.copy_on_read)?;
        if header.prefetch_start_delay > 0 {
            options.set_item("prefetch_start_delay", header.prefetch_start_delay)?;
        }
        profile_options_of(&options, header)?;
        if !header.write_updates_base_img.is_empty() {
            options.set_item("write_updates_base_img", &header.write_updates_base_img)?;
        }
    }
    options.set_item("compact_image", header.compact_image)?;
    if header.compact_image {
        options.set_item("chunk_size", header.chunk_size)?;
        options.set_item("storage_grow_unit", header.storage_grow_unit)?;
    }
    if !header.data_file.is_empty() {
        options.set_item("data_file", &header.data_file)?;
    }
    // A plain image without a base has no metadata for a journal.
    if header.compact_image || !header.base_img.is_empty() {
        options.set_item("journal_size", header.journal_size)?;
    }
    Ok(options)
}

/// The options of the prefetch profile, if the image has a region for one.
fn profile_options_of(options: &Bound<'_, PyDict>, header: &Header) -> PyResult<()> {
    let offset = header.prefetch_profile_offset;
    if offset == 0 {
        return Ok(());
    }
    // The profile is the last region in the metadata of a new image.
    options.set_item("prefetch_profile_size", header.metadata_size - offset)?;
    options.set_item("generate_prefetch_profile", header.generate_prefetch_profile)?;
    let delay = header.profile_directed_prefetch_start_delay;
    if delay >= 0 {
        options.set_item("profile_directed_prefetch_start_delay", delay)?;
    }
    Ok(())
}

/// Sets the options. `ValueError` for an invalid value or an unknown name.
pub(crate) fn apply(create: &mut CreateOptions, options: &Bound<'_, PyMapping>) -> PyResult<()> {
    for item in options.items()?.iter() {
        let (name, object): (String, Bound<'_, PyAny>) = item.extract()?;
        let set = create.set(&name, &value(&object)?);
        set.map_err(|error| raise(&error))?;
    }
    Ok(())
}
