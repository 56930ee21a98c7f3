//! Backoff: how long prefetch must wait after each failure of the base, longer each time. This only computes the
//! time: `admitted` (`waits.rs`) waits, and `machine.rs` tries again. A guest's read is not tried again.

use std::time::Duration;

use super::pause::PauseReason;
use super::throttle::random;

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    retries: u32,
    failures: u32,
    /// Those among them that retries are for.
    counted: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration, retries: u32) -> Self {
        Self {
            first,
            longest,
            retries,
            failures: 0,
            counted: 0,
        }
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts one more failure. Returns how long to wait, or None after too many failures. A base that is only
    /// away is waited for without an end: it has refused nothing.
    ///
    /// Half of the time is random, so that hosts that lost the same server do not return all at once.
    pub(super) fn failed(&mut self, reason: PauseReason, rng: &mut fastrand::Rng) -> Option<Duration> {
        self.failures += 1;
        if reason != PauseReason::BaseAway {
            self.counted += 1;
            if self.counted > self.retries {
                return None;
            }
        }
        let doublings = (self.failures - 1).min(30);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        Some(whole / 2 + random(whole / 2, rng))
    }

    pub(super) fn succeeded(&mut self) {
        (self.failures, self.counted) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_retries_end() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 6);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff
                .failed(PauseReason::BaseFails, &mut rng)
                .expect("a retry is left");
            let whole = Duration::from_millis(whole);
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
        }
        assert_eq!(backoff.failed(PauseReason::BaseFails, &mut rng), None);
        backoff.succeeded();
        assert!(
            backoff
                .failed(PauseReason::BaseFails, &mut rng)
                .is_some_and(|wait| wait <= Duration::from_millis(100))
        );
    }

    #[test]
    fn a_base_that_is_away_is_waited_for_without_an_end() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 1);
        for _ in 0..100 {
            let wait = backoff.failed(PauseReason::BaseAway, &mut rng);
            assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(1)), "{wait:?}");
        }
        assert!(backoff.failed(PauseReason::BaseFails, &mut rng).is_some());
        assert_eq!(backoff.failed(PauseReason::BaseFails, &mut rng), None);
    }

    #[test]
    fn waits_differ_by_seed() {
        let wait = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1), 1);
            backoff.failed(PauseReason::BaseFails, &mut fastrand::Rng::with_seed(seed))
        };
        assert_ne!(wait(1), wait(2));
    }
}
