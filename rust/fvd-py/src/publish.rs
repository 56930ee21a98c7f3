//! The functions behind `fvd.publish`.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use fvd_remote::{PublishOptions, Published, publish as publish_disk, publish_profile as publish_ranges};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{self, blocking, read_only, using};
use crate::disk::Disk;
use crate::numbers;
use crate::progress::Reporter;
use crate::remote::{Far, Remote};
use crate::source::Sources;

/// Publishes a disk. `profile`: tuples of offset and length in bytes. See `fvd.publish`.
#[pyfunction]
#[pyo3(signature = (
    source, target, *, source_format = None, profile = None, force = false, base_error = None, base_timeout = None,
    force_share = false, trust = Vec::new(), cache_dir = None, remote = None, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn publish<'py>(
    py: Python<'py>,
    source: Disk,
    target: PathBuf,
    source_format: Option<&str>,
    profile: Option<Vec<(u64, u64)>>,
    force: bool,
    base_error: Option<&str>,
    #[pyo3(from_py_with = numbers::base_timeout)] base_timeout: Option<Duration>,
    force_share: bool,
    trust: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    remote: Option<Remote>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let outage = arguments::outage(base_error, base_timeout)?;
    let far = Far::new(cache_dir, remote);
    let mut sources = Sources::new();
    let source = source.named(&mut sources, using(outage))?;
    let chain = read_only(force_share, &trust, outage, far.clone(), sources)?;
    let options = PublishOptions {
        force,
        profile: profile.map(|entries| ranges(&entries)),
    };
    let mut reporter = Reporter::new(progress);
    let result = blocking(py, || {
        let opener = far.opener()?;
        source.with(source_format, &chain, |disk| {
            publish_disk(&opener, &*disk, &target, &options, &mut |progress| {
                reporter.report(progress)
            })
        })
    });
    match result {
        Ok(published) => describe(py, &published),
        Err(error) => Err(reporter.cause(error)),
    }
}

/// Writes the boot profile of a template. See `fvd.publish`.
#[pyfunction]
#[pyo3(signature = (target, entries, *, remote = None))]
pub(crate) fn publish_profile(
    py: Python<'_>,
    target: PathBuf,
    entries: Vec<(u64, u64)>,
    remote: Option<Remote>,
) -> PyResult<Bound<'_, PyDict>> {
    let mut reporter = Reporter::new(None);
    let result = blocking(py, || {
        let opener = Far::new(None, remote).opener()?;
        publish_ranges(&opener, &target, &ranges(&entries), &mut |progress| {
            reporter.report(progress)
        })
    });
    match result {
        Ok(published) => describe(py, &published),
        Err(error) => Err(reporter.cause(error)),
    }
}

fn ranges(entries: &[(u64, u64)]) -> Vec<Range<u64>> {
    let range = |&(offset, length): &(u64, u64)| offset..offset.saturating_add(length);
    entries.iter().map(range).collect()
}

fn describe<'py>(py: Python<'py>, published: &Published) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &published.name)?;
    dict.set_item("manifest", published.identity_text())?;
    dict.set_item("size", published.len)?;
    dict.set_item("data", published.data)?;
    dict.set_item("written", published.is_new)?;
    dict.set_item("profile_entries", published.profile_entries)?;
    Ok(dict)
}
