//! Backoff: a base that fails is left alone for a while, longer each time.

use std::time::Duration;

use super::throttle::random;

/// Failures in a row, and what follows from them.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    retries: u32,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration, retries: u32) -> Self {
        Self {
            first,
            longest,
            retries,
            failures: 0,
        }
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// One more failure: how long to wait; None: there have been too many.
    ///
    /// Half of the time is random, so that hosts that lost one server do not come back at once.
    pub(super) fn failed(&mut self, rng: &mut fastrand::Rng) -> Option<Duration> {
        self.failures += 1;
        if self.failures > self.retries {
            return None;
        }
        let doublings = (self.failures - 1).min(30);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        Some(whole / 2 + random(whole / 2, rng))
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}
