//! Background: everything that an open image does on its own.

use std::ops::Range;
use std::time::Duration;

use super::control::{Command, Control, PrefetchState};
use super::copy_on_read;
use super::options::PrefetchOptions;
use super::prefetch::Prefetch;
use super::profile::profile;
use super::write_back_base;
use crate::host::{BoxFuture, Clock};
use crate::image::Image;
use crate::join::{join_all, race};
use crate::storage::Storage;

/// Copy-on-read, prefetch after its delay, checkpoints of what these have stored, and what is owed
/// to a base that is written to.
///
/// Ends when it is stopped, or when every block is local and the base is only read. A failure ends the part that it
/// concerns: [`Image::copy_on_read_error`] and [`Control::status`] tell of it.
pub struct Background<'a, S> {
    image: &'a Image<S>,
    control: Control,
    clock: &'a dyn Clock,
    prefetch: Prefetch<'a, S>,
    /// Until the profile is fetched, and until the rest is.
    profile_start_delay: Option<Duration>,
    start_delay: Option<Duration>,
    checkpoint_time: Duration,
    began: Duration,
}

/// The [`Background`] of an image as its header wants it, in one future.
pub async fn background<S: Storage>(image: &Image<S>, control: Control, clock: &dyn Clock, seed: u64) {
    let options = PrefetchOptions::from(image.header());
    let first = profile(image, &options).await;
    Background::new(image, options, first, control, clock, seed).run().await;
}

impl<'a, S: Storage> Background<'a, S> {
    /// See [`Prefetch::new`]; `first` is what [`profile`] gives. The delays begin now.
    pub fn new(
        image: &'a Image<S>,
        options: PrefetchOptions,
        first: Vec<Range<u64>>,
        control: Control,
        clock: &'a dyn Clock,
        seed: u64,
    ) -> Self {
        let (start_delay, checkpoint_time) = (options.start_delay, options.checkpoint_time);
        // Not behind the rest.
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

    /// All parts in one future.
    pub async fn run(&self) {
        let mut all = self.workers();
        all.extend(self.helpers());
        join_all(all).await;
    }

    /// The parts, for a host that drives each of them on a thread of its own, because its
    /// storage blocks. They end together. An image that is open read-only has none.
    #[must_use]
    pub fn workers(&self) -> Vec<BoxFuture<'_, ()>> {
        let mut workers: Vec<BoxFuture<'_, ()>> = Vec::new();
        if !self.image.is_writable() || self.image.check_process().is_err() {
            return workers;
        }
        workers.push(Box::pin(race(self.store_copies(), self.over())));
        workers.push(Box::pin(race(self.checkpoint(), self.over())));
        if self.image.updates_base() {
            // Goes on when every block is local.
            workers.push(Box::pin(race(self.push(), self.control.stopped())));
        }
        for _ in 0..self.prefetch.slots() {
            workers.push(Box::pin(self.slot()));
        }
        workers
    }

    /// More of them, for a profile on a base that is far away: each waits until it is needed, and ends when the
    /// profile is there. What a host cannot drive is not missed.
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

    /// Waits until the delay has passed or the user wants it, or for the end before that.
    async fn started(&self, delay: Option<Duration>) {
        loop {
            let command = self.control.command();
            match (command, delay) {
                (Command::Stop | Command::Run, _) => return,
                (Command::Pause, _) => {
                    self.control.enter(PrefetchState::Paused);
                    self.control.command_changes(command).await;
                }
                (Command::Start, None) => {
                    self.control.enter(PrefetchState::Waiting);
                    self.control.command_changes(command).await;
                }
                (Command::Start, Some(delay)) => {
                    let waited = self.clock.now().saturating_sub(self.began);
                    if waited >= delay {
                        return;
                    }
                    self.control.enter(PrefetchState::Waiting);
                    self.control
                        .sleep(self.clock, delay.saturating_sub(waited), command)
                        .await;
                }
            }
        }
    }

    async fn store_copies(&self) {
        // Ends with an error only, which the image remembers.
        let _ = copy_on_read(self.image).await;
    }

    /// What the base is owed. One that fails is tried again later.
    async fn push(&self) {
        loop {
            let _ = write_back_base(self.image).await;
            self.clock.sleep(self.checkpoint_time).await;
        }
    }

    /// Of what copy-on-read has stored, and prefetch before it was paused or failed.
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
            // Prefetch, or a full journal, may have seen to it; what came behind that waits for
            // the next time.
            if unsaved && now.1 == before.1 {
                // A full disk may have room later; anything else, the next flush tells.
                unsaved = self.image.checkpoint_copies().await.is_err();
            }
            before = (now.0, checkpoints());
        }
    }

    /// Waits until nothing is left to do.
    async fn over(&self) {
        race(self.control.stopped(), self.control.finished()).await;
    }
}
