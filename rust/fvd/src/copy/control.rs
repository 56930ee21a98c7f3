//! Control: pauses and stops prefetch, and tells how far it is.

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
    /// Waits for a lull of the guest.
    Yielding,
    /// Waits for [`Control::resume`].
    Paused,
    /// Pauses because there is contention.
    Throttled,
    /// The base has failed: it is tried again later.
    BackingOff,
    /// Every block is local, durably so, and the base is never read again.
    Finished,
    /// Has ended with [`PrefetchStatus::error`].
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

/// How far prefetch is.
#[derive(Clone, Debug, Default)]
pub struct PrefetchStatus {
    /// Grows with every change.
    pub version: u64,
    /// What it is doing.
    pub state: PrefetchState,
    /// Bytes of the disk that the base covers: all of them are local in the end.
    pub total: u64,
    /// Those that were local when prefetch last moved something, however they came there; 0 before it has begun.
    /// [`status`](super::status) gives those of now.
    pub local: u64,
    /// Bytes that prefetch itself has read from the base and stored, zeros without taking space; twice, where a
    /// guest has disturbed a large block that is stored in parts.
    pub fetched: u64,
    /// Bytes that prefetch itself has made local without reading them: the base is known to hold zeros there.
    pub zeros: u64,
    /// Bytes a second read from the base, of late.
    pub read_rate: u64,
    /// Bytes a second written, of late.
    pub write_rate: u64,
    /// Pauses because of contention.
    pub pauses: u64,
    /// Failures of the base that were survived.
    pub retries: u64,
    /// Why it pauses on its own, while it does.
    pub pause: Option<Pause>,
    /// Why it has failed, or the last failure of the base.
    pub error: Option<Error>,
}

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Command {
    /// To start when the delay has passed.
    #[default]
    Start,
    Run,
    Pause,
    Stop,
}

#[derive(Default)]
struct Shared {
    /// Who made it. In a forked child it is over: the locks may be held by threads that are not there.
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
    /// How many pauses it has made on its own, whatever the reason, and the last one.
    paused: (u64, Option<Pause>),
}

/// Pauses and stops one prefetch and tells how far it is. Clones are handles to the same.
///
/// In a child that was forked it can do nothing, and says that prefetch has failed, and why.
#[derive(Clone, Default)]
pub struct Control(Arc<Shared>);

impl Control {
    /// For a prefetch that has not started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No further piece is begun; those under way are completed. Nothing happens after `stop`.
    pub fn pause(&self) {
        self.send(Command::Pause);
    }

    /// Ends a pause, and the wait for the start. Nothing happens after `stop`.
    pub fn resume(&self) {
        self.send(Command::Run);
    }

    /// Ends prefetch, and with it [`Background`](super::Background): waits are cut short, pieces
    /// under way are completed. What has been fetched stays. There is no way back.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// How far it is.
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

    /// Waits until the status is another one than that of the version `seen`.
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

    /// The same for a thread, which waits no longer than `timeout`.
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
        // Late or not, what the status is now is the answer.
        let _ = listener.wait_timeout(timeout);
        self.status()
    }

    /// Waits until prefetch has paused on its own more often than `seen` times; gives how often, and why the last
    /// time.
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

    /// Waits until the command is another one.
    pub(super) async fn command_changes(&self, from: Command) {
        loop {
            let listener = self.0.commanded.listen();
            if self.command() != from {
                return;
            }
            listener.await;
        }
    }

    /// Waits until it is stopped.
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

    /// Sleeps until the time has passed or the command is another one than `seen`, by which the caller
    /// decided to sleep.
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

    /// Prefetch pauses on its own.
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

    /// A prefetch of `total` bytes is about to start, or has nothing to do.
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

    /// Changes what prefetch is said to do, unless it has ended.
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

    /// No sleep is ever over.
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
    fn a_sleep_decided_on_before_a_stop_is_over_at_once() {
        let control = Control::new();
        let seen = control.command();
        control.stop();
        // With the command of now instead, nothing would ever wake it.
        block_on(control.sleep(&Endless, Duration::from_secs(1), seen));
    }
}
