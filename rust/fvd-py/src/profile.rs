//! The functions `profile` and `set_profile`.

use std::ops::Range;
use std::path::PathBuf;

use fvd::tool;
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::blocking;

/// Return the prefetch profile of an image: what a session needs of its base first.
///
/// Opens no file that the image names. An image without room for a profile has a `capacity` of 0. Offsets
/// and lengths are in bytes of the disk. `force_share` reads without locks. Raises `InvalidImageError` if the
/// file is not an FVD image.
///
/// ```pycon
/// >>> options = {"generate_prefetch_profile": True}
/// >>> made = fvd.create("first.fvd", backing_file="base.raw", backing_format="raw", options=options)
/// >>> with fvd.open("first.fvd", "r+") as image:
/// ...     image.pread(4, 100)
/// b'base'
/// >>> fvd.profile("first.fvd")["entries"]
/// [(0, 4096)]
/// ```
#[pyfunction]
#[pyo3(signature = (path, *, force_share = false))]
pub(crate) fn profile(py: Python<'_>, path: PathBuf, force_share: bool) -> PyResult<Bound<'_, PyDict>> {
    let stored = blocking(py, || block_on(tool::profile(&path, force_share)))?;
    let dict = PyDict::new(py);
    dict.set_item("filename", path.as_os_str())?;
    dict.set_item("virtual-size", stored.virtual_size)?;
    dict.set_item("unit", stored.unit)?;
    dict.set_item("capacity", stored.capacity)?;
    dict.set_item("recording", stored.recording)?;
    dict.set_item("bytes", bytes_of(&stored.ranges))?;
    dict.set_item("entries", entries_of(&stored.ranges))?;
    Ok(dict)
}

/// Replaces the prefetch profile of an image by `entries`: tuples of offset and length in bytes.
///
/// Returns a dictionary: `entries`: the number of stored ranges; `bytes`: their total length; `beyond_disk`:
/// how many given ranges end beyond the disk, and were cut or left out; `no_room`: how many were left out
/// because the profile is full.
#[pyfunction]
pub(crate) fn set_profile(py: Python<'_>, path: PathBuf, entries: Vec<(u64, u64)>) -> PyResult<Bound<'_, PyDict>> {
    let taken = blocking(py, || {
        let range = |&(offset, length): &(u64, u64)| offset..offset.saturating_add(length);
        let ranges: Vec<Range<u64>> = entries.iter().map(range).collect();
        block_on(tool::set_profile(&path, &ranges))
    })?;
    let dict = PyDict::new(py);
    dict.set_item("entries", taken.ranges.len())?;
    dict.set_item("bytes", bytes_of(&taken.ranges))?;
    dict.set_item("beyond_disk", taken.beyond_disk)?;
    dict.set_item("no_room", taken.no_room)?;
    Ok(dict)
}

fn bytes_of(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

fn entries_of(ranges: &[Range<u64>]) -> Vec<(u64, u64)> {
    ranges
        .iter()
        .map(|range| (range.start, range.end - range.start))
        .collect()
}
