//! Pacing: never faster than a cap, and evenly.
//!
//! Pure: time is passed in. Steps that are begun at least `bytes / cap` apart move, within any
//! time `t`, at most `cap * t` bytes, one step, and what was under way when `t` began: one more
//! step a slot. With steps of at most a tenth of two seconds' worth, shared by all these, any two
//! seconds stay within 10 % of the cap, however long an operation takes.

use std::time::Duration;

/// What is promised of any time this long.
const WINDOW: Duration = Duration::from_secs(2);
/// Steps are never smaller: what a disk can move.
pub(super) const SMALLEST: u64 = 512;

/// The times at which bytes of one direction may move.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Bytes a second; None: no cap.
    cap: Option<u64>,
    /// Nothing may move before.
    next: Duration,
}

impl Pacer {
    pub(super) fn new(cap: Option<u64>) -> Self {
        let next = Duration::ZERO;
        Self { cap, next }
    }

    /// Bytes of a step at most, if `slots` of them are under way at once; a multiple of 512.
    pub(super) fn longest_step(&self, slots: usize) -> u64 {
        let Some(cap) = self.cap else {
            return u64::MAX;
        };
        let spare = cap * WINDOW.as_secs() / 10;
        (spare / (slots as u64 + 1) / SMALLEST * SMALLEST).max(SMALLEST)
    }

    /// Takes the next place in time for `bytes`: they may move from then on. Time in which
    /// nothing moved is not made up for.
    pub(super) fn reserve(&mut self, now: Duration, bytes: u64) -> Duration {
        let Some(cap) = self.cap else {
            return now;
        };
        let at = self.next.max(now);
        // A little slower than the cap: a window that begins and ends with a step holds one more.
        let nanos = u128::from(bytes) * 1_001_000_000 / u128::from(cap);
        self.next = at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        at
    }
}
