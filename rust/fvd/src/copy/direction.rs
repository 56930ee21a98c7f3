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
            // A low cap makes steps small, and small steps have a low rate without any contention.
            min: cap.map_or(min, |cap| min.min(cap / 2)),
            throttle_time: options.throttle_time,
        };
        Self {
            pacer: Pacer::new(cap),
            throttle: Throttle::new(limits),
            rate: ShownRate::new(now),
        }
    }
}
