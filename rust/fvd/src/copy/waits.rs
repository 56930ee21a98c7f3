//! What a slot waits for: the start, the user, the end of a pause, the guest, a cap.

use std::future::Future;
use std::time::Duration;

use event_listener::EventListener;
use tracing::{Instrument as _, trace_span};

use super::command::Command;
use super::direction::Direction;
use super::machine::{Admission, Fault};
use super::prefetch::Prefetch;
use super::status::PrefetchState;
use crate::join::race;
use crate::storage::Storage;

/// What a slot wants to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Look for data to move.
    Look,
    /// Move a piece. The guest comes first.
    Move,
}

impl Admission {
    /// Whether prefetch may start. `at`: when it does so without a command of the user; None: never.
    pub(super) fn to_start(command: Command, now: Duration, at: Option<Duration>) -> Self {
        match command {
            Command::Stop => Self::Stop,
            Command::Run => Self::Go,
            Command::Pause => Self::Wait(PrefetchState::Paused, None),
            Command::Start if at.is_some_and(|at| now >= at) => Self::Go,
            Command::Start => Self::Wait(PrefetchState::Waiting, at),
        }
    }
}

impl<S: Storage> Prefetch<'_, S> {
    /// Waits until a slot may go on to `goal`.
    pub(super) async fn admitted(&self, goal: Goal) -> Result<(), Fault> {
        loop {
            let command = self.control.command();
            match self.admission(goal, command) {
                Admission::Stop => return Err(Fault::Stopped),
                Admission::Wait(state, until) => {
                    self.control.enter(state);
                    let span = trace_span!("prefetch_wait", ?state);
                    self.wait(until, command).instrument(span).await;
                }
                Admission::Go => {
                    if goal == Goal::Move {
                        self.control.enter(PrefetchState::Running);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Whether a slot may go on to `goal` now.
    fn admission(&self, goal: Goal, command: Command) -> Admission {
        let now = self.clock.now();
        let admission = self.shared().phase.admission(command, now);
        if goal == Goal::Look || admission != Admission::Go {
            return admission;
        }
        let mut shared = self.look(now);
        let polite = shared.is_polite();
        match shared.foreground.wait(now).filter(|_| polite) {
            Some(wait) => Admission::Wait(PrefetchState::Yielding, Some(now.saturating_add(wait))),
            None => Admission::Go,
        }
    }

    /// Waits until the cap allows `len` more bytes.
    pub(super) async fn pace(&self, direction: Direction, len: u64) -> Result<(), Fault> {
        let at = self.shared().direction(direction).pacer.reserve(self.clock.now(), len);
        while self.clock.now() < at {
            let command = self.control.command();
            if command == Command::Stop || self.outcome().is_some() {
                return Err(Fault::Stopped);
            }
            self.wait(Some(at), command).await;
        }
        Ok(())
    }

    /// Waits until another slot has ended a step (`ended`), or prefetch has ended.
    pub(super) async fn others(&self, ended: EventListener) {
        if self.outcome().is_none() {
            let command = self.control.command();
            race(ended, self.control.command_changes(command)).await;
        }
    }

    /// Runs a read of the base. A stop does not wait for one that does not answer.
    pub(super) async fn unless_stopped<T>(&self, read: impl Future<Output = T>) -> Result<T, Fault> {
        let stopped = async {
            self.control.stopped().await;
            Err(Fault::Stopped)
        };
        race(async { Ok(read.await) }, stopped).await
    }

    /// Waits until the time has come, the command differs from `seen`, or prefetch has ended.
    async fn wait(&self, until: Option<Duration>, seen: Command) {
        race(self.control.wait(self.clock, until, seen), self.until_ended()).await;
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
