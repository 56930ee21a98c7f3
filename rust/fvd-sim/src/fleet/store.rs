//! The store: how many requests it serves, and how fast.

use std::time::Duration;

use super::pipe::Pipe;
use super::scenario::{Scenario, Turned};

/// What the store saves up of requests that were not made, as a time.
const BURST: f64 = 1.0;

pub(super) struct Store {
    pub(super) pipe: Pipe,
    /// Requests a second.
    limit: Option<f64>,
    turned: Turned,
    /// Requests that it would serve at once, at `counted`.
    credit: f64,
    counted: Duration,
    first_byte: Duration,
    spread: f64,
    rng: fastrand::Rng,
    /// Requests in each second of the simulation, refused ones included.
    pub(super) seconds: Vec<u64>,
}

/// The store's answer to a request.
pub(super) enum Served {
    /// The first byte leaves then.
    At(Duration),
    /// Refused. The pause that it demands.
    No(Option<Duration>),
}

impl Store {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            pipe: Pipe::new(scenario.store_rate),
            limit: scenario.requests,
            turned: scenario.turned,
            credit: scenario.requests.unwrap_or(0.0) * BURST,
            counted: Duration::ZERO,
            first_byte: scenario.first_byte,
            spread: scenario.spread,
            rng: fastrand::Rng::with_seed(scenario.seed ^ 0x5704_e000),
            seconds: Vec::new(),
        }
    }

    /// A request comes.
    pub(super) fn serve(&mut self, now: Duration) -> Served {
        let second = now.as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, 0);
        }
        self.seconds[second] += 1;
        let Some(limit) = self.limit else {
            return Served::At(now + self.latency());
        };
        let since = now.saturating_sub(self.counted).as_secs_f64();
        (self.credit, self.counted) = ((self.credit + since * limit).min(limit * BURST), now);
        if let (Turned::Refused(demanded), true) = (self.turned, self.credit < 1.0) {
            return Served::No(demanded);
        }
        // Below 0: it waits until it is served.
        self.credit -= 1.0;
        let waits = Duration::from_secs_f64((-self.credit / limit).max(0.0));
        Served::At(now + waits + self.latency())
    }

    fn latency(&mut self) -> Duration {
        // Box and Muller: a normal distribution from two uniform ones.
        let radius = (-2.0 * (1.0 - self.rng.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.rng.f64()).cos();
        self.first_byte.mul_f64((self.spread * normal).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(turned: Turned, requests: u32, every: Duration) -> (u32, Duration) {
        let mut store = Store::new(&Scenario {
            requests: Some(100.0),
            turned,
            spread: 0.0,
            ..Scenario::default()
        });
        let (mut count, mut last) = (0, Duration::ZERO);
        for number in 0..requests {
            if let Served::At(at) = store.serve(every * number) {
                (count, last) = (count + 1, at);
            }
        }
        (count, last)
    }

    #[test]
    fn no_more_requests_are_served_than_the_limit_and_a_burst() {
        let (count, _) = served(Turned::Refused(None), 4000, Duration::from_millis(1));
        assert!((495..=500).contains(&count), "{count} in 4 s");
    }

    #[test]
    fn requests_that_wait_are_served_at_the_limit() {
        let (count, last) = served(Turned::Queued, 1100, Duration::ZERO);
        assert_eq!(count, 1100);
        assert_eq!(last.as_millis(), 10_015, "1000 after the burst, at 100 a second");
    }
}
