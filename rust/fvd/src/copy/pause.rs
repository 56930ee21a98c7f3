//! A pause that prefetch makes on its own, and its reason.

use std::fmt::{Display, Formatter};
use std::time::Duration;

use super::status::PrefetchState;
use super::throttle::Fall;

/// Why prefetch pauses on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PauseReason {
    /// Reads of the base have become slow: other users seem to use it too.
    SlowReads,
    /// Writes to the image have become slow.
    SlowWrites,
    /// The base has failed.
    BaseFails,
    /// The base did not answer in the time that the user allows.
    BaseAway,
}

impl PauseReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::SlowReads, Self::SlowWrites, Self::BaseFails, Self::BaseAway];

    /// A name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowReads => "slow-reads",
            Self::SlowWrites => "slow-writes",
            Self::BaseFails => "base-fails",
            Self::BaseAway => "base-away",
        }
    }

    /// The state of prefetch in the pause.
    pub(super) fn state(self) -> PrefetchState {
        match self {
            Self::SlowReads | Self::SlowWrites => PrefetchState::Throttled,
            Self::BaseFails => PrefetchState::BackingOff,
            Self::BaseAway => PrefetchState::BaseAway,
        }
    }
}

/// A pause that prefetch makes on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The reason.
    pub reason: PauseReason,
    /// Its length.
    pub time: Duration,
    /// Bytes per second before the pause. 0 if the base has failed.
    pub rate: u64,
    /// The best recent rate, in bytes per second. 0 if the base has failed.
    pub best_rate: u64,
}

impl Pause {
    pub(super) fn of_fall(reason: PauseReason, fall: &Fall, time: Duration) -> Self {
        Self {
            reason,
            time,
            rate: fall.now.rate,
            best_rate: fall.best.rate,
        }
    }

    pub(super) fn of_failure(reason: PauseReason, time: Duration) -> Self {
        Self {
            reason,
            time,
            rate: 0,
            best_rate: 0,
        }
    }
}

impl Display for Pause {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let seconds = self.time.as_secs_f64();
        let what = match self.reason {
            PauseReason::BaseFails => return write!(f, "the base fails; tried again in {seconds:.1} s"),
            PauseReason::BaseAway => return write!(f, "the base does not answer; tried again in {seconds:.1} s"),
            PauseReason::SlowReads => "reads of the base have slowed down",
            PauseReason::SlowWrites => "writes to the image have slowed down",
        };
        let kib = |rate: u64| rate >> 10;
        let (rate, best) = (kib(self.rate), kib(self.best_rate));
        write!(
            f,
            "{what} to {rate} KiB/s, from {best} KiB/s of late; a pause of {seconds:.1} s"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_says_why_and_for_how_long() {
        let pause = Pause {
            reason: PauseReason::SlowReads,
            time: Duration::from_millis(2345),
            rate: 700 << 10,
            best_rate: 50 << 20,
        };
        let expected = "reads of the base have slowed down to 700 KiB/s, from 51200 KiB/s of late; a pause of 2.3 s";
        assert_eq!(pause.to_string(), expected);
        let failed = Pause::of_failure(PauseReason::BaseFails, Duration::from_secs(3));
        assert_eq!(failed.to_string(), "the base fails; tried again in 3.0 s");
    }
}
