//! Units on a disk of this machine, shared by all processes that read the same objects (K1 to K9 in
//! `docs/design/cache.md`). Knows nothing of networks.
//!
//! * `layout`: bytes of an index.
//! * `medium`, `folder`, `files`: the file system, and the real one.
//! * `object`, `lead`, `known`: one object: reads, publishing, locks.
//! * `evict`, `inspect`: the whole cache.
//! * `host`, `cached`, with `pool`, `pending` and `health`: the cache as the I/O thread uses it.

mod cached;
mod evict;
mod files;
mod folder;
mod health;
mod host;
mod inspect;
mod known;
mod layout;
mod lead;
pub(crate) mod medium;
mod object;
mod pending;
mod pool;
#[cfg(test)]
mod tests;

pub(crate) use cached::Cached;
#[cfg(any(test, feature = "simulation"))]
pub(crate) use folder::{Folder, Missing};
pub use host::CacheOptions;
pub(crate) use host::{Cache, CacheTally};
#[cfg(test)]
pub(crate) use inspect::units_of;
pub use inspect::{CacheCheck, CacheObject, list_cache, prune_cache, verify_cache};
#[cfg(any(test, feature = "simulation"))]
pub(crate) use layout::{HEADER, Label};
pub(crate) use lead::Lead;
#[cfg(any(test, feature = "simulation"))]
pub(crate) use object::{Object as StoredObject, Quick};
