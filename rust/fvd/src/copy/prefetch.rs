//! Prefetch: copies the whole base, front to back, until the image no longer needs it.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event;

use super::backoff::Backoff;
use super::control::{Command, Control, PrefetchState};
use super::direction::{Direction, DirectionState};
use super::end::Fault;
use super::foreground::Foreground;
use super::options::{MAX_HELPER_STEP, PrefetchOptions};
use super::plan::plan;
use super::take::Turn;
use super::window::Window;
use super::work::Work;
use crate::error::Result;
use crate::host::{BoxFuture, Clock};
use crate::image::Image;
use crate::join::{join_all, race, yield_now};
use crate::storage::Storage;

/// Fetches what is still in the base, in [`PrefetchOptions::slots`] pieces at once.
///
/// It may be dropped at any moment. Another prefetch continues from there.
pub struct Prefetch<'a, S> {
    pub(super) image: &'a Image<S>,
    pub(super) options: PrefetchOptions,
    pub(super) control: Control,
    pub(super) clock: &'a dyn Clock,
    state: Mutex<State>,
    /// Notified when a step or the whole prefetch has ended.
    pub(super) ended: Event,
    /// Notified when more helpers are needed, or none any longer.
    pub(super) widened: Event,
}

/// What the slots share. Its lock is held only for moments, never over I/O.
pub(super) struct State {
    pub(super) work: Work,
    read: DirectionState,
    write: DirectionState,
    /// How many steps of the first ranges (a profile) may be in flight.
    pub(super) window: Window,
    pub(super) foreground: Foreground,
    pub(super) backoff: Backoff,
    pub(super) rng: fastrand::Rng,
    /// No step begins before this time, and why.
    hold: Option<(Duration, PrefetchState)>,
    /// Bytes stored since the last checkpoint. `saved_at`: when that was.
    pub(super) unsaved: u64,
    pub(super) saved_at: Duration,
    pub(super) outcome: Option<Result<()>>,
}

impl State {
    pub(super) fn direction(&mut self, direction: Direction) -> &mut DirectionState {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// Whether guest requests come first. Not while a profile is fetched: the guest is about to read those
    /// ranges, and would wait for each of them.
    pub(super) fn is_polite(&self) -> bool {
        !self.work.is_at_first()
    }

    /// Begins no step before `until`.
    pub(super) fn hold_until(&mut self, until: Duration, why: PrefetchState) {
        if self.hold.is_none_or(|(held, _)| held < until) {
            self.hold = Some((until, why));
        }
    }
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
        let outcome = image.base().is_none().then_some(Ok(()));
        control.begin(total, outcome.is_some());
        let first = plan(first, image.geometry().block_size, total, options.bytes_per_prefetch);
        let (read, write) = (
            DirectionState::new(Direction::Read, &options, now),
            DirectionState::new(Direction::Write, &options, now),
        );
        let pacers = [&read.pacer, &write.pacer];
        let state = State {
            window: Window::new(options.slots, options.profile_slots, pacers),
            work: Work::new(first, total),
            read,
            write,
            foreground: Foreground::new(options.lull, options.longest_yield, image.requests()),
            backoff: Backoff::new(options.first_backoff, options.longest_backoff, options.retries),
            rng: fastrand::Rng::with_seed(seed),
            hold: None,
            unsaved: 0,
            saved_at: now,
            outcome,
        };
        Self {
            image,
            options,
            control,
            clock,
            state: Mutex::new(state),
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
            if let Err(fault) = self.turn().await {
                self.fault(fault);
            }
            yield_now().await;
        }
    }

    /// Runs one slot until all of the ranges `first` have been taken, or prefetch has ended.
    /// [`Prefetch::slot`] continues from there.
    pub async fn slot_of_first(&self) {
        if self.image.check_process().is_err() {
            return;
        }
        if self.state().work.front_of_first().is_some() {
            self.count_local().await;
        }
        while self.outcome().is_none() && self.state().work.front_of_first().is_some() {
            if let Err(fault) = self.turn_of_first().await {
                self.fault(fault);
            }
            yield_now().await;
        }
    }

    /// How many helpers there may be.
    pub(super) fn helpers(&self) -> usize {
        let state = self.state();
        let needed = state.window.most() - self.options.slots;
        needed.min(state.work.steps_of_first(MAX_HELPER_STEP))
    }

    /// Runs one more slot for the first ranges, while the latency of the base calls for that many. Prefetch
    /// does not depend on helpers.
    pub(super) async fn helper(&self, number: usize) {
        while self.image.check_process().is_ok() {
            let listener = self.widened.listen();
            let (is_over, is_needed) = {
                let state = self.state();
                let is_over = state.outcome.is_some() || state.work.front_of_first().is_none();
                (is_over, self.options.slots + number < state.window.size())
            };
            if is_over {
                return;
            }
            if !is_needed {
                listener.await;
                continue;
            }
            if let Err(fault) = self.turn_of_first().await {
                self.fault(fault);
            }
            yield_now().await;
        }
    }

    /// Counts the local bytes before anything is fetched.
    async fn count_local(&self) {
        if self.outcome().is_none() {
            match self.image.local_bytes().await {
                Ok(_) => self.tell_local(|_| ()),
                Err(error) => self.fault(Fault::Image(error)),
            }
        }
    }

    /// The number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.options.slots
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn outcome(&self) -> Option<Result<()>> {
        self.state().outcome.clone()
    }

    async fn turn(&self) -> Result<(), Fault> {
        self.image.check_writable().map_err(Fault::Image)?;
        self.admitted().await?;
        match self.take().await? {
            Turn::Step(step) => self.perform(step).await,
            Turn::Walked => Ok(()),
            Turn::Nothing => self.complete().await,
        }
    }

    async fn turn_of_first(&self) -> Result<(), Fault> {
        self.image.check_writable().map_err(Fault::Image)?;
        self.admitted().await?;
        let front = self.state().work.front_of_first();
        match front {
            Some(front) => match self.take_from(front).await? {
                Turn::Step(step) => self.perform(step).await,
                Turn::Walked | Turn::Nothing => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Waits until nothing holds prefetch back: a pause by the user, contention, or a failed base.
    pub(super) async fn admitted(&self) -> Result<(), Fault> {
        loop {
            if self.outcome().is_some() {
                return Err(Fault::Stopped);
            }
            let command = self.control.command();
            match command {
                Command::Stop => return Err(Fault::Stopped),
                Command::Pause => {
                    self.control.enter(PrefetchState::Paused);
                    race(self.control.command_changes(Command::Pause), self.until_ended()).await;
                    continue;
                }
                Command::Start | Command::Run => {}
            }
            let now = self.clock.now();
            let hold = self.state().hold.filter(|(until, _)| now < *until);
            let Some((until, state)) = hold else {
                return Ok(());
            };
            self.control.enter(state);
            self.sleep(until.saturating_sub(now), command).await;
        }
    }

    /// Sleeps until the time has passed, the command differs from `seen`, or prefetch has ended.
    pub(super) async fn sleep(&self, time: Duration, seen: Command) {
        race(self.control.sleep(self.clock, time, seen), self.until_ended()).await;
    }

    async fn until_ended(&self) {
        loop {
            let listener = self.ended.listen();
            if self.outcome().is_some() {
                return;
            }
            listener.await;
        }
    }
}
