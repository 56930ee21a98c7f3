//! Prefetch: the whole base, front to back, until the image needs it no more.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event;

use super::backoff::Backoff;
use super::control::{Control, PrefetchState, Wish};
use super::foreground::Foreground;
use super::join::{join_all, race, yield_now};
use super::lane::{Lane, Way};
use super::options::PrefetchOptions;
use super::work::Work;
use crate::error::{Error, Result};
use crate::host::{BoxFuture, Clock};
use crate::image::Image;
use crate::source::Content;
use crate::storage::Storage;

/// Known zeros that are made local at once at most, bytes.
const ZEROS_STEP: u64 = 64 << 20;

/// Fetches what is still in the base, in [`PrefetchOptions::slots`] pieces at once.
///
/// Dropped at any moment it leaves the image as it is; another one goes on from there.
pub struct Prefetch<'a, S> {
    pub(super) image: &'a Image<S>,
    pub(super) options: PrefetchOptions,
    pub(super) control: Control,
    pub(super) clock: &'a dyn Clock,
    state: Mutex<State>,
    /// A step has ended, or all of prefetch.
    ended: Event,
}

/// What the slots share. Held for moments, never over I/O.
pub(super) struct State {
    pub(super) work: Work,
    read: Lane,
    write: Lane,
    pub(super) foreground: Foreground,
    pub(super) backoff: Backoff,
    pub(super) rng: fastrand::Rng,
    /// Nothing is begun before, and why.
    pub(super) hold: Option<(Duration, PrefetchState)>,
    /// Bytes stored since the last checkpoint, and when that was.
    pub(super) unsaved: u64,
    pub(super) saved_at: Duration,
    outcome: Option<Result<()>>,
}

impl State {
    pub(super) fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Read => &mut self.read,
            Way::Write => &mut self.write,
        }
    }
}

/// Why a turn of a slot ended early.
pub(super) enum Fault {
    /// The base failed; so many failures in a row had been counted when the attempt began.
    Base { error: Error, failures: u32 },
    /// The image failed.
    Image(Error),
    /// Prefetch has ended, or is to end.
    Stopped,
}

/// A range that one slot works on; given back when dropped.
pub(super) struct Step<'a, S: Storage> {
    prefetch: &'a Prefetch<'a, S>,
    /// Whole blocks, as bytes of the disk.
    pub(super) bytes: Range<u64>,
    /// Known zeros.
    pub(super) zeros: bool,
    /// One block that is moved part by part.
    pub(super) in_parts: bool,
}

impl<S: Storage> Drop for Step<'_, S> {
    fn drop(&mut self) {
        self.prefetch.state().work.end();
        self.prefetch.ended.notify(usize::MAX);
    }
}

/// What there is to do for a slot.
enum Turn<'a, S: Storage> {
    Step(Step<'a, S>),
    /// Something was walked that needs nothing.
    Walked,
    /// Everything has been walked.
    Nothing,
}

impl<'a, S: Storage> Prefetch<'a, S> {
    /// Of `image`, which is open for writing: `first` (bytes of the disk) in this order, and
    /// then everything. `seed` decides the random pauses.
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
        control.update(|status| status.total = total);
        let state = State {
            work: Work::new(first, total),
            read: Lane::new(Way::Read, &options, now),
            write: Lane::new(Way::Write, &options, now),
            foreground: Foreground::new(options.lull, options.longest_yield, image.requests()),
            backoff: Backoff::new(options.first_backoff, options.longest_backoff, options.retries),
            rng: fastrand::Rng::with_seed(seed),
            hold: None,
            unsaved: 0,
            saved_at: now,
            outcome: None,
        };
        Self {
            image,
            options,
            control,
            clock,
            state: Mutex::new(state),
            ended: Event::new(),
        }
    }

    /// All slots in one future, for a host whose storage does not block.
    ///
    /// Ends when every block is local, durably so, and the header says it; when it is stopped;
    /// or with the error of the base, after the last retry, or of the image.
    pub async fn run(&self) -> Result<()> {
        let slots = (0..self.options.slots).map(|_| -> BoxFuture<'_, ()> {
            Box::pin(async {
                // The outcome is that of all slots.
                let _ = self.slot().await;
            })
        });
        join_all(slots.collect()).await;
        self.outcome().unwrap_or(Ok(()))
    }

    /// One slot, for a host that drives each of them on a thread of its own: call this
    /// [`Prefetch::slots`] times. All of them end together, as [`Prefetch::run`] does.
    pub async fn slot(&self) -> Result<()> {
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

    /// One slot until all of `first` has been taken, or prefetch has ended; [`Prefetch::slot`] goes
    /// on from there.
    pub async fn slot_of_first(&self) {
        while self.outcome().is_none() && self.state().work.front_of_first().is_some() {
            if let Err(fault) = self.turn_of_first().await {
                self.fault(fault);
            }
            yield_now().await;
        }
    }

    /// How many slots there are to be.
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

    /// Takes what is to be fetched next.
    async fn take(&self) -> Result<Turn<'_, S>, Fault> {
        let front = self.state().work.front();
        match front {
            Some(front) => self.take_from(front).await,
            None => Ok(Turn::Nothing),
        }
    }

    /// Takes from what was next a moment ago.
    async fn take_from(&self, front: Range<u64>) -> Result<Turn<'_, S>, Fault> {
        let found = self.image.next_in_base(front.start, front.end).await;
        let run = match found.map_err(Fault::Image)? {
            Some(run) if !run.is_empty() => run,
            walked => {
                let stop = walked.map_or(front.end, |run| run.end);
                self.walk(&front, stop, stop);
                return Ok(Turn::Walked);
            }
        };
        let failures = self.state().backoff.failures();
        let content = self.image.base_status(run.start, run.end - run.start).await;
        let block = self.image.geometry().block_size;
        let piece = self.piece_len();
        // What failed may fail because of one bad block: the others are fetched all the same.
        let len = ((piece >> failures.min(16)) / block * block).max(block);
        let mut stop = run.end.min(run.start + len);
        let mut zeros = false;
        if let Ok(found) = &content
            && found.content == Content::Zero
        {
            let end = run.start + found.len;
            let whole = if end >= run.end {
                run.end
            } else {
                end - found.len % block
            };
            zeros = whole > run.start;
            let most = run.start + (ZEROS_STEP / block * block).max(block);
            stop = if zeros { whole.min(most) } else { stop };
        }
        if !self.walk(&front, run.start, stop) {
            return Ok(Turn::Walked);
        }
        let step = Step {
            prefetch: self,
            bytes: run.start..stop,
            zeros,
            in_parts: block > piece,
        };
        match content {
            Ok(_) => Ok(Turn::Step(step)),
            Err(error) => Err(Fault::Base { error, failures }),
        }
    }

    /// Walks to `stop`; what lies before `found`, the start of a step if there is one, is local.
    /// False: another slot was faster.
    fn walk(&self, front: &Range<u64>, found: u64, stop: u64) -> bool {
        let mut state = self.state();
        if !state.work.advance(front, stop) {
            return false;
        }
        state.work.found_local(front.start..found.max(front.start));
        if found < stop {
            state.work.begin();
        }
        let local = state.work.local_bytes();
        drop(state);
        self.control.update(|status| status.local = local);
        true
    }

    /// When nothing is left: asks the image, which knows.
    async fn complete(&self) -> Result<(), Fault> {
        let listener = self.ended.listen();
        let is_done = {
            let mut state = self.state();
            let is_done = state.work.is_done();
            if is_done {
                state.work.begin();
            }
            is_done
        };
        if !is_done {
            // Another slot works on the last steps; they may fail.
            let wish = self.control.wish();
            race(listener, self.control.wish_changes(wish)).await;
            return Ok(());
        }
        let _alone = Step {
            prefetch: self,
            bytes: 0..0,
            zeros: false,
            in_parts: false,
        };
        let missing = match self.image.base() {
            Some(_) => self.image.complete().await.map_err(Fault::Image)?,
            None => None,
        };
        match missing {
            Some(start) => self.state().work.again(start),
            None => self.end(Ok(()), PrefetchState::Finished),
        }
        Ok(())
    }

    fn fault(&self, fault: Fault) {
        match fault {
            Fault::Stopped => self.end(Ok(()), PrefetchState::Stopped),
            Fault::Image(error) => self.end(Err(error), PrefetchState::Failed),
            Fault::Base { error, failures } => self.base_failed(error, failures),
        }
    }

    fn base_failed(&self, error: Error, failures: u32) {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.backoff.failures() != failures {
            // What made this one fail has been counted, and is waited for.
            return;
        }
        // What the operating system reports may pass; a base that has changed is another one.
        let may_pass = error.errno().is_some();
        let wait = state.backoff.failed(&mut state.rng).filter(|_| may_pass);
        let Some(wait) = wait else {
            drop(guard);
            return self.end(Err(error), PrefetchState::Failed);
        };
        state.hold = Some((self.clock.now() + wait, PrefetchState::BackingOff));
        drop(guard);
        self.control.update(|status| {
            status.retries += 1;
            status.error = Some(error);
        });
    }

    fn end(&self, outcome: Result<()>, last: PrefetchState) {
        let mut state = self.state();
        if state.outcome.is_some() {
            return;
        }
        let local = state.work.local_bytes();
        state.outcome = Some(outcome.clone());
        drop(state);
        self.control.update(|status| {
            status.state = last;
            status.local = if last == PrefetchState::Finished {
                status.total
            } else {
                local
            };
            (status.read_rate, status.write_rate) = (0, 0);
            status.error = outcome.err();
        });
        self.ended.notify(usize::MAX);
    }

    /// Waits until nothing holds prefetch back: its user, contention, a base that failed.
    pub(super) async fn admitted(&self) -> Result<(), Fault> {
        loop {
            if self.outcome().is_some() {
                return Err(Fault::Stopped);
            }
            match self.control.wish() {
                Wish::Stop => return Err(Fault::Stopped),
                Wish::Pause => {
                    self.control.enter(PrefetchState::Paused);
                    race(self.control.wish_changes(Wish::Pause), self.until_ended()).await;
                    continue;
                }
                Wish::Start | Wish::Run => {}
            }
            let now = self.clock.now();
            let hold = self.state().hold.filter(|(until, _)| now < *until);
            let Some((until, state)) = hold else {
                return Ok(());
            };
            self.control.enter(state);
            self.sleep(until.saturating_sub(now)).await;
        }
    }

    /// Sleeps until the time has passed, the wish of the user changes, or prefetch has ended.
    pub(super) async fn sleep(&self, time: Duration) {
        race(self.control.sleep(self.clock, time), self.until_ended()).await;
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
