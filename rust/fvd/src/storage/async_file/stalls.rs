//! Detects whether writes to the page cache are held up.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::debug;

/// A longer write to the page cache had to wait, for the disk or for a lock.
const STALL: Duration = Duration::from_millis(1);

/// How long nothing is tried after a first stall, and at most after several in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// When writes to one file were last held up. The caller of [`Stalls::watch`] ensures that only one write is
/// watched.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// Nothing is tried before this time, in nanoseconds of [`now`].
    resume_at: AtomicU64,
    /// The last pause, in nanoseconds. 0: there was none.
    pause: AtomicU64,
}

impl Stalls {
    /// Does `work`. During a pause it does nothing and returns None.
    pub(super) fn watch<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        self.watch_by(now, work)
    }

    /// As [`Stalls::watch`], with a clock.
    fn watch_by<T>(&self, now: impl Fn() -> u64, work: impl FnOnce() -> T) -> Option<T> {
        let start = now();
        if start < self.resume_at.load(Ordering::Relaxed) {
            return None;
        }
        let result = work();
        self.took(start, now());
        Some(result)
    }

    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.resume_at.store(0, Ordering::Relaxed);
    }

    fn took(&self, start: u64, end: u64) {
        if end - start <= STALL.as_nanos() as u64 {
            return;
        }
        let (first, longest) = (FIRST_PAUSE.as_nanos() as u64, LONGEST_PAUSE.as_nanos() as u64);
        let last = self.pause.load(Ordering::Relaxed);
        // A stall soon after a pause: the disk has not caught up yet.
        let is_again = last > 0 && start < self.resume_at.load(Ordering::Relaxed) + last;
        let pause = if is_again { (2 * last).min(longest) } else { first };
        debug!(
            stall_ms = (end - start) / 1_000_000,
            pause_ms = pause / 1_000_000,
            "a write stalled: threads write"
        );
        self.pause.store(pause, Ordering::Relaxed);
        self.resume_at.store(end + pause, Ordering::Relaxed);
    }
}

/// Nanoseconds since the first call.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MS: u64 = 1_000_000;

    fn pause_after(stalls: &Stalls, start: u64, end: u64) -> u64 {
        stalls.took(start, end);
        stalls.resume_at.load(Ordering::Relaxed).saturating_sub(end)
    }

    #[test]
    fn a_slow_write_pauses_them_and_a_quick_one_does_not() {
        let (stalls, time) = (Stalls::default(), Cell::new(0));
        let write = |takes| stalls.watch_by(|| time.get(), || time.set(time.get() + takes));
        let stall = STALL.as_nanos() as u64;
        assert_eq!(write(stall), Some(()));
        assert_eq!(write(stall + 1), Some(()), "no pause after a quick one");
        assert_eq!(write(0), None);
        time.set(time.get() + FIRST_PAUSE.as_nanos() as u64);
        assert_eq!(write(0), Some(()), "the pause is over");
    }

    #[test]
    fn pauses_grow_while_the_disk_does_not_catch_up() {
        let stalls = Stalls::default();
        assert_eq!(pause_after(&stalls, 5 * MS, 6 * MS), 0);
        assert_eq!(pause_after(&stalls, 5 * MS, 7 * MS), 100 * MS);
        assert_eq!(pause_after(&stalls, 110 * MS, 120 * MS), 200 * MS);
        assert_eq!(pause_after(&stalls, 320 * MS, 330 * MS), 400 * MS);
        assert_eq!(pause_after(&stalls, 730 * MS, 740 * MS), 800 * MS);
        assert_eq!(pause_after(&stalls, 1540 * MS, 1550 * MS), 1000 * MS);
        assert_eq!(pause_after(&stalls, 9000 * MS, 9010 * MS), 100 * MS);
    }
}
