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
    /// When one was seen under way, or the number of them had grown.
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
            active_at: None,
            waiting_since: None,
        }
    }

    /// Looks at the guest: how many requests there have been, and whether none is under way.
    /// None: go on; else look again after that time.
    pub(super) fn look(&mut self, now: Duration, requests: u64, idle: bool) -> Option<Duration> {
        if !idle || requests != self.requests {
            self.requests = requests;
            self.active_at = Some(now);
        }
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
