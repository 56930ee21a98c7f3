//! Guest requests come first: prefetch moves data when the guest is idle.
//!
//! Pure: time is passed in. The guest is polled and need not notify, so a request pays nothing for it.

use std::time::Duration;

/// How long the guest counts as active after a request.
const ACTIVE: Duration = Duration::from_secs(1);

/// What is known about the guest.
#[derive(Debug)]
pub(super) struct Foreground {
    /// How long no request must have been seen before background work continues.
    lull: Duration,
    /// The longest wait for that.
    longest: Duration,
    /// Number of requests at the last look.
    requests: u64,
    /// Whether no request was in flight at the last look.
    was_idle: bool,
    /// When a request was last seen in flight, or their number had grown.
    active_at: Option<Duration>,
    waiting_since: Option<Duration>,
}

impl Foreground {
    /// `requests`: the number of requests so far.
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

    /// Looks at the guest. `requests`: the number of requests so far. `idle`: no request is in flight.
    pub(super) fn look(&mut self, now: Duration, requests: u64, idle: bool) {
        // A request that was in flight at the last look may have ended only now.
        if !idle || !self.was_idle || requests != self.requests {
            self.requests = requests;
            self.was_idle = idle;
            self.active_at = Some(now);
        }
    }

    /// After a look. None: continue. Otherwise look again after that time.
    pub(super) fn wait(&mut self, now: Duration) -> Option<Duration> {
        let idle = self.active_at.map_or(self.lull, |at| now.saturating_sub(at));
        let since = *self.waiting_since.get_or_insert(now);
        let waited = now.saturating_sub(since);
        if idle >= self.lull || waited >= self.longest {
            self.waiting_since = None;
            return None;
        }
        Some(self.lull.saturating_sub(idle).min(self.longest.saturating_sub(waited)))
    }

    /// Whether the guest was active within the last second.
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
    fn prefetch_does_not_wait_for_a_guest_without_requests() {
        let mut foreground = Foreground::new(3 * MS, 250 * MS, 5);
        assert_eq!(look(&mut foreground, Duration::ZERO, 5, true), None);
        assert!(!foreground.is_active(Duration::ZERO));
    }

    #[test]
    fn a_request_that_ended_between_two_looks_delays_too() {
        let mut foreground = Foreground::new(3 * MS, 250 * MS, 0);
        assert_eq!(look(&mut foreground, 100 * MS, 1, true), Some(3 * MS));
        assert_eq!(look(&mut foreground, 102 * MS, 1, true), Some(MS));
        assert_eq!(look(&mut foreground, 103 * MS, 1, true), None);
        assert!(foreground.is_active(1099 * MS));
        assert!(!foreground.is_active(1100 * MS));
    }

    #[test]
    fn the_wait_for_a_busy_guest_is_limited() {
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
