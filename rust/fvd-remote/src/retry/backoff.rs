//! How long to wait after a failure.

use std::time::Duration;

use crate::config::Tuning;

/// Exponential, with full jitter: clients that failed together do not come back together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    demand_cap: Duration,
}

impl Backoff {
    /// With the pauses of `tuning`.
    #[must_use]
    pub fn new(tuning: &Tuning) -> Self {
        Self {
            base: tuning.backoff_base,
            cap: tuning.backoff_cap,
            demand_cap: tuning.retry_after_cap,
        }
    }

    /// The pause after `failures` failures in a row (1 after the first). `random` is in 0..1. With `demanded`,
    /// what the server wants, the pause is that long, and the jitter comes on top.
    #[must_use]
    pub fn pause(self, failures: u32, demanded: Option<Duration>, random: f64) -> Duration {
        let doubled = self.base.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let jitter = doubled.min(self.cap).mul_f64(random);
        demanded.map_or(jitter, |demanded| demanded.min(self.demand_cap) + jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_spread_down_to_zero() {
        let backoff = Backoff::new(&Tuning::default());
        let longest = |failures| backoff.pause(failures, None, 1.0).as_millis();
        assert_eq!(
            [1, 2, 3, 8, 9, 4_000_000_000].map(longest),
            [100, 200, 400, 12_800, 20_000, 20_000]
        );
        assert_eq!(backoff.pause(5, None, 0.0), Duration::ZERO);
    }

    #[test]
    fn a_pause_is_at_least_what_the_server_demands() {
        let backoff = Backoff::new(&Tuning::default());
        let seconds = |text| Some(Duration::from_secs(text));
        assert_eq!(backoff.pause(1, seconds(7), 0.0), Duration::from_secs(7));
        assert_eq!(backoff.pause(1, seconds(7), 1.0), Duration::from_millis(7100));
        assert_eq!(
            backoff.pause(1, seconds(1_000_000), 0.0),
            Duration::from_secs(300),
            "but not for days"
        );
    }
}
