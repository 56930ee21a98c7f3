//! Pauses and stops prefetch, and passes on what it reports.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::{Event, Listener as _};
use tracing::debug;

use super::command::Command;
use super::pause::Pause;
use super::status::{PrefetchState, PrefetchStatus};
use crate::host::Clock;
use crate::join::race;
use crate::process::Process;

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
    rate: Option<u64>,
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

    /// From the next piece on, at most this many bytes are read in a second, and no more than the options of the
    /// image allow. None: only they limit it. 0 counts as 1.
    pub fn set_rate(&self, rate: Option<u64>) {
        if !self.is_forked() {
            self.inner().rate = rate.map(|rate| rate.max(1));
        }
    }

    pub(super) fn rate(&self) -> Option<u64> {
        if self.is_forked() { None } else { self.inner().rate }
    }

    /// The current status.
    #[must_use]
    pub fn status(&self) -> PrefetchStatus {
        match self.0.process.check() {
            Ok(()) => self.inner().status.clone(),
            Err(error) => PrefetchStatus::failed(error),
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

    /// Waits until the time has come (None: without a limit), or the command differs from `seen`, the one on
    /// which the decision to wait was based.
    pub(super) async fn wait(&self, clock: &dyn Clock, until: Option<Duration>, seen: Command) {
        let commanded = self.command_changes(seen);
        match until {
            None => commanded.await,
            Some(until) => race(clock.sleep(until.saturating_sub(clock.now())), commanded).await,
        }
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
        debug!(
            reason = pause.reason.name(),
            pause_ms = pause.time.as_millis() as u64,
            "prefetch pauses: {pause}"
        );
        {
            let mut inner = self.inner();
            inner.paused = (inner.paused.0 + 1, Some(pause));
        }
        self.update(|status| {
            status.pause(pause);
            change(status);
        });
        self.0.pausing.notify(usize::MAX);
    }

    /// Changes the state, unless prefetch has ended.
    pub(super) fn enter(&self, state: PrefetchState) {
        if self.inner().status.can_enter(state) {
            self.update(|status| status.enter(state));
        }
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
        // If `wait` took the current command instead of `seen`, nothing would ever wake it.
        block_on(control.wait(&Endless, Some(Duration::from_secs(1)), seen));
    }
}
