//! Window: how much of a profile is fetched at once.
//!
//! Pure: time is passed in. A base that is far away answers many requests in the time of one, so as many are kept
//! under way as that takes; one that is near needs no more than the slots that there are.

use std::time::Duration;

use super::pacing::Pacer;

/// Answers a second that are aimed at.
const ANSWERS: u128 = 2000;
/// What comes sooner does not come from far: a cache had it.
const NEAR: Duration = Duration::from_micros(300);
/// Weight of an answer in the average, one part of so many.
const WEIGHT: u32 = 8;
/// Under a cap, no more steps at once than leave each of them so many bytes.
const STEP: u64 = 64 << 10;

/// Steps that may be under way at once.
#[derive(Debug)]
pub(super) struct Window {
    least: usize,
    most: usize,
    latency: Option<Duration>,
}

impl Window {
    /// From `least` to `most`, as far as the caps allow that.
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

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn size(&self) -> usize {
        let needed = self.latency.unwrap_or_default().as_micros() * ANSWERS / 1_000_000;
        usize::try_from(needed)
            .unwrap_or(usize::MAX)
            .clamp(self.least, self.most)
    }

    /// An answer took so long. True: the window is larger now.
    pub(super) fn note(&mut self, time: Duration) -> bool {
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
    fn the_farther_the_base_the_more_is_under_way() {
        for (latency_us, size) in [(50, 2), (500, 2), (5000, 10), (30_000, 60), (100_000, 64)] {
            let mut window = window(None);
            assert_eq!(window.size(), 2, "nothing is known yet");
            window.note(Duration::from_micros(latency_us));
            assert_eq!(window.size(), size, "{latency_us} us");
        }
    }

    #[test]
    fn what_a_cache_answers_makes_no_base_near() {
        let mut window = window(None);
        assert!(window.note(30 * MS));
        for _ in 0..100 {
            assert!(!window.note(MS / 10));
        }
        assert_eq!(window.size(), 60);
    }

    #[test]
    fn a_low_cap_leaves_no_room_for_many() {
        for (kib, size) in [(100, 2), (2 << 10, 4), (1 << 20, 64)] {
            let mut window = window(Some(kib << 10));
            window.note(100 * MS);
            assert_eq!(window.size(), size, "{kib} KiB/s");
        }
    }
}
