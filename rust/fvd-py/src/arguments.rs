//! Arguments that several functions share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fvd::Error;
use fvd::chain::ChainOptions;
use fvd::gate::Gate;
use fvd::image::{DetectZeroes, Discard};
use fvd::remote::GivenBase;
use fvd::tool::convert::Cache;
use fvd_remote::Outage;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::raise;
use crate::remote::{Far, opener};
use crate::source::{Given, Sources, Use, with_sources};

/// Runs the blocking function `work` without the GIL, and converts its error to an exception.
pub(crate) fn blocking<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, Error> + Send) -> PyResult<T> {
    py.detach(work).map_err(|error| raise(&error))
}

/// A cache mode under QEMU's name. It says when writes become durable, and whether to bypass the page cache.
pub(crate) fn cache(name: &str) -> PyResult<Cache> {
    match name {
        "writeback" => Ok(Cache::Writeback),
        "writethrough" => Ok(Cache::Writethrough),
        "none" => Ok(Cache::None),
        "directsync" => Ok(Cache::DirectSync),
        "unsafe" => Ok(Cache::Unsafe),
        _ => Err(PyValueError::new_err(format!(
            "Invalid cache mode '{name}': writeback, writethrough, none, directsync or unsafe"
        ))),
    }
}

/// The handling of discards, under QEMU's name.
fn discard(name: &str) -> PyResult<Discard> {
    match name {
        "ignore" | "off" => Ok(Discard::Ignore),
        "unmap" | "on" => Ok(Discard::Unmap),
        _ => Err(PyValueError::new_err(format!(
            "Invalid discard mode '{name}': ignore or unmap"
        ))),
    }
}

/// The handling of writes of zeroes, under QEMU's name.
fn detect_zeroes(name: &str) -> PyResult<DetectZeroes> {
    match name {
        "off" => Ok(DetectZeroes::Off),
        "on" => Ok(DetectZeroes::On),
        "unmap" => Ok(DetectZeroes::Unmap),
        _ => Err(PyValueError::new_err(format!(
            "Invalid detect_zeroes mode '{name}': off, on or unmap"
        ))),
    }
}

pub(crate) fn gate(trust: &[PathBuf]) -> PyResult<Gate> {
    Gate::new(trust).map_err(|error| raise(&error))
}

/// The Python arguments for opening an image and the files that it refers to.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(crate) struct Opening<'a> {
    pub(crate) writable: bool,
    pub(crate) write_base: bool,
    pub(crate) cache: &'a str,
    pub(crate) discard: &'a str,
    pub(crate) detect_zeroes: &'a str,
    pub(crate) copy_on_read: Option<bool>,
    /// What reads of the base do if it does not answer. `None`: as the configuration says.
    pub(crate) on_outage: Option<Outage>,
    /// Whether reads of local bases have the same limit: they need a host that does not block.
    pub(crate) limits_local: bool,
    pub(crate) force_share: bool,
    pub(crate) trust: &'a [PathBuf],
    pub(crate) far: Far,
    /// A source that stands in for the backing file.
    pub(crate) base: Option<Arc<Given>>,
    /// Sources that are served.
    pub(crate) sources: Sources,
}

impl Opening<'_> {
    /// Converts the arguments. `ValueError` for an unknown mode.
    pub(crate) fn options(self) -> PyResult<ChainOptions> {
        let cache = cache(self.cache)?;
        let gate = gate(self.trust)?;
        let base = self.base.map(|base| base.file(using(self.on_outage)).map(GivenBase));
        Ok(ChainOptions {
            writable: self.writable,
            write_base: self.write_base,
            cache: cache.image(),
            direct: cache.is_direct(),
            copy_on_read: self.copy_on_read,
            base_timeout: match self.on_outage {
                Some(Outage::Report(limit)) if self.limits_local => Some(limit),
                _ => None,
            },
            discard: discard(self.discard)?,
            detect_zeroes: detect_zeroes(self.detect_zeroes)?,
            force_share: self.force_share,
            unfinished: false,
            base: base.transpose()?,
            remote: Some(with_sources(
                self.sources,
                opener(self.on_outage, gate.clone(), self.far),
            )),
            gate,
        })
    }
}

/// What reads of the base do if it does not answer, under the names of the user.
pub(crate) fn outage(base_error: Option<&str>, base_timeout: Option<Duration>) -> PyResult<Option<Outage>> {
    Outage::of(base_error, base_timeout).map_err(|error| raise(&error))
}

/// How sources are used whose reads end as the user has chosen. Without a choice they wait: the configuration
/// is about stores.
pub(crate) fn using(on_outage: Option<Outage>) -> Use {
    let limit = match on_outage {
        Some(Outage::Report(limit)) => Some(limit),
        Some(Outage::Wait) | None => None,
    };
    Use { limit, tells: false }
}

/// The options to open a disk for reading only, which may be one of `sources`.
pub(crate) fn read_only(
    force_share: bool,
    trust: &[PathBuf],
    on_outage: Option<Outage>,
    far: Far,
    sources: Sources,
) -> PyResult<ChainOptions> {
    let gate = gate(trust)?;
    Ok(ChainOptions {
        force_share,
        remote: Some(with_sources(sources, opener(on_outage, gate.clone(), far))),
        gate,
        ..ChainOptions::default()
    })
}

/// Checks that `count` bytes at `offset` lie within a disk of `size` bytes, before memory is allocated for
/// them.
pub(crate) fn check_range(count: u64, offset: u64, size: u64) -> PyResult<()> {
    match offset.checked_add(count) {
        Some(end) if end <= size => Ok(()),
        _ => Err(PyValueError::new_err(format!(
            "{count} bytes at offset {offset} lie beyond the end of the disk ({size} bytes)"
        ))),
    }
}

/// Bytes per second. None, or 0: no limit.
pub(crate) fn rate(limit: Option<u64>) -> Option<u64> {
    limit.filter(|limit| *limit > 0)
}
