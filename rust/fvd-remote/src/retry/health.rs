//! Whether a store can be reached.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is known of a store. Times are those of the clock of its reader.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    outage: Option<Ongoing>,
    /// No request before this time: the server has asked for a pause.
    not_before: Duration,
}

#[derive(Clone, Debug)]
struct Ongoing {
    since: Duration,
    reason: String,
}

/// What a failure means for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outages {
    Begins,
    Continues,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has failed. `pause`: the server wants none before that time has passed.
    pub(crate) fn fail(&self, now: Duration, reason: &str, pause: Option<Duration>) -> Outages {
        let mut state = self.lock();
        if let Some(pause) = pause {
            state.not_before = state.not_before.max(now + pause);
        }
        let is_new = state.outage.is_none();
        let since = state.outage.as_ref().map_or(now, |outage| outage.since);
        state.outage = Some(Ongoing {
            since,
            reason: reason.to_owned(),
        });
        if is_new { Outages::Begins } else { Outages::Continues }
    }

    /// Data has come. Returns how long there was none, if that was noticed.
    pub(crate) fn succeed(&self, now: Duration) -> Option<Duration> {
        let outage = self.lock().outage.take()?;
        Some(now.saturating_sub(outage.since))
    }

    /// How long the server wants no request.
    pub(crate) fn pause(&self, now: Duration) -> Duration {
        self.lock().not_before.saturating_sub(now)
    }

    /// How long requests have been failing, and why.
    pub(crate) fn outage(&self, now: Duration) -> Option<(Duration, String)> {
        let outage = self.lock().outage.clone()?;
        Some((now.saturating_sub(outage.since), outage.reason))
    }
}
