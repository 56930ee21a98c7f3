//! What is in a cache, whether it is right, and less of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fvd::remote::Pin;
use fvd::{Error, ErrorKind, Result};

use super::evict::{evict, open_all, present};
use super::host::existing;
use super::object::{OPEN, Object};

/// An object in a host cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheObject {
    /// Its folder in the cache.
    pub name: String,
    /// Where it comes from.
    pub url: String,
    /// Which object of that URL it is.
    pub pin: Pin,
    /// Bytes of it that are in the cache.
    pub present: u64,
    /// Bytes that its files occupy.
    pub used: u64,
    /// When a part of it was used for the last time, in seconds since 1970, to a minute. None: no part is
    /// there.
    pub last_use: Option<u32>,
    /// Whether a process has it open.
    pub is_open: bool,
}

/// What a check of an object has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheCheck {
    /// Where it comes from.
    pub url: String,
    /// Units that were checked.
    pub checked: u64,
    /// Of these, damaged. They are no longer in the cache.
    pub damaged: u64,
}

/// What is in the cache in `dir`, in the order of the URLs.
pub fn list_cache(dir: &Path) -> Result<Vec<CacheObject>> {
    let mut found = Vec::new();
    for object in objects(dir)? {
        found.push(describe(&object).map_err(|error| Error::io("read the cache", error).with_path(dir))?);
    }
    found.sort_unstable_by(|a, b| (&a.url, &a.name).cmp(&(&b.url, &b.name)));
    Ok(found)
}

/// Reads all that is in the cache in `dir`, and removes what is damaged.
pub fn verify_cache(dir: &Path) -> Result<Vec<CacheCheck>> {
    let mut found = Vec::new();
    for object in objects(dir)? {
        found.push(check(&object).map_err(|error| Error::io("check the cache", error).with_path(dir))?);
    }
    found.sort_unstable_by(|a, b| a.url.cmp(&b.url));
    Ok(found)
}

/// Removes what was used least recently from the cache in `dir` until it has at most `size` bytes, and what is
/// no part of it. Returns the bytes in use afterwards: more than `size` if readers have objects open, whose
/// indexes stay.
pub fn prune_cache(dir: &Path, size: u64) -> Result<u64> {
    let medium = existing(dir)?;
    let pruned = evict(&medium, size, size).map_err(|error| Error::io("prune the cache", error).with_path(dir))?;
    pruned.ok_or_else(|| Error::new(ErrorKind::InUse, "Another process is making room in the cache").with_path(dir))
}

/// Units with their numbers, by the URL of their object.
#[cfg(test)]
pub(crate) type UnitsByUrl = Vec<(String, Vec<(u64, bytes::Bytes)>)>;

/// The units that are in a cache, by the URL of their object.
#[cfg(test)]
pub(crate) fn units_of(medium: &Arc<dyn super::medium::Medium>) -> std::io::Result<UnitsByUrl> {
    let mut all = Vec::new();
    for object in open_all(medium)? {
        let mut units = Vec::new();
        for found in present(&object, 0)? {
            units.extend(object.read_unit(found.unit)?.map(|bytes| (found.unit, bytes)));
        }
        all.push((object.label().url.clone(), units));
    }
    Ok(all)
}

fn objects(dir: &Path) -> Result<Vec<Arc<Object>>> {
    open_all(&existing(dir)?).map_err(|error| Error::io("read the cache", error).with_path(dir))
}

fn describe(object: &Object) -> std::io::Result<CacheObject> {
    let units = present(object, 0)?;
    let bytes = |unit| {
        let range = object.range(unit);
        range.end - range.start
    };
    Ok(CacheObject {
        name: object.label().name(),
        url: object.label().url.clone(),
        pin: object.label().pin.clone(),
        present: units.iter().map(|found| bytes(found.unit)).sum(),
        used: object.files().used()?,
        last_use: units.iter().map(|found| found.last_use).max(),
        is_open: object.files().is_locked(OPEN)?,
    })
}

fn check(object: &Arc<Object>) -> std::io::Result<CacheCheck> {
    let units = present(object, 0)?;
    for found in &units {
        object.read_unit(found.unit)?;
    }
    Ok(CacheCheck {
        url: object.label().url.clone(),
        checked: units.len() as u64,
        damaged: object.damaged.load(Ordering::Relaxed),
    })
}
