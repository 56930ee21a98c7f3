//! An object in the cache, as the room `units` uses it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::host::{Cache, LIMIT};
use super::lead::Lead;
use super::object::{Object, Quick};
use super::pending::{Pending, Storing};

/// An object in the cache of a host.
pub(crate) struct Cached {
    cache: Arc<Cache>,
    object: Arc<Object>,
    pending: Arc<Pending>,
}

/// What became of units that are wanted.
#[derive(Default)]
pub(crate) struct Elected {
    /// They are in the cache.
    pub(crate) found: Vec<(u64, Bytes)>,
    /// This process fetches them.
    pub(crate) leads: Vec<Lead>,
    /// Another process fetches them.
    pub(crate) others: Vec<u64>,
    /// The cache cannot be used now.
    pub(crate) is_unusable: bool,
}

impl Cached {
    pub(super) fn new(cache: Arc<Cache>, object: Arc<Object>) -> Self {
        let pending = Arc::default();
        Self { cache, object, pending }
    }

    /// Fills `buf` with what `unit` has from its byte `within`, if that needs no disk and no check. Never
    /// waits, and can be called on any thread.
    pub(crate) fn read_now(&self, unit: u64, buf: &mut [u8], within: u64) -> bool {
        if !self.object.is_known(unit) || !self.cache.health.can_read() {
            return false;
        }
        let read = self.cache.note(self.object.read_quickly(unit, buf, within));
        let is_read = read == Some(Quick::Read);
        if is_read && self.object.is_due(unit) {
            let object = Arc::clone(&self.object);
            // If it fails, the unit looks older than it is.
            self.cache.pool.run_later(move || _ = object.touch(unit));
        }
        is_read
    }

    /// Whether a reader can probably have the unit with [`Cached::read_now`].
    pub(crate) fn is_known(&self, unit: u64) -> bool {
        self.object.is_known(unit)
    }

    /// Looks for units.
    pub(crate) async fn find(&self, units: Vec<u64>) -> Vec<(u64, Bytes)> {
        let object = Arc::clone(&self.object);
        let found = self.ask(move || find(&object, units)).await;
        self.count(found.unwrap_or_default())
    }

    /// Looks for units, and asks for the right to fetch those that are not there.
    pub(crate) async fn elect(&self, units: Vec<u64>) -> Elected {
        let object = Arc::clone(&self.object);
        let Some(mut elected) = self.ask(move || elect(&object, units)).await else {
            return Elected {
                is_unusable: true,
                ..Elected::default()
            };
        };
        elected.found = self.count(elected.found);
        elected
    }

    /// What [`Cached::settle`] waits for, from now on.
    pub(crate) fn storing(&self) -> Storing {
        self.pending.begin()
    }

    /// Stores a unit in the background, and then calls `done`.
    pub(crate) fn store(&self, lead: Lead, bytes: Bytes, storing: Storing, done: impl FnOnce() + Send + 'static) {
        if !self.cache.health.can_store() {
            return;
        }
        let cache = Arc::clone(&self.cache);
        self.cache.pool.run_later(move || {
            let is_stored = cache.store(&lead, &bytes);
            drop(lead);
            if is_stored {
                done();
            }
            drop(storing);
        });
    }

    /// Waits until what has come is stored, but not longer than a read may take. Blocks.
    pub(crate) fn settle(&self) {
        self.pending.settle(LIMIT);
    }

    async fn ask<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Option<T> {
        if !self.cache.health.can_read() {
            return None;
        }
        let result = self.cache.run(LIMIT, work).await?;
        let damaged = self.object.damaged.swap(0, Ordering::Relaxed);
        if damaged > 0 {
            self.cache.tally.damaged.fetch_add(damaged, Ordering::Relaxed);
            let (url, dir) = (&self.object.label().url, self.cache.options.dir.display());
            tracing::warn!(%url, %dir, units = damaged, "the host cache has damaged data, which is fetched again");
        }
        self.cache.note(result)
    }

    fn count(&self, found: Vec<(u64, Bytes)>) -> Vec<(u64, Bytes)> {
        self.cache.tally.found.fetch_add(found.len() as u64, Ordering::Relaxed);
        found
    }
}

fn find(object: &Arc<Object>, units: Vec<u64>) -> io::Result<Vec<(u64, Bytes)>> {
    let mut found = Vec::new();
    for unit in units {
        found.extend(object.read_unit(unit)?.map(|bytes| (unit, bytes)));
    }
    Ok(found)
}

fn elect(object: &Arc<Object>, units: Vec<u64>) -> io::Result<Elected> {
    let mut elected = Elected::default();
    for unit in units {
        let Some(lead) = object.lead(unit)? else {
            match object.read_unit(unit)? {
                Some(bytes) => elected.found.push((unit, bytes)),
                None => elected.others.push(unit),
            }
            continue;
        };
        // Another process may have stored it and given the lock back since the last look.
        match lead.read()? {
            Some(bytes) => elected.found.push((unit, bytes)),
            None => elected.leads.push(lead),
        }
    }
    Ok(elected)
}
