//! Window: the number of steps in flight while a profile is fetched.
//!
//! Pure: time is passed in. A remote base answers many requests in the time of one, so many are kept in
//! flight. A near base needs no more than the slots.

use std::time::Duration;

use super::pacing::Pacer;

/// Target number of answers per second.
const ANSWERS: u128 = 2000;
/// A faster answer came from a cache, and says nothing about the base.
const NEAR: Duration = Duration::from_micros(300);
/// The weight of an answer in the average is 1 / `WEIGHT`.
const WEIGHT: u32 = 8;
/// With a cap, only so many steps are in flight that each may have this many bytes.
const STEP: u64 = 64 << 10;

/// The number of steps that may be in flight at once.
#[derive(Debug)]
pub struct Window {
    least: usize,
    most: usize,
    latency: Option<Duration>,
}

impl Window {
    /// Between `least` and `most`. The caps may lower `most`.
    pub(super) fn new(least: usize, most: usize, pacers: [&Pacer; 2]) -> Self {
        let is_small = |slots: usize| pacers.iter().any(|pacer| pacer.longest_step(slots) < STEP);
        let mut most = most.max(least);
        while most > least && is_small(most) {
            most = (most / 2).max(least);
        }
        Self {
            least,
            most,
            latency: None,
        }
    }

    /// Between `least` and `most`, without caps.
    #[must_use]
    pub fn without_caps(least: usize, most: usize) -> Self {
        Self {
            least,
            most: most.max(least),
            latency: None,
        }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Steps that may be in flight now.
    #[must_use]
    pub fn size(&self) -> usize {
        let needed = self.latency.unwrap_or_default().as_micros() * ANSWERS / 1_000_000;
        usize::try_from(needed)
            .unwrap_or(usize::MAX)
            .clamp(self.least, self.most)
    }

    /// Notes the latency of an answer. True: the window has grown.
    pub fn note(&mut self, time: Duration) -> bool {
        if time < NEAR {
            return false;
        }
        let before = self.size();
        let old = self.latency.unwrap_or(time);
        self.latency = Some((old * (WEIGHT - 1) + time) / WEIGHT);
        self.size() > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn window(cap: Option<u64>) -> Window {
        Window::new(2, 64, [&Pacer::new(cap), &Pacer::new(None)])
    }

    #[test]
    fn more_latency_makes_a_larger_window() {
        for (latency_us, size) in [(50, 2), (500, 2), (5000, 10), (30_000, 60), (100_000, 64)] {
            let mut window = window(None);
            assert_eq!(window.size(), 2, "nothing is known yet");
            window.note(Duration::from_micros(latency_us));
            assert_eq!(window.size(), size, "{latency_us} us");
        }
    }

    #[test]
    fn answers_of_a_cache_do_not_shrink_the_window() {
        let mut window = window(None);
        assert!(window.note(30 * MS));
        for _ in 0..100 {
            assert!(!window.note(MS / 10));
        }
        assert_eq!(window.size(), 60);
    }

    #[test]
    fn a_low_cap_limits_the_window() {
        for (kib, size) in [(100, 2), (2 << 10, 4), (1 << 20, 64)] {
            let mut window = window(Some(kib << 10));
            window.note(100 * MS);
            assert_eq!(window.size(), size, "{kib} KiB/s");
        }
    }
}
