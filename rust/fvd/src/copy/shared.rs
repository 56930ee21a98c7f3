//! What the slots of a prefetch share.

use std::time::Duration;

use super::backoff::Backoff;
use super::direction::{Direction, DirectionState};
use super::foreground::Foreground;
use super::machine::Phase;
use super::options::{MAX_HELPER_STEP, PrefetchOptions};
use super::window::Window;
use super::work::Work;

/// Its lock is held only for moments, never over I/O.
pub(super) struct Shared {
    pub(super) phase: Phase,
    pub(super) work: Work,
    read: DirectionState,
    write: DirectionState,
    /// How many steps of the first ranges (a profile) may be in flight.
    pub(super) window: Window,
    pub(super) foreground: Foreground,
    pub(super) backoff: Backoff,
    pub(super) rng: fastrand::Rng,
    /// Bytes stored since the last checkpoint. `saved_at`: when that was.
    pub(super) unsaved: u64,
    pub(super) saved_at: Duration,
}

impl Shared {
    /// `foreground`: before the first look at the guest.
    pub(super) fn new(
        phase: Phase,
        work: Work,
        options: &PrefetchOptions,
        foreground: Foreground,
        now: Duration,
        seed: u64,
    ) -> Self {
        let (read, write) = (
            DirectionState::new(Direction::Read, options, now),
            DirectionState::new(Direction::Write, options, now),
        );
        let pacers = [&read.pacer, &write.pacer];
        Self {
            phase,
            work,
            window: Window::new(options.slots, options.profile_slots, pacers),
            read,
            write,
            foreground,
            backoff: Backoff::new(options.first_backoff, options.longest_backoff, options.retries),
            rng: fastrand::Rng::with_seed(seed),
            unsaved: 0,
            saved_at: now,
        }
    }

    pub(super) fn direction(&mut self, direction: Direction) -> &mut DirectionState {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// Limits what is read to `rate` bytes per second.
    pub(super) fn limit(&mut self, rate: Option<u64>) {
        self.read.limit(rate);
    }

    /// Whether guest requests come first. Not while a profile is fetched: the guest is about to read those
    /// ranges, and would wait for each of them.
    pub(super) fn is_polite(&self) -> bool {
        !self.work.is_at_first()
    }

    /// Bytes that may be moved at once now: a multiple of 512.
    pub(super) fn piece_len(&mut self, options: &PrefetchOptions, now: Duration) -> u64 {
        let mut len = options.bytes_per_prefetch;
        let mut slots = options.slots;
        if self.work.is_at_first() {
            slots = self.window.most();
            if self.window.size() > options.slots {
                len = len.min(MAX_HELPER_STEP);
            }
        }
        for direction in [Direction::Read, Direction::Write] {
            len = len.min(self.direction(direction).pacer.longest_step(slots));
        }
        if self.is_polite() && self.foreground.is_active(now) {
            len = len.min(options.bytes_beside_guest / slots as u64);
        }
        (len / 512 * 512).max(512)
    }
}
