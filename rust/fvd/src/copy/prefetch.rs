//! Prefetch: copies the whole base, front to back, until the image no longer needs it.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event;

use super::control::Control;
use super::foreground::Foreground;
use super::machine::{End, Fault, Phase};
use super::options::{MAX_HELPER_STEP, PrefetchOptions};
use super::plan::plan;
use super::shared::Shared;
use super::take::Ranges;
use super::work::Work;
use crate::error::Result;
use crate::host::{BoxFuture, Clock};
use crate::image::Image;
use crate::join::join_all;
use crate::storage::Storage;

/// Fetches what is still in the base, in [`PrefetchOptions::slots`] pieces at once.
///
/// It may be dropped at any moment. Another prefetch continues from there.
pub struct Prefetch<'a, S> {
    pub(super) image: &'a Image<S>,
    pub(super) options: PrefetchOptions,
    pub(super) control: Control,
    pub(super) clock: &'a dyn Clock,
    shared: Mutex<Shared>,
    /// Notified when a step or the whole prefetch has ended.
    pub(super) ended: Event,
    /// Notified when more helpers are needed, or none any longer.
    pub(super) widened: Event,
}

impl<'a, S: Storage> Prefetch<'a, S> {
    /// Prefetches `image`, which must be open for writing: the ranges `first` (bytes of the disk) in this
    /// order, then everything. `seed` decides the random pauses.
    pub fn new(
        image: &'a Image<S>,
        options: PrefetchOptions,
        first: Vec<Range<u64>>,
        control: Control,
        clock: &'a dyn Clock,
        seed: u64,
    ) -> Self {
        let options = options.checked();
        let now = clock.now();
        let total = image.base_size();
        let phase = match image.base() {
            None => Phase::Ended(End::Finished),
            Some(_) => Phase::Open,
        };
        control.update(|status| status.begin(total, image.base().is_none()));
        let first = plan(first, image.geometry().block_size, total, options.bytes_per_prefetch);
        let work = Work::new(first, total);
        let foreground = Foreground::new(options.lull, options.longest_yield, image.requests());
        let shared = Shared::new(phase, work, &options, foreground, now, seed);
        Self {
            image,
            options,
            control,
            clock,
            shared: Mutex::new(shared),
            ended: Event::new(),
            widened: Event::new(),
        }
    }

    /// Runs all slots in one future, for a caller whose storage does not block. Ends when every block is
    /// local and durable and the header says so, or when it is stopped.
    ///
    /// # Errors
    ///
    /// The error of the base after the last retry, or an error of the image.
    pub async fn run(&self) -> Result<()> {
        self.image.check_process()?;
        let slots = (0..self.options.slots).map(|_| -> BoxFuture<'_, ()> {
            Box::pin(async {
                // The outcome belongs to all slots together.
                let _ = self.slot().await;
            })
        });
        let helpers = (0..self.helpers()).map(|number| -> BoxFuture<'_, ()> { Box::pin(self.helper(number)) });
        join_all(slots.chain(helpers).collect()).await;
        self.outcome().unwrap_or(Ok(()))
    }

    /// Runs one slot, for a caller that drives each slot on a thread of its own: call this
    /// [`Prefetch::slots`] times. All slots end together, with the result of [`Prefetch::run`].
    pub async fn slot(&self) -> Result<()> {
        self.image.check_process()?;
        self.count_local().await;
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            self.turn(Ranges::All).await;
        }
    }

    /// Runs one slot until all of the ranges `first` have been taken, or prefetch has ended.
    /// [`Prefetch::slot`] continues from there.
    pub async fn slot_of_first(&self) {
        if self.image.check_process().is_err() {
            return;
        }
        if self.front(Ranges::First).is_some() {
            self.count_local().await;
        }
        while self.outcome().is_none() && self.front(Ranges::First).is_some() {
            self.turn(Ranges::First).await;
        }
    }

    /// How many helpers there may be.
    pub(super) fn helpers(&self) -> usize {
        let shared = self.shared();
        let needed = shared.window.most() - self.options.slots;
        needed.min(shared.work.steps_of_first(MAX_HELPER_STEP))
    }

    /// Runs one more slot for the first ranges, while the latency of the base calls for that many. Prefetch
    /// does not depend on helpers.
    pub(super) async fn helper(&self, number: usize) {
        while self.image.check_process().is_ok() {
            let listener = self.widened.listen();
            let (is_over, is_needed) = {
                let shared = self.shared();
                let is_over = shared.phase.outcome().is_some() || shared.work.front_of_first().is_none();
                (is_over, self.options.slots + number < shared.window.size())
            };
            if is_over {
                return;
            }
            if !is_needed {
                listener.await;
                continue;
            }
            self.turn(Ranges::First).await;
        }
    }

    /// Counts the local bytes before anything is fetched.
    async fn count_local(&self) {
        if self.outcome().is_none() {
            match self.image.local_bytes().await {
                Ok(_) => self.tell_local(|_| ()),
                Err(error) => self.faulted(Fault::Image(error)),
            }
        }
    }

    /// The number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.options.slots
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn outcome(&self) -> Option<Result<()>> {
        self.shared().phase.outcome()
    }

    /// Bytes that may be moved at once now.
    pub(super) fn piece_len(&self) -> u64 {
        let now = self.clock.now();
        self.look(now).piece_len(&self.options, now)
    }

    /// Looks at the guest.
    pub(super) fn look(&self, now: Duration) -> MutexGuard<'_, Shared> {
        let mut shared = self.shared();
        shared.limit(self.control.rate());
        shared.foreground.look(now, self.image.requests(), self.image.is_idle());
        shared
    }
}
