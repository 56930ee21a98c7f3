//! When a second request is sent for what a first one does not bring (R5).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::Tuning;
use crate::fault::fault;

/// Waits that are remembered.
const SAMPLES: usize = 128;
/// A percentile of fewer says nothing.
const ENOUGH: usize = 20;
/// Each request earns this much of a hedge: 5 %.
const EARNED: f64 = 0.05;
/// What can be saved up, so that a quiet hour does not pay for a storm.
const SAVED: f64 = 4.0;

/// The waits for a store, and how many second requests it may still get.
#[derive(Debug)]
pub(crate) struct Hedges(Mutex<State>);

#[derive(Debug)]
struct State {
    samples: Vec<Duration>,
    next: usize,
    credit: f64,
}

impl Hedges {
    pub(crate) fn new() -> Self {
        // The first requests may stall, too.
        let state = State {
            samples: Vec::new(),
            next: 0,
            credit: 1.0,
        };
        Self(Mutex::new(state))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is sent that is no hedge.
    pub(crate) fn earn(&self) {
        let mut state = self.lock();
        state.credit = (state.credit + EARNED).min(SAVED);
    }

    /// Pays for a second request. False: too many have been sent.
    pub(crate) fn pay(&self) -> bool {
        let mut state = self.lock();
        let is_enough = state.credit >= 1.0 || fault!(HedgesUnlimited);
        if is_enough {
            state.credit -= 1.0;
        }
        is_enough
    }

    /// The longest time without a unit in a request, from its start on.
    pub(crate) fn record(&self, latency: Duration) {
        let mut state = self.lock();
        let next = state.next;
        if state.samples.len() < SAMPLES {
            state.samples.push(latency);
        } else {
            state.samples[next] = latency;
        }
        state.next = (next + 1) % SAMPLES;
    }

    /// How long to wait for a unit before a second request.
    pub(crate) fn delay(&self, tuning: &Tuning) -> Duration {
        let mut samples = self.lock().samples.clone();
        if samples.len() < ENOUGH {
            return tuning.hedge_default;
        }
        let rank = samples.len() * 95 / 100;
        let percentile = *samples.select_nth_unstable(rank).1;
        let median = *samples.select_nth_unstable(rank / 2).1;
        // Where all take about the same time, being among the slowest means nothing.
        percentile.max(2 * median).max(tuning.hedge_floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_request_in_twenty_is_sent_twice() {
        let hedges = Hedges::new();
        let mut sent = 0;
        for _ in 0..10_000 {
            hedges.earn();
            sent += u32::from(hedges.pay());
        }
        assert!((499..=501).contains(&sent), "{sent}");
    }

    #[test]
    fn a_quiet_time_saves_up_only_a_few() {
        let hedges = Hedges::new();
        (0..10_000).for_each(|_| hedges.earn());
        assert_eq!((0..100).filter(|_| hedges.pay()).count(), 4);
    }

    #[test]
    fn the_delay_is_the_95th_percentile_of_recent_waits() {
        let (hedges, tuning) = (Hedges::new(), Tuning::default());
        assert_eq!(hedges.delay(&tuning), tuning.hedge_default);
        let squares = (1..=100).map(|i| i * i / 10);
        squares.for_each(|ms| hedges.record(Duration::from_millis(ms)));
        assert_eq!(hedges.delay(&tuning), Duration::from_millis(96 * 96 / 10));
        (0..SAMPLES).for_each(|_| hedges.record(Duration::from_millis(1)));
        assert_eq!(hedges.delay(&tuning), tuning.hedge_floor);
    }

    #[test]
    fn the_delay_is_at_least_twice_the_median() {
        let (hedges, tuning) = (Hedges::new(), Tuning::default());
        (100..200).for_each(|ms| hedges.record(Duration::from_millis(ms)));
        let delay = hedges.delay(&tuning);
        assert!((290..310).contains(&delay.as_millis()), "{delay:?}");
    }
}
