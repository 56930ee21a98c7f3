//! Pauses and stops prefetch, and reports its progress.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::{Event, Listener as _};

use super::pause::{Pause, PauseReason};
use crate::error::Error;
use crate::host::Clock;
use crate::join::race;
use crate::process::Process;

/// What prefetch is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrefetchState {
    /// Has not started: its delay has not passed, or it waits for [`Control::resume`].
    #[default]
    Waiting,
    /// Fetches.
    Running,
    /// Waits until the guest is idle.
    Yielding,
    /// Waits for [`Control::resume`].
    Paused,
    /// Pauses because of contention.
    Throttled,
    /// Waits before it tries again, because the base has failed.
    BackingOff,
    /// Every block is local and durable. The base is never read again.
    Finished,
    /// Has failed: see [`PrefetchStatus::error`].
    Failed,
    /// Has ended because of [`Control::stop`].
    Stopped,
}

impl PrefetchState {
    /// Whether prefetch has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Stopped)
    }
}

/// Progress of prefetch.
#[derive(Clone, Debug, Default)]
pub struct PrefetchStatus {
    /// Grows with every change.
    pub version: u64,
    /// What it is doing.
    pub state: PrefetchState,
    /// Bytes of the disk that the base covers. In the end all of them are local.
    pub total: u64,
    /// Bytes that were local when prefetch last moved something, whatever made them local. 0 before it has
    /// begun. [`status`](super::status) returns the current number.
    pub local: u64,
    /// Bytes that prefetch itself has read from the base and stored. Zeros among them take no space. Bytes
    /// count again if a large block, which is stored in parts, must be stored anew because the guest wrote to
    /// it.
    pub fetched: u64,
    /// Bytes that prefetch itself has made local without reading them, because the base is known to hold
    /// zeros there.
    pub zeros: u64,
    /// Recent reads from the base, in bytes per second.
    pub read_rate: u64,
    /// Recent writes, in bytes per second.
    pub write_rate: u64,
    /// Number of pauses because of contention.
    pub pauses: u64,
    /// Number of failures of the base after which prefetch continued.
    pub retries: u64,
    /// The pause that prefetch makes on its own at the moment, if any.
    pub pause: Option<Pause>,
    /// Why prefetch has failed, or the last failure of the base.
    pub error: Option<Error>,
}

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Command {
    /// Start when the delay has passed.
    #[default]
    Start,
    Run,
    Pause,
    Stop,
}

#[derive(Default)]
struct Shared {
    /// The process that made it. Useless in a forked child: threads that the child lacks may hold the locks.
    process: Process,
    inner: Mutex<Inner>,
    commanded: Event,
    changed: Event,
    pausing: Event,
}

#[derive(Default)]
struct Inner {
    command: Command,
    status: PrefetchStatus,
    /// The number of pauses that prefetch made on its own, for any reason, and the last one.
    paused: (u64, Option<Pause>),
}

/// Pauses and stops one prefetch, and reports its progress. Clones are handles to the same prefetch.
///
/// In a forked child it does nothing, and its status says that prefetch has failed, and why.
#[derive(Clone, Default)]
pub struct Control(Arc<Shared>);

impl Control {
    /// The control of a prefetch that has not started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins no further piece; pieces in flight are completed. Does nothing after [`Control::stop`].
    pub fn pause(&self) {
        self.send(Command::Pause);
    }

    /// Ends a pause or the wait for the start. Does nothing after [`Control::stop`].
    pub fn resume(&self) {
        self.send(Command::Run);
    }

    /// Ends prefetch, and with it [`Background`](super::Background). Waits are cut short, pieces in flight
    /// are completed. What has been fetched stays. This is final.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// The current status.
    #[must_use]
    pub fn status(&self) -> PrefetchStatus {
        match self.0.process.check() {
            Ok(()) => self.inner().status.clone(),
            Err(error) => PrefetchStatus {
                state: PrefetchState::Failed,
                error: Some(error),
                ..PrefetchStatus::default()
            },
        }
    }

    fn is_forked(&self) -> bool {
        !self.0.process.is_current()
    }

    /// Waits until the version of the status differs from `seen`.
    pub async fn changed(&self, seen: u64) -> PrefetchStatus {
        loop {
            if self.is_forked() {
                return self.status();
            }
            let listener = self.0.changed.listen();
            let status = self.status();
            if status.version != seen {
                return status;
            }
            listener.await;
        }
    }

    /// The same for a thread, which waits for `timeout` at most.
    #[must_use]
    pub fn changed_within(&self, seen: u64, timeout: Duration) -> PrefetchStatus {
        if self.is_forked() {
            return self.status();
        }
        let listener = self.0.changed.listen();
        let status = self.status();
        if status.version != seen {
            return status;
        }
        // After a timeout, too, the current status is the answer.
        let _ = listener.wait_timeout(timeout);
        self.status()
    }

    /// Waits until prefetch has paused on its own more than `seen` times. Returns the number of pauses, and
    /// the last one. Never returns in a forked child.
    pub async fn pauses(&self, seen: u64) -> (u64, Pause) {
        loop {
            if self.is_forked() {
                return std::future::pending().await;
            }
            let listener = self.0.pausing.listen();
            let (count, pause) = self.inner().paused;
            if let Some(pause) = pause.filter(|_| count > seen) {
                return (count, pause);
            }
            listener.await;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, command: Command) {
        if self.is_forked() {
            return;
        }
        let mut inner = self.inner();
        if inner.command == Command::Stop {
            return;
        }
        inner.command = command;
        drop(inner);
        self.0.commanded.notify(usize::MAX);
    }

    pub(super) fn command(&self) -> Command {
        if self.is_forked() {
            return Command::Stop;
        }
        self.inner().command
    }

    /// Waits until the command differs from `from`.
    pub(super) async fn command_changes(&self, from: Command) {
        loop {
            let listener = self.0.commanded.listen();
            if self.command() != from {
                return;
            }
            listener.await;
        }
    }

    /// Waits for a stop.
    pub(super) async fn stopped(&self) {
        loop {
            match self.command() {
                Command::Stop => return,
                other => self.command_changes(other).await,
            }
        }
    }

    /// Waits until every block is local.
    pub(super) async fn finished(&self) {
        let mut status = self.status();
        while status.state != PrefetchState::Finished {
            status = self.changed(status.version).await;
        }
    }

    /// Sleeps until the time has passed, or the command differs from `seen`, the one on which the decision to
    /// sleep was based.
    pub(super) async fn sleep(&self, clock: &dyn Clock, time: Duration, seen: Command) {
        race(clock.sleep(time), self.command_changes(seen)).await;
    }

    /// Changes the status.
    pub(super) fn update(&self, change: impl FnOnce(&mut PrefetchStatus)) {
        let mut inner = self.inner();
        change(&mut inner.status);
        inner.status.version += 1;
        drop(inner);
        self.0.changed.notify(usize::MAX);
    }

    /// Reports a pause that prefetch makes on its own.
    pub(super) fn pause_for(&self, pause: Pause, change: impl FnOnce(&mut PrefetchStatus)) {
        if self.is_forked() {
            return;
        }
        {
            let mut inner = self.inner();
            inner.paused = (inner.paused.0 + 1, Some(pause));
        }
        self.update(|status| {
            if !status.state.is_final() {
                status.state = match pause.reason {
                    PauseReason::BaseFails => PrefetchState::BackingOff,
                    PauseReason::SlowReads | PauseReason::SlowWrites => PrefetchState::Throttled,
                };
                status.pause = Some(pause);
            }
            change(status);
        });
        self.0.pausing.notify(usize::MAX);
    }

    /// Resets the status: a prefetch of `total` bytes is about to start, or has nothing to do.
    pub(super) fn begin(&self, total: u64, finished: bool) {
        let state = if finished {
            PrefetchState::Finished
        } else {
            PrefetchState::Waiting
        };
        self.update(|status| {
            *status = PrefetchStatus {
                version: status.version,
                state,
                total,
                ..PrefetchStatus::default()
            };
        });
    }

    /// Changes the state, unless prefetch has ended.
    pub(super) fn enter(&self, state: PrefetchState) {
        let now = self.inner().status.state;
        if now == state || now.is_final() {
            return;
        }
        self.update(|status| {
            status.state = state;
            if !matches!(state, PrefetchState::Throttled | PrefetchState::BackingOff) {
                status.pause = None;
            }
            if !matches!(state, PrefetchState::Running | PrefetchState::Yielding) {
                (status.read_rate, status.write_rate) = (0, 0);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use pollster::block_on;

    use super::*;
    use crate::host::BoxFuture;

    /// A clock whose sleeps never end.
    struct Endless;

    impl Clock for Endless {
        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'_, ()> {
            Box::pin(pending())
        }
    }

    #[test]
    fn a_stop_before_a_sleep_ends_it_at_once() {
        let control = Control::new();
        let seen = control.command();
        control.stop();
        // If `sleep` took the current command instead of `seen`, nothing would ever wake it.
        block_on(control.sleep(&Endless, Duration::from_secs(1), seen));
    }
}
