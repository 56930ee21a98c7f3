//! The cache as the I/O thread uses it: the disk is waited for elsewhere, for a limited time, and its failures
//! cost nothing but what it would have saved.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fvd::remote::Pin;
use fvd::{Error, Result};
use tokio::time::timeout;

use super::cached::Cached;
use super::evict::evict;
use super::folder::{Folder, Missing};
use super::health::{Failure, Health};
use super::layout::Label;
use super::lead::Lead;
use super::medium::Medium;
use super::object::Object;
use super::pool::Pool;
use crate::fetch::UNIT;

/// How long a read of the cache may take.
pub(super) const LIMIT: Duration = Duration::from_secs(1);
/// How long opening an object may take: without it there is no cache until the image is opened again.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// How many answers in a row must be late before the disk counts as broken.
const LATE: u32 = 3;
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
    pub(super) options: CacheOptions,
    medium: OnceLock<Arc<dyn Medium>>,
    pub(super) pool: Pool,
    pub(super) health: Health,
    pub(super) tally: Arc<CacheTally>,
    /// Answers of the disk in a row that were late.
    late: AtomicU32,
    /// Bytes stored since the last look.
    stored: AtomicU64,
}

impl Cache {
    pub(crate) fn new(options: CacheOptions, tally: Arc<CacheTally>) -> Arc<Self> {
        Arc::new(Self {
            options,
            medium: OnceLock::new(),
            pool: Pool::new(),
            health: Health::default(),
            tally,
            late: AtomicU32::new(0),
            stored: AtomicU64::new(0),
        })
    }

    /// A cache on a disk in memory.
    #[cfg(test)]
    pub(crate) fn on(medium: Arc<dyn Medium>, size: u64) -> Arc<Self> {
        let options = CacheOptions {
            size,
            ..CacheOptions::new("/cache")
        };
        let cache = Self::new(options, Arc::default());
        assert!(cache.medium.set(medium).is_ok(), "a new cache has none");
        cache
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
        let opened = self.run(OPEN_LIMIT, move || {
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
        Ok(object.map(|object| Cached::new(Arc::clone(self), object)))
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

    /// Runs `work` on a thread, for at most `limit`. None: it takes too long.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match timeout(limit, self.pool.run(work)).await {
            Ok(Ok(value)) => {
                self.late.store(0, Ordering::Relaxed);
                Some(value)
            }
            // Too much to do: not the fault of the disk.
            Ok(Err(_)) => None,
            Err(_) => {
                // On a busy machine a thread may not run for a second.
                if self.late.fetch_add(1, Ordering::Relaxed) + 1 >= LATE {
                    let reason = format!("its disk has not answered {LATE} times within {} s", limit.as_secs());
                    self.failed(Failure::Broken, &reason);
                }
                None
            }
        }
    }

    /// The value, or None after the failure was counted.
    pub(super) fn note<T>(&self, result: io::Result<T>) -> Option<T> {
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
    pub(super) fn store(&self, lead: &Lead, bytes: &[u8]) -> bool {
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

/// Whether the folder is a wrong one, rather than a good one on a disk that fails.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.errno(),
        None | Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EACCES | libc::EPERM)
    )
}

/// The folder of a cache that is there.
pub(super) fn existing(dir: &Path) -> Result<Arc<dyn Medium>> {
    Ok(Arc::new(Folder::open(dir, Missing::Fail)?))
}
