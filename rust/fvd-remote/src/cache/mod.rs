//! Units on a disk of this machine, shared by all processes that read the same objects (K1 to K8 in
//! `docs/design/cache.md`). Knows nothing of networks.
//!
//! * `layout`: bytes of an index.
//! * `medium`, `folder`: the file system, and the real one.
//! * `object`, `known`: one object: reads, publishing, locks.
//! * `evict`, `inspect`: the whole cache.
//! * `host`, with `pool`, `pending` and `health`: the cache as the I/O thread uses it.

mod evict;
mod fault;
mod folder;
mod health;
mod host;
mod inspect;
mod known;
mod layout;
mod medium;
mod object;
mod pending;
mod pool;
#[cfg(test)]
mod tests;

pub use host::CacheOptions;
pub(crate) use host::{Cache, CacheTally, Cached};
pub use inspect::{CacheCheck, CacheObject, list_cache, prune_cache, verify_cache};
pub(crate) use object::Lead;
