//! Whether a store can be reached.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// A failure after which there was no other one for this long is over: a fetch that waits would have made
/// another attempt. Pauses and time limits together are shorter.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The end of an outage that has lasted for this long ends the pauses of all fetches. A store that refuses some
/// requests and answers others has no outage: what is refused waits, so that the store gets fewer requests.
const LONG: Duration = Duration::from_secs(2);

/// What is known of a store. Times are those of the clock of its reader.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: Mutex<State>,
    failed: Notify,
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    outage: Option<Ongoing>,
    /// No request before this time: the server has asked for a pause.
    not_before: Duration,
    failures: u64,
}

#[derive(Clone, Debug)]
struct Ongoing {
    since: Duration,
    /// The last failure.
    last: Duration,
    reason: String,
}

impl State {
    /// The outage, unless it is forgotten.
    fn current(&self, now: Duration) -> Option<&Ongoing> {
        let outage = self.outage.as_ref()?;
        (now <= outage.last.max(self.not_before) + FORGOTTEN).then_some(outage)
    }
}

/// What a failure means for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outages {
    Begins,
    Continues,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has failed. `pause`: the server wants none before that time has passed.
    pub(crate) fn fail(&self, now: Duration, reason: &str, pause: Option<Duration>) -> Outages {
        let mut state = self.lock();
        let before = state.current(now).map(|outage| outage.since);
        if let Some(pause) = pause {
            state.not_before = state.not_before.max(now + pause);
        }
        state.outage = Some(Ongoing {
            since: before.unwrap_or(now),
            last: now,
            reason: reason.to_owned(),
        });
        state.failures += 1;
        drop(state);
        self.failed.notify_waiters();
        if before.is_none() {
            Outages::Begins
        } else {
            Outages::Continues
        }
    }

    /// The server wants no request before `until`.
    pub(crate) fn demand(&self, until: Duration) {
        let mut state = self.lock();
        state.not_before = state.not_before.max(until);
    }

    /// Data has come. Returns how long there was none, if that was noticed.
    pub(crate) fn succeed(&self, now: Duration) -> Option<Duration> {
        let outage = self.lock().outage.take()?;
        let lasted = now.saturating_sub(outage.since);
        if lasted >= LONG {
            self.answered.notify_waiters();
        }
        Some(lasted)
    }

    /// Waits for the end of a long outage.
    pub(crate) async fn answers(&self) {
        self.answered.notified().await;
    }

    /// How long the server wants no request.
    pub(crate) fn pause(&self, now: Duration) -> Duration {
        self.lock().not_before.saturating_sub(now)
    }

    /// How long requests have been failing, and why.
    pub(crate) fn outage(&self, now: Duration) -> Option<(Duration, String)> {
        let state = self.lock();
        let outage = state.current(now)?;
        Some((now.saturating_sub(outage.since), outage.reason.clone()))
    }

    /// How many requests have failed.
    pub(crate) fn failures(&self) -> u64 {
        self.lock().failures
    }

    /// The next failure. To miss none, it is enabled before the state is read.
    pub(crate) fn next_failure(&self) -> Notified<'_> {
        self.failed.notified()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_outage_lasts_from_its_first_failure_to_the_next_success() {
        let health = Health::default();
        assert_eq!(health.fail(5 * SECOND, "a", None), Outages::Begins);
        assert_eq!(health.fail(30 * SECOND, "b", None), Outages::Continues);
        assert_eq!(health.outage(40 * SECOND), Some((35 * SECOND, "b".to_owned())));
        assert_eq!(health.succeed(41 * SECOND), Some(36 * SECOND));
        assert_eq!(health.outage(42 * SECOND), None);
    }

    #[test]
    fn only_the_end_of_a_long_outage_ends_pauses() {
        let health = Health::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut pause = pin!(health.answers());
        let mut has_ended = || pause.as_mut().poll(&mut context).is_ready();
        assert!(!has_ended());
        for second in 0..9 {
            // Busy: some requests are refused, others are answered.
            health.fail(second * SECOND, "status 503", None);
            health.succeed(second * SECOND + SECOND);
        }
        assert!(!has_ended());
        health.fail(10 * SECOND, "away", None);
        health.succeed(12 * SECOND);
        assert!(has_ended());
    }

    #[test]
    fn a_failure_after_which_there_was_no_attempt_is_forgotten() {
        let health = Health::default();
        health.fail(SECOND, "a", None);
        assert!(health.outage(61 * SECOND).is_some());
        assert_eq!(health.outage(62 * SECOND), None);
        assert_eq!(health.fail(90 * SECOND, "b", Some(200 * SECOND)), Outages::Begins);
        assert_eq!(
            health.outage(300 * SECOND).map(|(lasting, _)| lasting),
            Some(210 * SECOND),
            "the server has asked for a pause"
        );
    }
}
