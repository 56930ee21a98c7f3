//! The cache as the I/O thread uses it: the disk is waited for elsewhere, for a limited time, and its failures
//! cost nothing but what it would have saved.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fvd::remote::Pin;
use fvd::{Error, Result};
use tokio::time::timeout;

use super::evict::evict;
use super::folder::{Folder, Missing};
use super::health::{Failure, Health};
use super::layout::Label;
use super::medium::Medium;
use super::object::{Lead, Object, Quick};
use super::pending::Pending;
use super::pool::Pool;
use crate::fetch::UNIT;

/// How long a read of the cache may take.
const LIMIT: Duration = Duration::from_secs(1);
/// Bytes that a process stores before it looks whether there is too much.
const CHECK: u64 = 64 << 20;

/// Where the cache is, and how large it may become.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheOptions {
    /// Its folder. It is made if it is not there.
    pub dir: PathBuf,
    /// Bytes on disk. Beyond that, what was used least recently goes. Default: 10 GiB.
    pub size: u64,
}

impl CacheOptions {
    /// The largest size that is used if none is given, in bytes.
    pub const SIZE: u64 = 10 << 30;

    /// A cache of the default size.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            size: Self::SIZE,
        }
    }
}

/// What the cache has done, in this process.
#[derive(Debug, Default)]
pub(crate) struct CacheTally {
    /// Units that were read from it for the first time.
    pub(crate) found: AtomicU64,
    /// Units that were stored.
    pub(crate) stored: AtomicU64,
    /// Units that were damaged.
    pub(crate) damaged: AtomicU64,
    /// Failures of its disk.
    pub(crate) failures: AtomicU64,
}

/// The cache of a host.
pub(crate) struct Cache {
    options: CacheOptions,
    medium: OnceLock<Arc<dyn Medium>>,
    pool: Pool,
    health: Health,
    tally: Arc<CacheTally>,
    /// Bytes stored since the last look.
    stored: AtomicU64,
}

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

impl Cache {
    pub(crate) fn new(options: CacheOptions, tally: Arc<CacheTally>) -> Arc<Self> {
        Arc::new(Self {
            options,
            medium: OnceLock::new(),
            pool: Pool::new(),
            health: Health::default(),
            tally,
            stored: AtomicU64::new(0),
        })
    }

    /// The object of `pin`. None: it cannot be cached, or the disk fails.
    ///
    /// # Errors
    ///
    /// If the folder cannot be a cache: others can write to it, or it cannot be made.
    pub(crate) async fn object(self: &Arc<Self>, url: &str, pin: &Pin) -> Result<Option<Cached>> {
        let Some(label) = Label::new(url, pin, UNIT as u32).filter(|_| self.health.can_read()) else {
            return Ok(None);
        };
        let cache = Arc::clone(self);
        let opened = self.run(move || {
            let medium = cache.medium()?;
            Ok(Object::open(medium, &label))
        });
        let object = match opened.await {
            None => return Ok(None),
            Some(Err(error)) if is_refusal(&error) => return Err(error),
            Some(Err(error)) => {
                self.failed(Failure::Broken, &error.to_string());
                return Ok(None);
            }
            Some(Ok(opened)) => self.note(opened).flatten(),
        };
        Ok(object.map(|object| Cached {
            cache: Arc::clone(self),
            object,
            pending: Arc::default(),
        }))
    }

    /// Opens the folder when it is first needed.
    fn medium(&self) -> Result<&Arc<dyn Medium>> {
        if let Some(medium) = self.medium.get() {
            return Ok(medium);
        }
        match Folder::open(&self.options.dir, Missing::Make) {
            Ok(folder) => Ok(self.medium.get_or_init(|| Arc::new(folder))),
            Err(error) => Err(error),
        }
    }

    /// Runs `work` on a thread. None: it takes too long.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match timeout(LIMIT, self.pool.run(work)).await {
            Ok(Ok(value)) => Some(value),
            // Too much to do: not the fault of the disk.
            Ok(Err(_)) => None,
            Err(_) => {
                self.failed(
                    Failure::Broken,
                    &format!("its disk has not answered for {} s", LIMIT.as_secs()),
                );
                None
            }
        }
    }

    /// The value, or None after the failure was counted.
    fn note<T>(&self, result: io::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| self.failed(Failure::of(error), &error.to_string()))
            .ok()
    }

    fn failed(&self, failure: Failure, reason: &str) {
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
        if self.health.fail(failure) {
            let dir = self.options.dir.display();
            tracing::warn!(%dir, reason, "the host cache is not used for a minute");
        }
    }

    /// Stores a unit. Blocks.
    fn store(&self, lead: &Lead, bytes: &[u8]) -> bool {
        let stored = lead.publish(bytes);
        let is_full = matches!(&stored, Err(error) if Failure::of(error) == Failure::Full);
        if self.note(stored).is_some() {
            self.tally.stored.fetch_add(1, Ordering::Relaxed);
            let since = self.stored.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
            if since >= CHECK.min(self.options.size / 8) {
                self.stored.store(0, Ordering::Relaxed);
                self.make_room(self.options.size);
            }
            return true;
        }
        if is_full {
            // The file system is full before the cache is: it gets along with less than it has.
            self.make_room(0);
        }
        false
    }

    /// Evicts down to nine tenths of `limit`, or of what is there. Blocks.
    fn make_room(&self, limit: u64) {
        let Some(medium) = self.medium.get() else { return };
        let result = match limit {
            0 => evict(medium, u64::MAX, 0).and_then(|used| match used {
                Some(used) => evict(medium, 0, used / 10 * 9),
                None => Ok(None),
            }),
            limit => evict(medium, limit, limit / 10 * 9),
        };
        self.note(result);
    }
}

impl Cached {
    /// Fills `buf` with what `unit` has from its byte `within`, if that needs no disk and no check. Never waits,
    /// and can be called on any thread.
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

    /// Stores a unit in the background, and then calls `done`.
    pub(crate) fn store(&self, lead: Lead, bytes: Bytes, done: impl FnOnce() + Send + 'static) {
        if !self.cache.health.can_store() {
            return;
        }
        let cache = Arc::clone(&self.cache);
        let storing = self.pending.begin();
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
        let result = self.cache.run(work).await?;
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

/// Whether the folder is a wrong one, rather than a good one on a disk that fails.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.errno(),
        None | Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EACCES | libc::EPERM)
    )
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

/// The folder of a cache that is there.
pub(super) fn existing(dir: &Path) -> Result<Arc<dyn Medium>> {
    Ok(Arc::new(Folder::open(dir, Missing::Fail)?))
}
