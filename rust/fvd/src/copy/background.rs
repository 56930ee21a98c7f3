//! The background work of an open image.

use std::ops::Range;
use std::time::Duration;

use tracing::debug;

use super::control::Control;
use super::copy_on_read;
use super::machine::Admission;
use super::options::PrefetchOptions;
use super::prefetch::Prefetch;
use super::profile::profile;
use super::write_back_base;
use crate::host::{BoxFuture, Clock};
use crate::image::Image;
use crate::join::{join_all, race};
use crate::storage::Storage;

/// Copy-on-read, prefetch after its delay, checkpoints of copied blocks, and base writeback.
///
/// Ends when it is stopped, or when every block is local and the image does not write to its base. A failure
/// ends the part that it concerns: see [`Image::copy_on_read_error`] and [`Control::status`].
pub struct Background<'a, S> {
    image: &'a Image<S>,
    control: Control,
    clock: &'a dyn Clock,
    prefetch: Prefetch<'a, S>,
    /// Time until prefetch of the profile starts, and of the rest (`start_delay`).
    profile_start_delay: Option<Duration>,
    start_delay: Option<Duration>,
    checkpoint_time: Duration,
    began: Duration,
}

/// Runs the [`Background`] of an image, with the options of its header, in one future.
pub async fn background<S: Storage>(image: &Image<S>, control: Control, clock: &dyn Clock, seed: u64) {
    let options = PrefetchOptions::from(image.header());
    let first = profile(image, &options).await;
    Background::new(image, options, first, control, clock, seed).run().await;
}

impl<'a, S: Storage> Background<'a, S> {
    /// See [`Prefetch::new`]. `first` is the result of [`profile`]. The delays begin now.
    pub fn new(
        image: &'a Image<S>,
        options: PrefetchOptions,
        first: Vec<Range<u64>>,
        control: Control,
        clock: &'a dyn Clock,
        seed: u64,
    ) -> Self {
        let (start_delay, checkpoint_time) = (options.start_delay, options.checkpoint_time);
        // The profile must not start after the rest.
        let profile_start_delay = options.profile_start_delay.filter(|_| !first.is_empty());
        let profile_start_delay = [profile_start_delay, start_delay].into_iter().flatten().min();
        Self {
            image,
            control: control.clone(),
            clock,
            prefetch: Prefetch::new(image, options, first, control, clock, seed),
            profile_start_delay,
            start_delay,
            checkpoint_time,
            began: clock.now(),
        }
    }

    /// Runs all parts in one future.
    pub async fn run(&self) {
        let mut all = self.workers();
        all.extend(self.helpers());
        join_all(all).await;
    }

    /// The parts, for a caller whose storage blocks: it drives each part on a thread of its own. They end
    /// together. An image that is open read-only has none.
    #[must_use]
    pub fn workers(&self) -> Vec<BoxFuture<'_, ()>> {
        let mut workers: Vec<BoxFuture<'_, ()>> = Vec::new();
        if !self.image.is_writable() || self.image.check_process().is_err() {
            return workers;
        }
        workers.push(Box::pin(race(self.store_copies(), self.over())));
        workers.push(Box::pin(race(self.checkpoint(), self.over())));
        if self.image.updates_base() {
            // Continues when every block is local.
            workers.push(Box::pin(race(self.push(), self.control.stopped())));
        }
        for _ in 0..self.prefetch.slots() {
            workers.push(Box::pin(self.slot()));
        }
        workers
    }

    /// More parts, for a profile on a remote base. Each waits until it is needed, and ends when the profile
    /// is fetched. A caller that drives none or only some of them loses only speed.
    #[must_use]
    pub fn helpers(&self) -> Vec<BoxFuture<'_, ()>> {
        let count = if self.image.is_writable() && self.image.check_process().is_ok() {
            self.prefetch.helpers()
        } else {
            0
        };
        (0..count)
            .map(|number| -> BoxFuture<'_, ()> { Box::pin(self.helper(number)) })
            .collect()
    }

    async fn helper(&self, number: usize) {
        race(self.started(self.profile_start_delay), self.control.finished()).await;
        self.prefetch.helper(number).await;
    }

    async fn slot(&self) {
        race(self.started(self.profile_start_delay), self.control.finished()).await;
        self.prefetch.slot_of_first().await;
        race(self.started(self.start_delay), self.control.finished()).await;
        // The status has the outcome.
        let _ = self.prefetch.slot().await;
    }

    /// Waits until the delay has passed or the user resumes prefetch. Also returns after a stop.
    async fn started(&self, delay: Option<Duration>) {
        let at = delay.map(|delay| self.began.saturating_add(delay));
        loop {
            let command = self.control.command();
            match Admission::to_start(command, self.clock.now(), at) {
                Admission::Go | Admission::Stop => return,
                Admission::Wait(state, until) => {
                    self.control.enter(state);
                    self.control.wait(self.clock, until, command).await;
                }
            }
        }
    }

    async fn store_copies(&self) {
        // Ends only with an error, which the image remembers.
        let _ = copy_on_read(self.image).await;
    }

    /// Writes dirty ranges to the base. After a failure, tries again later.
    async fn push(&self) {
        loop {
            if let Err(error) = write_back_base(self.image).await {
                debug!(%error, retry_ms = self.checkpoint_time.as_millis() as u64, "the base was not written");
            }
            self.clock.sleep(self.checkpoint_time).await;
        }
    }

    /// Checkpoints what copy-on-read has stored, and what prefetch stored before it was paused or failed.
    async fn checkpoint(&self) {
        let copied = || {
            let stats = self.image.stats();
            stats.copied_on_read + stats.prefetched + stats.prefetched_zeros
        };
        let checkpoints = || self.image.stats().checkpoints;
        let (mut before, mut unsaved) = ((copied(), checkpoints()), false);
        loop {
            self.clock.sleep(self.checkpoint_time).await;
            let now = (copied(), checkpoints());
            unsaved |= now.0 != before.0;
            // Prefetch or a full journal may have made a checkpoint. What was copied after that one waits for
            // the next round.
            if unsaved && now.1 == before.1 {
                // A full disk may have room later. The next flush reports any other error.
                let saved = self.image.checkpoint_copies().await;
                unsaved = saved.is_err();
                if let Err(error) = saved {
                    debug!(%error, "a checkpoint failed, and is tried again");
                }
            }
            before = (now.0, checkpoints());
        }
    }

    /// Waits for a stop, or until every block is local.
    async fn over(&self) {
        race(self.control.stopped(), self.control.finished()).await;
    }
}
