//! An object whose manifest is known: each unit is checked when it has come, before anything else gets it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fvd::host::BoxFuture;
use fvd::remote::{Pin, Validator};
use fvd::source::is_zero;
use fvd::storage::Allocation;
use fvd::{Error, ErrorKind};

use super::head::{Chunk, Hash, hash};
use super::pages::Pages;
use super::place::Place;
use super::profile::load_profile;
use crate::fetch::{Sink, Source, StoreState, Trouble, UNIT};

/// Takes nothing from its source that is not what the manifest says.
pub(crate) struct Verified {
    pub(crate) object: Arc<dyn Source>,
    pub(crate) pages: Pages,
    /// Where the boot profile is, if there is one.
    pub(crate) profile: Arc<Place>,
}

impl Verified {
    async fn attempt_checked(&self, range: &Range<u64>, sink: &dyn Sink, is_retry: bool) -> Result<(), Trouble> {
        let units = range.start / UNIT..range.end.div_ceil(UNIT);
        let hashes = self.pages.hashes(units.clone(), is_retry).await?;
        let checked = Checked::new(sink, units.start, &hashes, None);
        let ended = self.object.attempt(range, &checked, is_retry).await;
        for (unit, found) in checked.damaged() {
            tracing::warn!(
                url = self.url(),
                chunk = unit,
                found = hex(&found),
                "a chunk is not what the manifest says: it is fetched once more"
            );
            self.once_more(unit, hashes[(unit - units.start) as usize], sink)
                .await?;
        }
        ended
    }

    /// Fetches a unit again, over a new connection: another server, or another way to it, may have it whole.
    async fn once_more(&self, unit: u64, expected: Option<Hash>, sink: &dyn Sink) -> Result<(), Trouble> {
        let range = unit * UNIT..((unit + 1) * UNIT).min(self.pages.head().len());
        let hashes = [expected];
        let checked = Checked::new(sink, unit, &hashes, Some(range.clone()));
        let ended = self.object.attempt(&range, &checked, true).await;
        let damaged = checked.damaged();
        match damaged.get(&unit) {
            Some(found) => Err(Trouble::Permanent(damaged_twice(unit, expected.as_ref(), found))),
            None => ended,
        }
    }
}

impl Source for Verified {
    fn url(&self) -> &str {
        self.object.url()
    }

    fn store(&self) -> &Arc<StoreState> {
        self.object.store()
    }

    fn pin(&self) -> Pin {
        Pin {
            len: self.pages.head().len(),
            validator: Validator::Manifest(*self.pages.identity()),
        }
    }

    fn is_pinned_by(&self, pin: &Pin) -> bool {
        *pin == self.pin()
    }

    fn begun(&self) -> u64 {
        self.object.begun()
    }

    fn attempt<'a>(
        &'a self,
        range: &'a Range<u64>,
        sink: &'a dyn Sink,
        is_retry: bool,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(self.attempt_checked(range, sink, is_retry))
    }

    fn renew(&self, generation: u64) -> BoxFuture<'_, Result<(), String>> {
        self.object.renew(generation)
    }

    fn has_left_host(&self) -> bool {
        self.object.has_left_host()
    }

    fn zeros(&self, unit: u64) -> (bool, u64) {
        let (chunk, end) = self.pages.head().chunk(unit);
        (chunk == Chunk::Zeros, end)
    }

    fn settle(&self) {
        self.pages.settle();
    }

    fn allocation(self: Arc<Self>, offset: u64, len: u64) -> BoxFuture<'static, (Allocation, u64)> {
        let (is_zero, end) = self.zeros(offset / UNIT);
        let kind = if is_zero { Allocation::Hole } else { Allocation::Data };
        let run = (end * UNIT - offset).min(len);
        Box::pin(async move { (kind, run) })
    }

    fn boot_profile(&self) -> BoxFuture<'static, Option<Vec<Range<u64>>>> {
        let place = Arc::clone(&self.profile);
        Box::pin(async move { load_profile(&place).await })
    }
}

/// Lets only those units through that are right.
struct Checked<'a> {
    sink: &'a dyn Sink,
    /// The unit of the first hash.
    first: u64,
    hashes: &'a [Option<Hash>],
    /// The one unit that is wanted, in bytes. None: what the sink wants.
    only: Option<Range<u64>>,
    /// Units that are not right, and what their hash is.
    damaged: Mutex<BTreeMap<u64, Hash>>,
    /// Units that were right.
    right: Mutex<u64>,
}

impl<'a> Checked<'a> {
    fn new(sink: &'a dyn Sink, first: u64, hashes: &'a [Option<Hash>], only: Option<Range<u64>>) -> Self {
        Self {
            sink,
            first,
            hashes,
            only,
            damaged: Mutex::default(),
            right: Mutex::default(),
        }
    }

    fn damaged(&self) -> BTreeMap<u64, Hash> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn right(&self) -> std::sync::MutexGuard<'_, u64> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Checked<'_> {
    fn missing(&self) -> Option<Range<u64>> {
        match &self.only {
            None => self.sink.missing(),
            Some(range) => (*self.right() == 0).then(|| range.clone()),
        }
    }

    fn put(&self, index: u64, unit: Bytes) {
        let Some(expected) = index
            .checked_sub(self.first)
            .and_then(|at| self.hashes.get(at as usize))
        else {
            return;
        };
        let is_right = match expected {
            Some(expected) => hash(&unit) == *expected,
            None => is_zero(&unit),
        };
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if is_right {
            damaged.remove(&index);
            drop(damaged);
            *self.right() += 1;
            self.sink.put(index, unit);
        } else {
            damaged.insert(index, hash(&unit));
        }
    }

    fn is_wanted(&self) -> bool {
        self.sink.is_wanted()
    }

    fn demanded(&self) -> BoxFuture<'_, ()> {
        self.sink.demanded()
    }

    fn asked_again(&self) -> BoxFuture<'_, ()> {
        self.sink.asked_again()
    }

    fn admit(&self) -> BoxFuture<'_, Box<dyn Send>> {
        self.sink.admit()
    }
}

fn damaged_twice(unit: u64, expected: Option<&Hash>, found: &Hash) -> Error {
    let expected = expected.map_or_else(|| "zeros".to_owned(), hex);
    let text = format!(
        "Chunk {unit} (bytes {} and the next 256 KiB) is damaged, twice in a row: its SHA-256 is {}, and the \
         manifest says {expected}. Nothing of it was used. `fvd publish --force` writes the template again",
        unit * UNIT,
        hex(found),
    );
    let source = std::io::Error::from_raw_os_error(libc::EIO);
    Error::io("read", source).with_context(ErrorKind::Io, &text)
}

pub(crate) fn hex(hash: &Hash) -> String {
    hash.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        _ = write!(text, "{byte:02x}");
        text
    })
}
