//! Brings bytes of one object into memory, whatever the server does.
//!
//! `repeat` goes on until all has come: attempts and pauses, for every [`Source`]. The rest is the source of
//! objects in stores and on web servers.

mod attempt;
mod open;
mod race;
mod repeat;
mod stream;
#[cfg(test)]
mod tests;
mod trouble;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fvd::Error;
use fvd::host::{BoxFuture, Clock};
use fvd::remote::{OutageState, Pin};
use fvd::storage::Allocation;

pub(crate) use attempt::{Head, changed, trouble};
pub(crate) use open::ATTEMPTS;
pub(crate) use repeat::{fetch, wait_for_turn};
pub(crate) use trouble::{Trouble, capital, timed_out};

use crate::answer::Refusal;
use crate::config::Tuning;
use crate::counters::Tally;
use crate::fault::fault;
use crate::identity::Identity;
use crate::retry::{Health, Hedges, Outages, Pace};
use crate::store::Remote;

/// Bytes of a unit: what is asked for, kept and given out as a whole.
pub const UNIT: u64 = 256 << 10;

/// Where fetched units go.
pub(crate) trait Sink: Send + Sync {
    /// From the first unit that is missing to the end. None: all are there.
    fn missing(&self) -> Option<Range<u64>>;

    /// What was asked for of a unit. It may come twice.
    fn put(&self, index: u64, unit: Bytes);

    /// Whether a reader waits for what is missing.
    fn is_wanted(&self) -> bool;

    /// Waits until a reader waits for it who goes before prefetch.
    fn demanded(&self) -> BoxFuture<'_, ()>;

    /// Waits until a reader comes after all others have given up.
    fn asked_again(&self) -> BoxFuture<'_, ()>;

    /// Waits for memory for what is missing, and for a turn. Both end when the result is dropped.
    fn admit(&self) -> BoxFuture<'_, Box<dyn Send>>;
}

/// Where the units of one object come from.
pub(crate) trait Source: Send + Sync + 'static {
    /// The URL without credentials, for messages.
    fn url(&self) -> &str;

    /// What the objects of the server share.
    fn store(&self) -> &Arc<StoreState>;

    /// What the object was when it was opened.
    fn pin(&self) -> Pin;

    /// Whether it was the object of `pin`.
    fn is_pinned_by(&self, pin: &Pin) -> bool;

    /// Bytes from the start that an answer brings already: it began when the object was opened.
    fn begun(&self) -> u64 {
        0
    }

    /// Asks for `range` once, and puts what comes into `sink`. With `is_retry` an attempt has failed before.
    fn attempt<'a>(
        &'a self,
        range: &'a Range<u64>,
        sink: &'a dyn Sink,
        is_retry: bool,
    ) -> BoxFuture<'a, Result<(), Trouble>>;

    /// Replaces the credentials of this generation, once for all fetches that were refused. Fails with the
    /// reason.
    fn renew(&self, generation: u64) -> BoxFuture<'_, Result<(), String>>;

    /// Whether parts of units can be asked for.
    fn gives_parts(&self) -> bool {
        false
    }

    /// Whether bytes have come from another host than that of the URL.
    fn has_left_host(&self) -> bool {
        false
    }

    /// Whether `unit` is known to be zeros, which nothing needs to fetch, and the next unit that is of the other
    /// kind. Never waits.
    fn zeros(&self, unit: u64) -> (bool, u64) {
        _ = unit;
        (false, u64::MAX)
    }

    /// What a machine needs first, if that is known: ranges of the disk in bytes. Runs on the I/O thread.
    fn boot_profile(&self) -> BoxFuture<'static, Option<Vec<Range<u64>>>> {
        Box::pin(async { None })
    }

    /// Waits until what it keeps elsewhere is stored, for a limited time. Blocks.
    fn settle(&self) {}

    /// As [`RemoteFile::allocation`](fvd::remote::RemoteFile::allocation), for a range within the object.
    /// May be polled by any runtime.
    fn allocation(self: Arc<Self>, offset: u64, len: u64) -> BoxFuture<'static, (Allocation, u64)> {
        _ = offset;
        Box::pin(async move { (Allocation::Data, len) })
    }
}

/// What the objects of a store share.
pub(crate) struct StoreState {
    /// For messages.
    pub(crate) label: String,
    pub(crate) tuning: Tuning,
    pub(crate) health: Health,
    pub(crate) hedges: Hedges,
    /// Of requests that no reader waits for.
    pace: Mutex<Pace>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Mutex<fastrand::Rng>,
}

impl StoreState {
    pub(crate) fn new(label: String, tuning: Tuning, tally: Arc<Tally>, clock: Arc<dyn Clock>) -> Self {
        Self {
            label,
            tuning,
            health: Health::default(),
            hedges: Hedges::new(),
            pace: Mutex::default(),
            tally,
            clock,
            random: Mutex::new(fastrand::Rng::new()),
        }
    }

    pub(crate) fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    pub(crate) fn failed(&self, text: &str, demanded: Option<Duration>) {
        let demanded = demanded.map(|pause| pause.min(self.tuning.retry_after_cap));
        if self.health.fail(self.clock.now(), text, demanded) == Outages::Begins {
            tracing::warn!(store = %self.label, reason = text, "a store does not answer as it should");
        }
    }

    /// Reads what a refusal says about the whole store, whatever becomes of the attempt that it ends.
    fn note(&self, refusal: &Refusal) {
        let Refusal::Later(pause) = refusal else { return };
        let now = self.clock.now();
        self.pace().refused(now);
        if let Some(pause) = pause {
            let pause = (*pause).min(self.tuning.retry_after_cap);
            self.health.demand(now + pause);
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store wants no requests now.
    pub(crate) fn wants_pause(&self) -> bool {
        !self.health.pause(self.clock.now()).is_zero() && !fault!(PauseForOne)
    }

    /// The outage, while there is one.
    pub(crate) fn outage(&self) -> Option<OutageState> {
        let (lasting, reason) = self.health.outage(self.clock.now())?;
        Some(OutageState {
            store: self.label.clone(),
            lasting,
            reason,
        })
    }

    pub(crate) fn succeeded(&self) {
        if let Some(lasted) = self.health.succeed(self.clock.now()) {
            tracing::info!(store = %self.label, seconds = lasted.as_secs_f64(), "a store answers again");
        }
    }
}

/// Fetches parts of one object in a store or on a web server.
pub(crate) struct Fetcher {
    /// The URL without credentials, for messages.
    pub(crate) url: String,
    pub(crate) remote: Arc<dyn Remote>,
    /// What the object was when it was opened.
    pub(crate) identity: Identity,
    pub(crate) store: Arc<StoreState>,
    /// The answer that opening has begun. It has the first bytes.
    pub(crate) begun: Mutex<Option<Head>>,
}

impl Fetcher {
    fn begun(&self) -> MutexGuard<'_, Option<Head>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn replace_credentials(&self, generation: u64) -> Result<(), String> {
        Tally::add(
            &self.store.tally.refreshes,
            u64::from(self.remote.generation() == generation),
        );
        self.remote.refresh(generation).await.map_err(|failure| failure.text)
    }

    fn error(&self, text: &str) -> Error {
        Error::new(fvd::ErrorKind::Io, text).with_path(&self.url)
    }
}

impl Source for Fetcher {
    fn url(&self) -> &str {
        &self.url
    }

    fn store(&self) -> &Arc<StoreState> {
        &self.store
    }

    fn pin(&self) -> Pin {
        self.identity.pin()
    }

    fn is_pinned_by(&self, pin: &Pin) -> bool {
        self.identity.is_pinned_by(pin)
    }

    fn begun(&self) -> u64 {
        self.begun().as_ref().map_or(0, |head| head.data.range.end)
    }

    fn attempt<'a>(
        &'a self,
        range: &'a Range<u64>,
        sink: &'a dyn Sink,
        is_retry: bool,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        let begun = if range.start == 0 { self.begun().take() } else { None };
        Box::pin(async move {
            match begun {
                Some(head) => self.stream(head, range, sink).await,
                None => self.race(range, sink, is_retry).await,
            }
        })
    }

    fn renew(&self, generation: u64) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.replace_credentials(generation))
    }

    fn gives_parts(&self) -> bool {
        true
    }

    fn has_left_host(&self) -> bool {
        self.remote.has_left_host()
    }
}
