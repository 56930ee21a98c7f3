//! The function `info`.

mod qcow2;

use std::path::{Path, PathBuf};

use fvd::Error;
use fvd::chain::ChainOptions;
use fvd::format::{Header, PinKind, StoredPin};
use fvd::gate::Gate;
use fvd::image::info::Info;
use fvd::tool::{self, DiskInfo};
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arguments::{blocking, read_only};
use crate::remote::{Far, Remote, opener};
use crate::source::Sources;

/// Return information about an image; with `backing_chain`, a list from the image to its last base.
///
/// Opens files that the image names only with `backing_chain`. Sizes are in bytes. Without `format` the
/// format is detected. `force_share` reads without locks, for example an image that is open for writing.
///
/// Raises `InvalidImageError` if the file does not have the given `format`, `UnsupportedError` for a format
/// that fvd does not know, and with `backing_chain` `NotPermittedError` if a base is not trusted.
///
/// ```pycon
/// >>> info = fvd.info("overlay.fvd")
/// >>> info["virtual-size"], info["backing-filename"]
/// (1048576, 'base.raw')
/// >>> [layer["format"] for layer in fvd.info("overlay.fvd", backing_chain=True)]
/// ['fvd', 'raw']
/// ```
#[pyfunction]
#[pyo3(signature = (path, *, format = None, force_share = false, backing_chain = false, trust = Vec::new(), remote = None))]
pub(crate) fn info<'py>(
    py: Python<'py>,
    path: PathBuf,
    format: Option<&str>,
    force_share: bool,
    backing_chain: bool,
    trust: Vec<PathBuf>,
    remote: Option<Remote>,
) -> PyResult<Bound<'py, PyAny>> {
    let trust = if backing_chain { trust.as_slice() } else { &[] };
    let options = read_only(force_share, trust, None, Far::new(None, remote), Sources::new())?;
    let chain = blocking(py, || block_on(tool::info(&path, format, backing_chain, &options)))?;
    if !backing_chain {
        return to_dict(py, &chain[0]).map(Bound::into_any);
    }
    let list = PyList::empty(py);
    for disk in &chain {
        list.append(to_dict(py, disk)?)?;
    }
    Ok(list.into_any())
}

/// The description of one disk, as a dictionary.
pub(crate) struct Described(DiskInfo);

impl<'py> IntoPyObject<'py> for Described {
    type Target = PyDict;
    type Output = Bound<'py, PyDict>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.0)
    }
}

/// Describes an image that is already open: without locks, because the open image holds them. Blocks.
pub(crate) fn of_open_image(path: &Path) -> Result<Described, Error> {
    let options = ChainOptions {
        force_share: true,
        remote: Some(opener(None, Gate::default(), Far::default())),
        ..ChainOptions::default()
    };
    let mut chain = block_on(tool::info(path, Some("fvd"), false, &options))?;
    Ok(Described(chain.swap_remove(0)))
}

fn to_dict<'py>(py: Python<'py>, disk: &DiskInfo) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("filename", disk.path.as_os_str())?;
    dict.set_item("format", disk.format)?;
    if let Some(size) = disk.virtual_size {
        dict.set_item("virtual-size", size)?;
    }
    if let Some(size) = disk.actual_size {
        dict.set_item("actual-size", size)?;
    }
    if let Some(size) = disk.cluster_size {
        dict.set_item("cluster-size", size)?;
    }
    dict.set_item("dirty-flag", disk.is_dirty())?;
    if let Some(backing) = &disk.backing {
        dict.set_item("backing-filename", &backing.name)?;
        dict.set_item("full-backing-filename", backing.path.as_os_str())?;
        if let Some(format) = &backing.format {
            dict.set_item("backing-filename-format", format)?;
        }
    }
    if let Some(info) = &disk.fvd {
        let specific = PyDict::new(py);
        specific.set_item("type", "fvd")?;
        specific.set_item("data", specific_of(py, info)?)?;
        dict.set_item("format-specific", specific)?;
    }
    if let Some(info) = &disk.qcow2 {
        qcow2::add(py, &dict, info)?;
    }
    Ok(dict)
}

fn specific_of<'py>(py: Python<'py>, info: &Info) -> PyResult<Bound<'py, PyDict>> {
    let (data, header) = (PyDict::new(py), &info.header);
    data.set_item("compact", info.compact)?;
    if let Some(size) = info.chunk_size {
        data.set_item("chunk-size", size)?;
        data.set_item("storage-grow-unit", header.storage_grow_unit)?;
    }
    if let Some(base) = &info.base {
        // Also set if the base is no longer needed, and therefore is no backing file.
        data.set_item("base-image", &base.name)?;
        if let Some(pin) = &info.base_pin {
            data.set_item("base-pin", pin_of(py, pin)?)?;
        }
        data.set_item("base-size", info.base_size)?;
        data.set_item("all-data-local", info.all_local)?;
        data.set_item("copy-on-read", header.copy_on_read)?;
        data.set_item(
            "max-outstanding-copy-on-read-data",
            header.max_outstanding_copy_on_read_data,
        )?;
        let delay = Some(header.prefetch_start_delay).filter(|delay| *delay > 0);
        data.set_item("prefetch-start-delay", delay.unwrap_or(-1))?;
        data.set_item("prefetch", prefetch_of(py, header)?)?;
        if !header.write_updates_base_img.is_empty() {
            data.set_item("write-updates-base-img", &header.write_updates_base_img)?;
        }
    }
    if let Some(profile) = info.profile {
        let dict = PyDict::new(py);
        dict.set_item("size", profile.size)?;
        dict.set_item("entries", profile.entries)?;
        dict.set_item("generate", header.generate_prefetch_profile)?;
        dict.set_item("start-delay", header.profile_directed_prefetch_start_delay.max(-1))?;
        data.set_item("prefetch-profile", dict)?;
    }
    if let Some(size) = info.block_size {
        data.set_item("block-size", size)?;
    }
    if let Some(file) = &info.data_file {
        data.set_item("data-file", &file.name)?;
        if let Some(format) = &file.format {
            data.set_item("data-file-format", format)?;
        }
    }
    if let Some(why) = info.damaged_records {
        data.set_item("damaged-records", why)?;
    }
    data.set_item("journal-size", info.journal_size)?;
    data.set_item("metadata-size", header.metadata_size)?;
    data.set_item("need-zero-init", header.need_zero_init)?;
    data.set_item("suspect", info.suspect)?;
    Ok(data)
}

/// Which object a remote base is.
fn pin_of<'py>(py: Python<'py>, pin: &StoredPin) -> PyResult<Bound<'py, PyDict>> {
    let data = PyDict::new(py);
    data.set_item("length", pin.len)?;
    data.set_item("validator", pin.kind.name())?;
    if pin.kind != PinKind::Length {
        let name = if pin.is_digest() { "sha256" } else { "value" };
        data.set_item(name, pin.shown_validator())?;
    }
    Ok(data)
}

/// The prefetch parameters, in the units of the header: KiB/s and milliseconds.
fn prefetch_of<'py>(py: Python<'py>, header: &Header) -> PyResult<Bound<'py, PyDict>> {
    let data = PyDict::new(py);
    for (name, number) in [
        ("slots", header.num_prefetch_slots),
        ("bytes", header.bytes_per_prefetch),
        ("min-read-throughput", header.prefetch_min_read_throughput),
        ("min-write-throughput", header.prefetch_min_write_throughput),
        ("max-read-throughput", header.prefetch_max_read_throughput),
        ("max-write-throughput", header.prefetch_max_write_throughput),
        ("perf-calc-alpha", header.prefetch_perf_calc_alpha),
        ("read-measure-time", header.prefetch_read_throughput_measure_time),
        ("write-measure-time", header.prefetch_write_throughput_measure_time),
        ("throttle-time", header.prefetch_throttle_time),
    ] {
        data.set_item(name, number)?;
    }
    Ok(data)
}
