//! The state machine of prefetch, on two levels (`docs/design/copies.md`, "Prefetch", has a drawing).
//!
//! The *run* is one for all slots and helpers: its [`Phase`] says whether they may go on. A *slot* makes one
//! turn after the other: its [`Stage`] is what it does in a turn. What a stage does is elsewhere (`take.rs`,
//! `step.rs`, `account.rs`, `waits.rs`), and returns what has happened. What comes next is decided here.

use std::time::Duration;

use tracing::info;

use super::command::Command;
use super::pause::{Pause, PauseReason};
use super::prefetch::Prefetch;
use super::status::{PrefetchState, is_late};
use super::step::{Fetched, Step, Stored};
use super::take::{Ranges, Taken};
use super::waits::Goal;
use crate::error::{Error, Result};
use crate::join::yield_now;
use crate::storage::Storage;

/// What all slots may do.
#[derive(Debug)]
pub(super) enum Phase {
    /// Move data.
    Open,
    /// Begin nothing before `until`: prefetch pauses on its own.
    Held { until: Duration, state: PrefetchState },
    /// Nothing more.
    Ended(End),
}

/// Why prefetch has ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Every block is local and durable.
    Finished,
    /// By the user.
    Stopped,
    /// The base has failed too often, or the image has failed.
    Failed(Error),
}

/// What a slot does in a turn.
enum Stage<'a, S: Storage> {
    /// Waits until nothing holds prefetch back.
    Admit,
    /// Looks for the next step.
    Take,
    /// Reads the step, or the next part of it, from the base.
    Fetch(Step<'a, S>),
    /// Stores what was read.
    Store(Step<'a, S>, Fetched),
    /// The step is done: makes a checkpoint if one is due.
    Save(Step<'a, S>),
    /// Everything has been walked: asks the image whether every block is local.
    Complete,
    /// The turn is over.
    Over,
}

/// Why a turn ended early.
pub(super) enum Fault {
    /// The base failed. `failures`: how many failures in a row were counted when the attempt began.
    Base { error: Error, failures: u32 },
    /// The image failed.
    Image(Error),
    /// Prefetch has ended or must end.
    Stopped,
}

/// The answer to a slot that wants to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Go,
    /// Wait in this state until that time (None: without a limit), or until the user's command changes.
    Wait(PrefetchState, Option<Duration>),
    Stop,
}

impl Phase {
    /// Nothing begins until `pause` is over, unless a longer one holds already.
    pub(super) fn hold(&mut self, now: Duration, pause: &Pause) {
        let until = now.saturating_add(pause.time);
        let state = pause.reason.state();
        match self {
            Self::Held { until: held, .. } if *held >= until => {}
            Self::Open | Self::Held { .. } => *self = Self::Held { until, state },
            Self::Ended(_) => {}
        }
    }

    /// False if prefetch has ended before.
    fn end(&mut self, end: End) -> bool {
        let ends = !matches!(self, Self::Ended(_));
        if ends {
            *self = Self::Ended(end);
        }
        ends
    }

    /// None while prefetch has not ended.
    pub(super) fn outcome(&self) -> Option<Result<()>> {
        match self {
            Self::Ended(End::Finished | End::Stopped) => Some(Ok(())),
            Self::Ended(End::Failed(error)) => Some(Err(error.clone())),
            Self::Open | Self::Held { .. } => None,
        }
    }

    /// Whether a slot may go on. The user comes before a pause of prefetch's own, and does not cut it short.
    pub(super) fn admission(&self, command: Command, now: Duration) -> Admission {
        match (self, command) {
            (Self::Ended(_), _) | (_, Command::Stop) => Admission::Stop,
            (_, Command::Pause) => Admission::Wait(PrefetchState::Paused, None),
            (Self::Held { until, state }, _) if now < *until => Admission::Wait(*state, Some(*until)),
            (Self::Open | Self::Held { .. }, Command::Start | Command::Run) => Admission::Go,
        }
    }
}

impl<S: Storage> Prefetch<'_, S> {
    /// One turn of a slot: at most one step among `ranges`.
    pub(super) async fn turn(&self, ranges: Ranges) {
        if let Err(fault) = self.stages(ranges).await {
            self.faulted(fault);
        }
        yield_now().await;
    }

    async fn stages(&self, ranges: Ranges) -> Result<(), Fault> {
        let mut stage = Stage::Admit;
        loop {
            stage = match stage {
                Stage::Admit => {
                    self.image.check_writable().map_err(Fault::Image)?;
                    self.admitted(Goal::Look).await?;
                    Stage::Take
                }
                Stage::Take => match self.take(ranges).await? {
                    Taken::Step(step) => Stage::Fetch(step),
                    Taken::Walked => Stage::Over,
                    Taken::Nothing if ranges == Ranges::First => Stage::Over,
                    Taken::Nothing => Stage::Complete,
                },
                Stage::Fetch(step) => {
                    let fetched = self.fetch(&step).await?;
                    Stage::Store(step, fetched)
                }
                Stage::Store(mut step, fetched) => match self.store(&mut step, fetched).await? {
                    Stored::Part(amount) => {
                        self.count(amount);
                        Stage::Fetch(step)
                    }
                    Stored::All(amount) => {
                        self.count(amount);
                        Stage::Save(step)
                    }
                    Stored::Local => Stage::Save(step),
                    // The next walk finds the block again.
                    Stored::Disturbed => Stage::Over,
                },
                Stage::Save(step) => {
                    self.succeeded();
                    drop(step);
                    self.checkpoint_if_due().await?;
                    Stage::Over
                }
                Stage::Complete => {
                    self.complete().await?;
                    Stage::Over
                }
                Stage::Over => return Ok(()),
            };
        }
    }

    /// The bitmap decides: prefetch has finished, or walks again from the first block that is missing (P1).
    async fn complete(&self) -> Result<(), Fault> {
        let ended = self.ended.listen();
        let Some(_last) = self.last_step() else {
            // Another slot works on the last steps, which may fail.
            self.others(ended).await;
            return Ok(());
        };
        match self.image.complete().await.map_err(Fault::Image)? {
            Some(start) => self.shared().work.again(start),
            None => self.end(End::Finished),
        }
        Ok(())
    }

    pub(super) fn faulted(&self, fault: Fault) {
        match fault {
            Fault::Stopped => self.end(End::Stopped),
            Fault::Image(error) => self.end(End::Failed(error)),
            Fault::Base { error, failures } => self.base_failed(error, failures),
        }
    }

    /// All slots wait and try again, or prefetch ends.
    fn base_failed(&self, error: Error, failures: u32) {
        let mut guard = self.shared();
        let shared = &mut *guard;
        if shared.backoff.failures() != failures {
            // The cause of this failure has been counted already.
            return;
        }
        // An error of the operating system may pass. An error without an errno, such as a base that was
        // changed, does not.
        let may_pass = error.errno().is_some();
        let reason = if is_late(&error) {
            PauseReason::BaseAway
        } else {
            PauseReason::BaseFails
        };
        let wait = shared.backoff.failed(reason, &mut shared.rng).filter(|_| may_pass);
        let Some(pause) = wait.map(|wait| Pause::of_failure(reason, wait)) else {
            drop(guard);
            return self.end(End::Failed(error));
        };
        shared.phase.hold(self.clock.now(), &pause);
        drop(guard);
        self.control.pause_for(pause, |status| {
            status.retries += 1;
            status.error = Some(error);
        });
    }

    fn end(&self, end: End) {
        if !self.shared().phase.end(end.clone()) {
            return;
        }
        let (state, error) = match end {
            End::Finished => (PrefetchState::Finished, None),
            End::Stopped => (PrefetchState::Stopped, None),
            End::Failed(error) => (PrefetchState::Failed, Some(error)),
        };
        info!(
            ?state,
            error = error.as_ref().map(tracing::field::display),
            "prefetch ends"
        );
        let local = self.image.local_bytes_counted();
        self.control.update(|status| {
            status.local = local;
            status.end(state, error);
        });
        self.ended.notify(usize::MAX);
        self.widened.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests;
