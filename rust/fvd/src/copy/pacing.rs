//! Pacing: spreads steps evenly, below a cap.
//!
//! Pure: time is passed in. Steps begin at least `bytes / cap` apart. So in any time `t` they move `cap * t`
//! bytes at most, plus one step, plus what was in flight when `t` began: one more step per slot. All these
//! steps together are at most a tenth of what the cap allows in two seconds. So any two seconds stay within
//! 10 % of the cap, however long an operation takes.

use std::time::Duration;

/// The cap holds over any time of this length.
const WINDOW: Duration = Duration::from_secs(2);
/// The smallest step, in bytes: a sector.
pub(super) const SMALLEST: u64 = 512;

/// Decides when bytes of one direction may move.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Bytes per second. None: no cap.
    cap: Option<u64>,
    /// No further bytes may move before this time.
    next: Duration,
}

impl Pacer {
    pub(super) fn new(cap: Option<u64>) -> Self {
        let next = Duration::ZERO;
        Self { cap, next }
    }

    pub(super) fn cap(&self) -> Option<u64> {
        self.cap
    }

    /// Changes the cap, from the next step on.
    pub(super) fn set_cap(&mut self, cap: Option<u64>) {
        self.cap = cap;
    }

    /// The longest step in bytes if `slots` steps are in flight at once: a multiple of 512.
    pub(super) fn longest_step(&self, slots: usize) -> u64 {
        let Some(cap) = self.cap else {
            return u64::MAX;
        };
        let spare = cap * WINDOW.as_secs() / 10;
        (spare / (slots as u64 + 1) / SMALLEST * SMALLEST).max(SMALLEST)
    }

    /// Reserves the next time for `bytes`: they may move from then on. Time in which nothing moved is not
    /// made up for.
    pub(super) fn reserve(&mut self, now: Duration, bytes: u64) -> Duration {
        let Some(cap) = self.cap else {
            return now;
        };
        let at = self.next.max(now);
        // A little slower than the cap: a window that begins and ends with a step contains one step more.
        let nanos = u128::from(bytes) * 1_001_000_000 / u128::from(cap);
        self.next = at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Slots that only move steps, as fast as they may. Returns when each step ended, and its bytes.
    fn simulate(cap: u64, slots: usize, step: u64, longest_latency: u64, seed: u64) -> Vec<(Duration, u64)> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pacer = Pacer::new(Some(cap));
        let mut slots_free_at = vec![Duration::ZERO; slots];
        let mut ended = Vec::new();
        let longest = pacer.longest_step(slots);
        for _ in 0..4000 {
            let free = slots_free_at.iter_mut().min().expect("a slot");
            // Some steps are shorter.
            let len = if rng.u8(..8) == 0 { 512 } else { step.min(longest) };
            let begin = pacer.reserve(*free, len);
            *free = begin + Duration::from_millis(rng.u64(0..=longest_latency));
            ended.push((*free, len));
        }
        ended.sort_unstable();
        ended
    }

    /// The most bytes in any two seconds, both ends included.
    fn most_in_a_window(ended: &[(Duration, u64)]) -> u64 {
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for (at, len) in ended {
            sum += len;
            while at.saturating_sub(ended[first].0) > WINDOW {
                sum -= ended[first].1;
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn no_two_seconds_exceed_the_cap_by_more_than_a_tenth(
            kib in prop_oneof![1_u64..100, 1_u64..10_000, 1_u64..10_000_000],
            slots in 1_usize..=16,
            step in prop::sample::select(vec![512, 4096, 65_024, 65_536, 1 << 20, 4 << 20]),
            latency in prop::sample::select(vec![0, 1, 10, 300, 3000, 30_000]),
            seed: u64,
        ) {
            let cap = kib << 10;
            // A step cannot be smaller than a sector. At a few KiB/s, steps end late even without latency.
            let latency = if cap / 5 / (slots as u64 + 1) < 512 { 0 } else { latency };
            let ended = simulate(cap, slots, step, latency, seed);
            prop_assert!(most_in_a_window(&ended) <= cap * 2 * 11 / 10);
        }

        #[test]
        fn steps_use_the_cap(kib in 1_u64..10_000_000, slots in 1_usize..=16, step in 9_u32..22, seed: u64) {
            let cap = kib << 10;
            let ended = simulate(cap, slots, 1 << step, 0, seed);
            let (end, last) = ended[ended.len() - 1];
            let moved: u64 = ended.iter().map(|(_, len)| len).sum();
            let rate = u128::from(moved - last) * 1_000_000_000 / end.as_nanos().max(1);
            prop_assert!(rate >= u128::from(cap) * 99 / 100, "{rate} of {cap}");
        }
    }

    #[test]
    fn time_in_which_nothing_moved_is_not_made_up_for() {
        let mut pacer = Pacer::new(Some(1 << 20));
        let hour = Duration::from_secs(3600);
        assert_eq!(pacer.reserve(hour, 1 << 16), hour);
        assert!(pacer.reserve(hour, 1 << 16) >= hour + Duration::from_micros(62_500));
    }

    #[test]
    fn without_a_cap_nothing_waits() {
        let mut pacer = Pacer::new(None);
        assert_eq!(pacer.reserve(Duration::ZERO, u64::MAX), Duration::ZERO);
        assert_eq!(pacer.reserve(Duration::ZERO, u64::MAX), Duration::ZERO);
    }
}
