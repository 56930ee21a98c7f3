//! How long requests take, as histograms.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, included. Three in a decade are enough to tell the page cache (tens of
/// microseconds) from a fast disk (hundreds), a slow one (milliseconds) and a stall (seconds).
pub const BOUNDS: [Duration; 13] = [
    Duration::from_micros(10),
    Duration::from_micros(30),
    Duration::from_micros(100),
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// What a histogram has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// The number of requests that took at most as long as the bound of the same index in [`BOUNDS`].
    pub at_most: [u64; BOUNDS.len()],
    /// The number of all requests.
    pub count: u64,
    /// Their times together.
    pub sum: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// The last one is for what exceeds every bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts `count` requests that took `time` each. `Relaxed` is enough: no other memory access depends on it.
    pub(super) fn add(&self, time: Duration, count: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < time);
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        let sum = (time.as_nanos() as u64).saturating_mul(count);
        self.sum_ns.fetch_add(sum, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Latencies {
        let mut latencies = Latencies::default();
        for (number, bucket) in self.buckets.iter().enumerate() {
            latencies.count += bucket.load(Ordering::Relaxed);
            if let Some(at_most) = latencies.at_most.get_mut(number) {
                *at_most = latencies.count;
            }
        }
        latencies.sum = Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed));
        latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_its_bucket_and_all_above() {
        let histogram = Histogram::default();
        assert_eq!(histogram.get(), Latencies::default());
        histogram.add(Duration::ZERO, 3);
        histogram.add(BOUNDS[4], 2);
        histogram.add(BOUNDS[4] + Duration::from_nanos(1), 1);
        histogram.add(Duration::from_secs(60), 1);
        let found = histogram.get();
        assert_eq!(found.at_most, [3, 3, 3, 3, 5, 6, 6, 6, 6, 6, 6, 6, 6]);
        assert_eq!(found.count, 7);
        assert_eq!(
            found.sum,
            3 * BOUNDS[4] + Duration::from_nanos(1) + Duration::from_secs(60)
        );
    }

    #[test]
    fn bounds_grow() {
        assert!(BOUNDS.is_sorted());
    }
}
