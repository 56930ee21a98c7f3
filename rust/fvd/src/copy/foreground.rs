//! Foreground first: prefetch moves in the lulls of the guest.
//!
//! Pure: time is passed in. The guest is looked at, it does not have to tell: a request pays
//! nothing for being waited for.

use std::time::Duration;

/// How long after a request the guest counts as active.
const ACTIVE: Duration = Duration::from_secs(1);

/// What is known of the guest.
#[derive(Debug)]
pub(super) struct Foreground {
    /// How long nothing may have been seen before background work goes on.
    lull: Duration,
    /// The longest wait for it.
    longest: Duration,
    /// Requests at the last look.
    requests: u64,
    /// Whether none was under direction.
    was_idle: bool,
    /// When one was seen under direction, or the number of them had grown.
    active_at: Option<Duration>,
    waiting_since: Option<Duration>,
}

impl Foreground {
    /// `requests`: how many there have been.
    pub(super) fn new(lull: Duration, longest: Duration, requests: u64) -> Self {
        Self {
            lull,
            longest,
            requests,
            was_idle: true,
            active_at: None,
            waiting_since: None,
        }
    }

    /// Looks at the guest: how many requests there have been, and whether none is under direction.
    pub(super) fn look(&mut self, now: Duration, requests: u64, idle: bool) {
        // What was under way at the last look has ended just now, for all one knows.
        if !idle || !self.was_idle || requests != self.requests {
            self.requests = requests;
            self.was_idle = idle;
            self.active_at = Some(now);
        }
    }

    /// After a look: None: go on; else look again after that time.
    pub(super) fn wait(&mut self, now: Duration) -> Option<Duration> {
        let quiet = self.active_at.map_or(self.lull, |at| now.saturating_sub(at));
        let since = *self.waiting_since.get_or_insert(now);
        let waited = now.saturating_sub(since);
        if quiet >= self.lull || waited >= self.longest {
            self.waiting_since = None;
            return None;
        }
        Some(self.lull.saturating_sub(quiet).min(self.longest.saturating_sub(waited)))
    }

    /// Whether the guest was active a moment ago.
    pub(super) fn is_active(&self, now: Duration) -> bool {
        self.active_at.is_some_and(|at| now.saturating_sub(at) < ACTIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn look(foreground: &mut Foreground, now: Duration, requests: u64, idle: bool) -> Option<Duration> {
        foreground.look(now, requests, idle);
        foreground.wait(now)
    }

    #[test]
    fn a_guest_that_was_never_seen_is_not_waited_for() {
        let mut foreground = Foreground::new(3 * MS, 250 * MS, 5);
        assert_eq!(look(&mut foreground, Duration::ZERO, 5, true), None);
        assert!(!foreground.is_active(Duration::ZERO));
    }

    #[test]
    fn a_request_that_came_and_went_unseen_delays_too() {
        let mut foreground = Foreground::new(3 * MS, 250 * MS, 0);
        assert_eq!(look(&mut foreground, 100 * MS, 1, true), Some(3 * MS));
        assert_eq!(look(&mut foreground, 102 * MS, 1, true), Some(MS));
        assert_eq!(look(&mut foreground, 103 * MS, 1, true), None);
        assert!(foreground.is_active(1099 * MS));
        assert!(!foreground.is_active(1100 * MS));
    }

    #[test]
    fn a_guest_that_is_never_idle_is_waited_for_but_not_forever() {
        let mut foreground = Foreground::new(3 * MS, 250 * MS, 0);
        let (mut now, mut steps) = (Duration::ZERO, 0);
        while now < 10_000 * MS {
            match look(&mut foreground, now, 1, false) {
                None => steps += 1,
                Some(wait) => now += wait,
            }
        }
        assert_eq!(steps, 39, "one each 250 ms, and none at once");
    }
}
