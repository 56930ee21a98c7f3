//! Ends of a turn, of a walk over the base, and of prefetch.

use super::control::PrefetchState;
use super::pause::Pause;
use super::prefetch::Prefetch;
use super::take::Step;
use crate::error::{Error, Result};
use crate::join::race;
use crate::storage::Storage;

/// Why a turn of a slot ended early.
pub(super) enum Fault {
    /// The base failed. `failures`: how many failures in a row were counted when the attempt began.
    Base { error: Error, failures: u32 },
    /// The image failed.
    Image(Error),
    /// Prefetch has ended or must end.
    Stopped,
}

impl<S: Storage> Prefetch<'_, S> {
    /// When all ranges have been walked: asks the image whether every block is local.
    pub(super) async fn complete(&self) -> Result<(), Fault> {
        let listener = self.ended.listen();
        let Some(_last) = self.last_step() else {
            if self.outcome().is_none() {
                // Another slot works on the last steps, which may fail.
                let command = self.control.command();
                race(listener, self.control.command_changes(command)).await;
            }
            return Ok(());
        };
        match self.image.complete().await.map_err(Fault::Image)? {
            Some(start) => self.state().work.again(start),
            None => self.end(Ok(()), PrefetchState::Finished),
        }
        Ok(())
    }

    /// A step without bytes, for the slot that comes when all others have ended.
    fn last_step(&self) -> Option<Step<'_, S>> {
        let mut state = self.state();
        if state.outcome.is_some() || !state.work.is_done() {
            return None;
        }
        state.work.begin(false);
        Some(Step {
            prefetch: self,
            bytes: 0..0,
            zeros: false,
            in_parts: false,
            first: false,
        })
    }

    pub(super) fn fault(&self, fault: Fault) {
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
            // The cause of this failure has been counted already.
            return;
        }
        // An error of the operating system may pass. An error without an errno, such as a base that was
        // changed, does not.
        let may_pass = error.errno().is_some();
        let wait = state.backoff.failed(&mut state.rng).filter(|_| may_pass);
        let Some(wait) = wait else {
            drop(guard);
            return self.end(Err(error), PrefetchState::Failed);
        };
        state.hold_until(self.clock.now() + wait, PrefetchState::BackingOff);
        drop(guard);
        self.control.pause_for(Pause::of_failure(wait), |status| {
            status.retries += 1;
            status.error = Some(error);
        });
    }

    fn end(&self, outcome: Result<()>, last: PrefetchState) {
        let mut state = self.state();
        if state.outcome.is_some() {
            return;
        }
        state.outcome = Some(outcome.clone());
        drop(state);
        let local = self.image.local_bytes_counted();
        self.control.update(|status| {
            status.state = last;
            status.local = local;
            status.pause = None;
            (status.read_rate, status.write_rate) = (0, 0);
            status.error = outcome.err();
        });
        self.ended.notify(usize::MAX);
        self.widened.notify(usize::MAX);
    }
}
