//! Brings bytes of one object into memory, whatever the server does: attempts, pauses, second requests.

mod attempt;
mod open;
mod race;
mod stream;
#[cfg(test)]
mod tests;
mod trouble;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fvd::host::{BoxFuture, Clock};
use fvd::remote::OutageState;
use fvd::{Error, Result};
use tokio::select;

pub(crate) use attempt::Head;
pub(crate) use trouble::{Trouble, timed_out};

use crate::config::Tuning;
use crate::counters::Tally;
use crate::identity::Identity;
use crate::retry::{Backoff, Health, Hedges, Outages};
use crate::store::Remote;

/// Bytes of a unit: what is asked for, kept and given out as a whole.
pub(crate) const UNIT: u64 = 256 << 10;

/// Where fetched units go.
pub(crate) trait Sink: Send + Sync {
    /// From the first unit that is missing to the end. None: all are there.
    fn missing(&self) -> Option<Range<u64>>;

    /// A unit. It may come twice.
    fn put(&self, index: u64, unit: Bytes);

    /// Whether a reader waits for what is missing.
    fn is_wanted(&self) -> bool;

    /// Waits until a reader comes after all others have given up.
    fn asked_again(&self) -> BoxFuture<'_, ()>;

    /// Waits for memory for what is missing, and for a turn. Both end when the result is dropped.
    fn admit(&self) -> BoxFuture<'_, Box<dyn Send>>;
}

/// What the objects of a store share.
pub(crate) struct StoreState {
    /// For messages.
    pub(crate) label: String,
    pub(crate) tuning: Tuning,
    pub(crate) health: Health,
    pub(crate) hedges: Hedges,
    pub(crate) tally: Arc<Tally>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Mutex<fastrand::Rng>,
}

impl StoreState {
    fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    fn failed(&self, text: &str, demanded: Option<Duration>) {
        let demanded = demanded.map(|pause| pause.min(self.tuning.retry_after_cap));
        if self.health.fail(self.clock.now(), text, demanded) == Outages::Begins {
            tracing::warn!(store = %self.label, reason = text, "a store does not answer as it should");
        }
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

    fn succeeded(&self) {
        if let Some(lasted) = self.health.succeed(self.clock.now()) {
            tracing::info!(store = %self.label, seconds = lasted.as_secs_f64(), "a store answers again");
        }
    }
}

/// Fetches parts of one object.
pub(crate) struct Fetcher {
    /// The URL without credentials, for messages.
    pub(crate) url: String,
    pub(crate) remote: Arc<dyn Remote>,
    /// What the object was when it was opened.
    pub(crate) identity: Identity,
    pub(crate) store: Arc<StoreState>,
}

/// The failures of one fetch.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    /// Whether credentials were refused, and replaced, before.
    is_refused: bool,
}

impl Fetcher {
    /// Fills `sink`. None: what is missing is no longer wanted. `begun` is an answer that has begun already.
    pub(crate) async fn fetch(&self, sink: &dyn Sink, mut begun: Option<Head>) -> Option<Result<()>> {
        let mut failures = Failures::default();
        while let Some(range) = sink.missing() {
            let ended = {
                // First: a store that wants a pause holds up no other.
                self.wait_for_turn().await;
                let _permit = sink.admit().await;
                match begun.take() {
                    Some(head) => self.stream(head, &range, sink).await,
                    None => self.race(&range, sink, failures.in_a_row > 0).await,
                }
            };
            let Some(rest) = sink.missing() else { break };
            let has_progressed = rest.start != range.start;
            if has_progressed {
                // Something has come, so the server is there.
                failures = Failures::default();
            }
            let trouble = match ended {
                // A shorter range than was asked for is allowed.
                Ok(()) if has_progressed => continue,
                Ok(()) => Trouble::Retry {
                    text: "the server sends less than a unit (256 KiB) at a time".to_owned(),
                    demanded: None,
                },
                Err(trouble) => trouble,
            };
            if !sink.is_wanted() && !matches!(trouble, Trouble::Permanent(_)) {
                return None;
            }
            if let Err(error) = self.recover(trouble, &mut failures, sink).await {
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    /// Waits until another attempt makes sense. Fails if none does.
    async fn recover(&self, trouble: Trouble, failures: &mut Failures, sink: &dyn Sink) -> Result<()> {
        let store = &self.store;
        let tuning = &store.tuning;
        failures.in_a_row += 1;
        let backoff = Backoff::new(tuning);
        let (text, pause) = match trouble {
            Trouble::Permanent(error) => return Err(error.with_path(&self.url)),
            Trouble::Retry { text, demanded } => {
                store.failed(&text, demanded);
                (text, backoff.pause(failures.in_a_row, demanded, store.random()))
            }
            Trouble::Refused { generation, text } => {
                let is_first = !std::mem::replace(&mut failures.is_refused, true);
                match self.renew(generation).await {
                    Ok(()) if is_first => return Ok(()),
                    Ok(()) => {
                        store.failed(&text, None);
                        (text, tuning.refused_pause.mul_f64(0.5 + store.random() / 2.0))
                    }
                    Err(reason) => {
                        store.failed(&reason, None);
                        let text = format!("{text}, and {reason}");
                        (text, backoff.pause(failures.in_a_row, None, store.random()))
                    }
                }
            }
        };
        self.pause(&text, pause, sink).await;
        Ok(())
    }

    /// A pause between two attempts. It ends early when the store answers another request, and for a reader who
    /// comes after all others have given up: each read gets an attempt.
    async fn pause(&self, text: &str, pause: Duration, sink: &dyn Sink) {
        let store = &self.store;
        Tally::add(&store.tally.retries, 1);
        tracing::debug!(url = %self.url, reason = text, pause_ms = pause.as_millis() as u64, "a request is sent again");
        let _waiting = store.tally.wait();
        select! {
            () = store.clock.sleep(pause) => {}
            () = sink.asked_again() => {}
            () = store.health.answers() => {
                // Not all at the same moment.
                store.clock.sleep(store.tuning.backoff_base.mul_f64(store.random())).await;
            }
        }
    }

    /// Replaces the credentials, once for all fetches that were refused.
    async fn renew(&self, generation: u64) -> std::result::Result<(), String> {
        Tally::add(
            &self.store.tally.refreshes,
            u64::from(self.remote.generation() == generation),
        );
        self.remote.refresh(generation).await.map_err(|failure| failure.text)
    }

    /// Waits while the server wants no requests.
    async fn wait_for_turn(&self) {
        let store = &self.store;
        let pause = store.health.pause(store.clock.now());
        if !pause.is_zero() {
            let _waiting = store.tally.wait();
            // Not all at the same moment.
            let jitter = store.tuning.backoff_base.mul_f64(store.random());
            store.clock.sleep(pause + jitter).await;
        }
    }

    fn error(&self, text: &str) -> Error {
        Error::new(fvd::ErrorKind::Io, text).with_path(&self.url)
    }
}
