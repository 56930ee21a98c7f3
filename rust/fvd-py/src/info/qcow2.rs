//! The information that only qcow2 images have, under the names that qemu-img uses.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fvd::source::qcow2::{Bitmap, Compression, Snapshot};
use fvd::tool::Qcow2Info;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Nanoseconds per second.
const SECOND: u64 = 1_000_000_000;

/// Adds the information to the dictionary of the disk.
pub(super) fn add(py: Python<'_>, disk: &Bound<'_, PyDict>, info: &Qcow2Info) -> PyResult<()> {
    if info.header.encryption().is_some() {
        disk.set_item("encrypted", true)?;
    }
    if !info.snapshots.is_empty() {
        let list = PyList::empty(py);
        for snapshot in &info.snapshots {
            list.append(snapshot_of(py, snapshot)?)?;
        }
        disk.set_item("snapshots", list)?;
    }
    let specific = PyDict::new(py);
    specific.set_item("type", "qcow2")?;
    specific.set_item("data", data_of(py, info)?)?;
    disk.set_item("format-specific", specific)
}

fn data_of<'py>(py: Python<'py>, info: &Qcow2Info) -> PyResult<Bound<'py, PyDict>> {
    let (header, data) = (&info.header, PyDict::new(py));
    let features = header.features;
    let is_v3 = header.version > 2;
    data.set_item("compat", if is_v3 { "1.1" } else { "0.10" })?;
    let compression = header.compression();
    data.set_item("compression-type", compression.map_or("unknown", Compression::name))?;
    if is_v3 {
        data.set_item("lazy-refcounts", features.has_lazy_refcounts())?;
    }
    if !info.bitmaps.is_empty() {
        let list = PyList::empty(py);
        for bitmap in &info.bitmaps {
            list.append(bitmap_of(py, bitmap)?)?;
        }
        data.set_item("bitmaps", list)?;
    }
    data.set_item("refcount-bits", header.refcount_bits)?;
    if features.has_data_file() {
        if let Some(name) = &header.data_file {
            data.set_item("data-file", OsStr::from_bytes(name))?;
        }
        data.set_item("data-file-raw", features.is_data_file_raw())?;
    }
    if let Some(format) = header.encryption() {
        let encrypt = PyDict::new(py);
        encrypt.set_item("format", format)?;
        data.set_item("encrypt", encrypt)?;
    }
    if is_v3 {
        data.set_item("corrupt", features.is_corrupt())?;
        data.set_item("extended-l2", features.has_extended_l2())?;
    }
    Ok(data)
}

fn bitmap_of<'py>(py: Python<'py>, bitmap: &Bitmap) -> PyResult<Bound<'py, PyDict>> {
    let flags = [("in-use", bitmap.in_use), ("auto", bitmap.auto)];
    let flags: Vec<_> = flags
        .iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(name, _)| *name)
        .collect();
    let dict = PyDict::new(py);
    dict.set_item("flags", flags)?;
    dict.set_item("name", &bitmap.name)?;
    dict.set_item("granularity", bitmap.granularity)?;
    Ok(dict)
}

fn snapshot_of<'py>(py: Python<'py>, snapshot: &Snapshot) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("id", &snapshot.id)?;
    dict.set_item("name", &snapshot.name)?;
    dict.set_item("vm-state-size", snapshot.vm_state_size)?;
    dict.set_item("date-sec", snapshot.date.0)?;
    dict.set_item("date-nsec", snapshot.date.1)?;
    dict.set_item("vm-clock-sec", snapshot.vm_clock_ns / SECOND)?;
    dict.set_item("vm-clock-nsec", snapshot.vm_clock_ns % SECOND)?;
    if let Some(count) = snapshot.icount {
        dict.set_item("icount", count)?;
    }
    Ok(dict)
}
