//! The counters of a server as a Python dictionary.

use fvd_nbd::daemon::DiskStatus;
use fvd_nbd::server::{Counters, Kind};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{prefetch, stats};

pub(super) fn to_dict<'py>(
    py: Python<'py>,
    counters: &Counters,
    disks: Vec<DiskStatus>,
) -> PyResult<Bound<'py, PyDict>> {
    let exports = PyDict::new(py);
    for disk in disks {
        let export = PyDict::new(py);
        export.set_item("image", disk.stats.map(stats::Counters))?;
        export.set_item("prefetch", disk.prefetch.map(prefetch::Status))?;
        exports.set_item(disk.name, export)?;
    }
    let all = PyDict::new(py);
    all.set_item("connections", connections(py, counters)?)?;
    all.set_item("requests", requests(py, counters)?)?;
    all.set_item("in-flight", counters.in_flight())?;
    all.set_item("invalid", counters.invalid())?;
    all.set_item("polled", counters.polled())?;
    all.set_item("exports", exports)?;
    Ok(all)
}

fn connections<'py>(py: Python<'py>, counters: &Counters) -> PyResult<Bound<'py, PyDict>> {
    let (dict, counts) = (PyDict::new(py), counters.connections());
    dict.set_item("now", counts.now)?;
    dict.set_item("total", counts.total)?;
    dict.set_item("refused", counts.refused)?;
    dict.set_item("failed", counts.failed)?;
    Ok(dict)
}

fn requests<'py>(py: Python<'py>, counters: &Counters) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for kind in Kind::ALL {
        let (of_kind, counts) = (PyDict::new(py), counters.requests(kind));
        of_kind.set_item("requests", counts.requests)?;
        of_kind.set_item("bytes", counts.bytes)?;
        of_kind.set_item("errors", counts.errors)?;
        dict.set_item(kind.name().replace('_', "-"), of_kind)?;
    }
    Ok(dict)
}
