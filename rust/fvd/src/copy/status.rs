//! What prefetch reports: its state and its progress.

use rustix::io::Errno;

use super::control::Control;
use super::pause::Pause;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::remote::OutageState;
use crate::source::BaseSource;
use crate::storage::Storage;

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
    /// Waits for a base that does not answer.
    BaseAway,
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

    /// Whether it pauses on its own.
    fn is_pause(self) -> bool {
        matches!(self, Self::Throttled | Self::BackingOff | Self::BaseAway)
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
    /// The outage of the store of the base, while there is one and prefetch has not ended.
    /// [`status`](super::status) looks for it.
    pub outage: Option<OutageState>,
    /// Why prefetch has failed, or the last failure of the base.
    pub error: Option<Error>,
}

impl PrefetchStatus {
    /// A prefetch of `total` bytes is about to start, or has nothing to do.
    pub(super) fn begin(&mut self, total: u64, finished: bool) {
        let state = if finished {
            PrefetchState::Finished
        } else {
            PrefetchState::Waiting
        };
        *self = Self {
            version: self.version,
            state,
            total,
            ..Self::default()
        };
    }

    /// The status of a prefetch that cannot be asked.
    pub(super) fn failed(error: Error) -> Self {
        Self {
            state: PrefetchState::Failed,
            error: Some(error),
            ..Self::default()
        }
    }

    /// Whether it must change to be in `state`. Prefetch that has ended stays as it is.
    pub(super) fn can_enter(&self, state: PrefetchState) -> bool {
        self.state != state && !self.state.is_final()
    }

    /// Changes the state.
    pub(super) fn enter(&mut self, state: PrefetchState) {
        self.state = state;
        if !state.is_pause() {
            self.pause = None;
        }
        if !matches!(state, PrefetchState::Running | PrefetchState::Yielding) {
            (self.read_rate, self.write_rate) = (0, 0);
        }
    }

    /// A pause that prefetch makes on its own has begun.
    pub(super) fn pause(&mut self, pause: Pause) {
        if !self.state.is_final() {
            self.state = pause.reason.state();
            self.pause = Some(pause);
        }
    }

    /// Whether the last failure of the base was that it did not answer in the time that the user allows.
    #[must_use]
    pub fn was_base_late(&self) -> bool {
        self.error.as_ref().is_some_and(is_late)
    }

    /// What would fetch waits for the store instead.
    fn tell_outage(&mut self) {
        if self.state.is_final() {
            self.outage = None;
        }
        if self.outage.is_some() && matches!(self.state, PrefetchState::Running | PrefetchState::Yielding) {
            self.enter(PrefetchState::BaseAway);
        }
    }

    /// Prefetch has ended in `state`.
    pub(super) fn end(&mut self, state: PrefetchState, error: Option<Error>) {
        self.state = state;
        self.pause = None;
        (self.read_rate, self.write_rate) = (0, 0);
        self.error = error;
    }
}

pub(super) fn is_late(error: &Error) -> bool {
    error.errno() == Some(Errno::TIMEDOUT.raw_os_error())
}

/// The progress of prefetch of `image`. Without a `control`, none runs. Counts the bytes that are local now:
/// the first call may read the bitmap ([`Image::local_bytes`]).
pub async fn status<S: Storage>(image: &Image<S>, control: Option<&Control>) -> Result<PrefetchStatus> {
    let mut status = control.map_or_else(PrefetchStatus::default, Control::status);
    if image.base().is_none() {
        status.state = PrefetchState::Finished;
        return Ok(status);
    }
    status.total = image.base_size();
    status.local = image.local_bytes().await?;
    status.outage = image.base().and_then(BaseSource::outage);
    status.tell_outage();
    Ok(status)
}
