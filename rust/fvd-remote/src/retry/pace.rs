//! How fast a process asks a store for what no reader waits for, once the store has refused requests.

use std::time::Duration;

/// Of the rate that is left after a refusal.
const CUT: f64 = 0.5;
/// Growth in a second, as a part of the rate.
const GROWTH: f64 = 0.1;
/// The least growth in a second, in requests a second.
const LEAST_GROWTH: f64 = 0.5;
/// The lowest rate, in requests a second.
const LEAST: f64 = 0.25;
/// A rate above this is no limit.
const MOST: f64 = 1000.0;
/// Refusals within this time after one are of requests that were sent before the rate fell.
const HOLD: Duration = Duration::from_millis(200);

/// The rate of requests that no reader waits for. A store that refuses a request (status 429 or 5xx) halves it; it
/// grows again with time. Without refusals there is no limit.
///
/// Each process keeps its own. Many of them, at one store that serves so many requests a second, come to share
/// what it serves, and few requests are refused. Pauses of single requests do not do that: another request takes the
/// place of each one that waits.
#[derive(Debug, Default)]
pub struct Pace {
    /// Requests a second. None: no limit.
    rate: Option<f64>,
    /// When the rate was that.
    at: Duration,
    /// No cut before this time.
    held_until: Duration,
    /// The next request goes at this time at the earliest.
    next: Duration,
    /// Turns taken in the second `second`, and in the one before.
    taken: [u32; 2],
    second: u64,
}

impl Pace {
    /// Takes the next turn. Returns how long to wait for it.
    pub fn turn(&mut self, now: Duration) -> Duration {
        self.count(now);
        self.taken[0] += 1;
        let Some(rate) = self.rate(now) else {
            return Duration::ZERO;
        };
        let turn = self.next.max(now);
        self.next = turn + Duration::from_secs_f64(1.0 / rate);
        turn.saturating_sub(now)
    }

    /// The store has refused a request, of whatever kind.
    pub fn refused(&mut self, now: Duration) {
        if now < self.held_until {
            return;
        }
        self.count(now);
        let taken = self.taken.into_iter().max().unwrap_or(0);
        let before = self.rate(now).unwrap_or(f64::from(taken));
        let rate = (before * CUT).max(LEAST);
        let every = Duration::from_secs_f64(1.0 / rate);
        self.rate = Some(rate);
        self.at = now;
        self.held_until = now + every.max(HOLD);
        self.next = self.next.max(now + every);
    }

    /// Requests a second. None: no limit.
    fn rate(&mut self, now: Duration) -> Option<f64> {
        let rate = self.rate?;
        let since = now.saturating_sub(self.at).as_secs_f64();
        let grown = rate + since * (rate * GROWTH).max(LEAST_GROWTH);
        self.rate = Some(grown).filter(|grown| *grown < MOST);
        self.at = now;
        self.rate
    }

    fn count(&mut self, now: Duration) {
        let second = now.as_secs();
        self.taken = match second - self.second {
            0 => self.taken,
            1 => [0, self.taken[0]],
            _ => [0, 0],
        };
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Turns that begin within `time` from `now` on, if all are asked for as early as they may be.
    fn turns(pace: &mut Pace, now: Duration, time: Duration) -> u32 {
        let (mut at, mut count) = (now, 0);
        loop {
            at += pace.turn(at).max(MS);
            if at >= now + time {
                return count;
            }
            count += 1;
        }
    }

    #[test]
    fn without_refusals_no_request_waits() {
        let mut pace = Pace::default();
        assert!((0..10_000).all(|_| pace.turn(Duration::ZERO).is_zero()));
    }

    #[test]
    fn a_refusal_halves_the_rate_and_those_together_with_it_change_nothing() {
        let mut pace = Pace::default();
        let mut now = Duration::ZERO;
        for _ in 0..200 {
            assert!(pace.turn(now).is_zero());
            now += 5 * MS;
        }
        for _ in 0..16 {
            pace.refused(now);
        }
        let next = turns(&mut pace, now, Duration::from_secs(1));
        assert!((95..=112).contains(&next), "{next}");
    }

    #[test]
    fn a_rate_grows_by_a_tenth_each_second_until_there_is_no_limit() {
        let mut pace = Pace {
            rate: Some(100.0),
            ..Pace::default()
        };
        let mut seen = 100.0;
        for second in 1..=24 {
            let rate = pace.rate(second * 1000 * MS).expect("a limit");
            assert!(rate > seen * 1.09 && rate < seen * 1.11, "{rate}");
            seen = rate;
        }
        assert_eq!(pace.rate(26_000 * MS), None);
    }

    #[test]
    fn a_store_that_refuses_everything_gets_a_request_now_and_then() {
        let mut pace = Pace::default();
        let (mut now, mut sent) = (Duration::ZERO, 0);
        while now < Duration::from_secs(600) {
            now += pace.turn(now) + 30 * MS;
            pace.refused(now);
            sent += 1;
        }
        assert!((300..800).contains(&sent), "{sent} in ten minutes");
    }
}
