//! Detects whether writes to the page cache are held up.
//!
//! A write that takes long was held up by the disk or by a lock, or this thread had no processor meanwhile. On
//! a busy machine the second is common, and no reason to hand writes to other threads. The number of times that
//! the thread has waited tells them apart. To ask for it takes a system call, so it is asked for only for a
//! while after a write that took long.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::debug;

use crate::sys::threads;

/// A write to the page cache that takes longer had to wait, or had no processor.
const STALL: Duration = Duration::from_millis(1);

/// How long nothing is tried after a first stall, and at most after several in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long waits are counted after a write that took long.
const COUNTING: Duration = Duration::from_secs(1);

/// When writes to one file were last held up. The caller of [`Stalls::watch`] ensures that only one write is
/// watched. Times are in nanoseconds of [`Meter::now`].
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// Nothing is tried before this time.
    resume_at: AtomicU64,
    /// The last pause, in nanoseconds. 0: there was none.
    pause: AtomicU64,
    /// Waits are counted until this time.
    count_until: AtomicU64,
}

/// What is measured about the thread that writes.
trait Meter {
    /// Nanoseconds since some fixed moment.
    fn now(&self) -> u64;
    /// How many times this thread has waited.
    fn waits(&self) -> u64;
}

struct Kernel;

impl Meter for Kernel {
    fn now(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_nanos() as u64
    }

    fn waits(&self) -> u64 {
        threads::waits()
    }
}

impl Stalls {
    /// Does `work`. During a pause it does nothing and returns None.
    pub(super) fn watch<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        self.watch_by(&Kernel, work)
    }

    fn watch_by<T>(&self, meter: &impl Meter, work: impl FnOnce() -> T) -> Option<T> {
        let start = meter.now();
        if start < self.resume_at.load(Ordering::Relaxed) {
            return None;
        }
        let counts = start < self.count_until.load(Ordering::Relaxed);
        let waits = counts.then(|| meter.waits());
        let result = work();
        let end = meter.now();
        if end - start > STALL.as_nanos() as u64 {
            // Before waits are counted, a stall goes unnoticed. If the disk is slow, the next one follows soon.
            let has_waited = waits.is_some_and(|waits| meter.waits() != waits);
            self.took_long(start, end, has_waited);
        }
        Some(result)
    }

    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.resume_at.store(0, Ordering::Relaxed);
    }

    fn took_long(&self, start: u64, end: u64, has_waited: bool) {
        let mut count_from = end;
        if has_waited {
            let (first, longest) = (FIRST_PAUSE.as_nanos() as u64, LONGEST_PAUSE.as_nanos() as u64);
            let last = self.pause.load(Ordering::Relaxed);
            // A stall soon after a pause: the disk has not caught up yet.
            let is_again = last > 0 && start < self.resume_at.load(Ordering::Relaxed) + last;
            let pause = if is_again { (2 * last).min(longest) } else { first };
            self.pause.store(pause, Ordering::Relaxed);
            self.resume_at.store(end + pause, Ordering::Relaxed);
            count_from += pause;
            debug!(
                stall_ms = (end - start) / 1_000_000,
                pause_ms = pause / 1_000_000,
                "a write stalled: its thread writes"
            );
        }
        self.count_until
            .store(count_from + COUNTING.as_nanos() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MS: u64 = 1_000_000;

    #[derive(Default)]
    struct Fake {
        now: Cell<u64>,
        waits: Cell<u64>,
        asked: Cell<u64>,
    }

    impl Meter for Fake {
        fn now(&self) -> u64 {
            self.now.get()
        }

        fn waits(&self) -> u64 {
            self.asked.set(self.asked.get() + 1);
            self.waits.get()
        }
    }

    impl Fake {
        /// A write that takes this long and waits this often. False: it was not tried.
        fn write(&self, stalls: &Stalls, takes: u64, waits: u64) -> bool {
            let work = || {
                self.now.set(self.now.get() + takes);
                self.waits.set(self.waits.get() + waits);
            };
            stalls.watch_by(self, work).is_some()
        }

        fn pause_after(&self, stalls: &Stalls, start: u64, takes: u64) -> u64 {
            self.now.set(start);
            assert!(self.write(stalls, takes, 1));
            stalls.resume_at.load(Ordering::Relaxed).saturating_sub(self.now())
        }
    }

    #[test]
    fn the_second_slow_write_that_waits_pauses_them() {
        let (stalls, fake) = (Stalls::default(), Fake::default());
        let stall = STALL.as_nanos() as u64;
        assert!(fake.write(&stalls, stall, 1) && fake.write(&stalls, stall + 1, 1));
        assert!(fake.write(&stalls, stall + 1, 1), "waits were not counted yet");
        assert!(!fake.write(&stalls, 0, 0));
        fake.now.set(fake.now() + FIRST_PAUSE.as_nanos() as u64);
        assert!(fake.write(&stalls, 0, 0), "the pause is over");
    }

    #[test]
    fn a_write_that_was_preempted_pauses_nothing() {
        let (stalls, fake) = (Stalls::default(), Fake::default());
        assert!((0..1000).all(|_| fake.write(&stalls, 20 * MS, 0)));
    }

    #[test]
    fn waits_are_counted_only_for_a_while_after_a_slow_write() {
        let (stalls, fake) = (Stalls::default(), Fake::default());
        assert!((0..1000).all(|_| fake.write(&stalls, MS, 1)));
        assert_eq!(fake.asked.get(), 0);
        fake.write(&stalls, 2 * MS, 0);
        assert!((0..1000).all(|_| fake.write(&stalls, MS, 1)));
        assert_eq!(fake.asked.get(), 1000);
        assert!((0..1000).all(|_| fake.write(&stalls, MS, 1)));
        assert_eq!(fake.asked.get(), 1000);
    }

    #[test]
    fn pauses_grow_while_the_disk_does_not_catch_up() {
        let (stalls, fake) = (Stalls::default(), Fake::default());
        assert_eq!(fake.pause_after(&stalls, 5 * MS, MS), 0);
        assert_eq!(fake.pause_after(&stalls, 5 * MS, 2 * MS), 0, "not counted yet");
        assert_eq!(fake.pause_after(&stalls, 7 * MS, 2 * MS), 100 * MS);
        assert_eq!(fake.pause_after(&stalls, 110 * MS, 10 * MS), 200 * MS);
        assert_eq!(fake.pause_after(&stalls, 320 * MS, 10 * MS), 400 * MS);
        assert_eq!(fake.pause_after(&stalls, 730 * MS, 10 * MS), 800 * MS);
        assert_eq!(fake.pause_after(&stalls, 1540 * MS, 10 * MS), 1000 * MS);
        assert_eq!(fake.pause_after(&stalls, 3400 * MS, 10 * MS), 1000 * MS);
        assert_eq!(fake.pause_after(&stalls, 9000 * MS, 10 * MS), 0, "counted no more");
        assert_eq!(fake.pause_after(&stalls, 9100 * MS, 10 * MS), 100 * MS);
    }
}
