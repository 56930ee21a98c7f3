//! A direction of copying, with its cap, throttle and rate: reads of the base, or writes to the image.

use std::time::Duration;

use super::options::PrefetchOptions;
use super::pacing::Pacer;
use super::shown_rate::ShownRate;
use super::throttle::{Limits, Throttle};

/// A direction of copying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

#[derive(Debug)]
pub(super) struct DirectionState {
    /// Of the options of the image, in bytes per second.
    cap: Option<u64>,
    min: u64,
    pub(super) pacer: Pacer,
    pub(super) throttle: Throttle,
    pub(super) rate: ShownRate,
}

impl DirectionState {
    pub(super) fn new(direction: Direction, options: &PrefetchOptions, now: Duration) -> Self {
        let (cap, min, measure_time) = match direction {
            Direction::Read => (
                options.max_read_throughput,
                options.min_read_throughput,
                options.read_measure_time,
            ),
            Direction::Write => (
                options.max_write_throughput,
                options.min_write_throughput,
                options.write_measure_time,
            ),
        };
        let limits = Limits {
            measure_time,
            alpha: options.alpha,
            min: least(min, cap),
            throttle_time: options.throttle_time,
        };
        Self {
            cap,
            min,
            pacer: Pacer::new(cap),
            throttle: Throttle::new(limits),
            rate: ShownRate::new(now),
        }
    }

    /// Limits it to `rate` bytes per second as well, from the next step on.
    pub(super) fn limit(&mut self, rate: Option<u64>) {
        let cap = [self.cap, rate].into_iter().flatten().min();
        if cap != self.pacer.cap() {
            self.pacer.set_cap(cap);
            self.throttle.set_min(least(self.min, cap));
        }
    }
}

/// The rate from which on there is no contention. A low cap makes steps small, and small steps have a low rate
/// without any contention.
fn least(min: u64, cap: Option<u64>) -> u64 {
    cap.map_or(min, |cap| min.min(cap / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Header;

    #[test]
    fn a_rate_holds_from_the_next_step_on_and_never_above_the_cap() {
        let options = PrefetchOptions {
            max_read_throughput: Some(4000),
            ..PrefetchOptions::from(&Header::default())
        };
        let mut read = DirectionState::new(Direction::Read, &options, Duration::ZERO);
        let mut wait = |rate| {
            read.limit(rate);
            read.pacer = Pacer::new(read.pacer.cap());
            read.pacer.reserve(Duration::ZERO, 4000);
            read.pacer.reserve(Duration::ZERO, 4000).as_secs()
        };
        assert_eq!([None, Some(2000), Some(8000), None].map(&mut wait), [1, 2, 1, 1]);
    }
}
