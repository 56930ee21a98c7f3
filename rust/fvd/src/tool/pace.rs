//! A limit on the bytes per second.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::tool::lock;

/// Longest sleep, so that a stop is noticed.
const STEP: Duration = Duration::from_millis(100);

/// Gives turns so that no more than a number of bytes is transferred in a second.
#[derive(Debug)]
pub(in crate::tool) struct Pace {
    /// Bytes per second, at least 1.
    rate: u64,
    began: Instant,
    /// The time from `began` at which the next turn begins.
    next: Mutex<Duration>,
}

impl Pace {
    pub(in crate::tool) fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            began: Instant::now(),
            next: Mutex::new(Duration::ZERO),
        }
    }

    /// Sleeps until `len` bytes may be transferred. Ends earlier once `is_stopped`.
    pub(in crate::tool) fn wait(&self, len: u64, is_stopped: &dyn Fn() -> bool) {
        let turn = self.turn(len, self.began.elapsed());
        while !is_stopped() {
            let left = turn.saturating_sub(self.began.elapsed());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(STEP));
        }
    }

    /// When `len` bytes may be transferred that are asked for at `now`. Both are times since the start.
    fn turn(&self, len: u64, now: Duration) -> Duration {
        let mut next = lock(&self.next);
        let turn = now.max(*next);
        let nanos = u128::from(len) * 1_000_000_000 / u128::from(self.rate);
        *next = turn.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_turn_begins_when_the_bytes_before_it_have_had_their_time() {
        let pace = Pace::new(1000);
        assert_eq!(pace.turn(1000, SECOND), SECOND);
        assert_eq!(pace.turn(500, SECOND), 2 * SECOND);
        assert_eq!(pace.turn(500, SECOND), 2 * SECOND + SECOND / 2);
    }

    #[test]
    fn time_that_was_not_used_is_not_saved_up() {
        let pace = Pace::new(1000);
        assert_eq!(pace.turn(1000, Duration::ZERO), Duration::ZERO);
        assert_eq!(pace.turn(1000, 10 * SECOND), 10 * SECOND);
        assert_eq!(pace.turn(1000, 10 * SECOND), 11 * SECOND);
    }
}
