//! The figures of a run.

use std::fmt::Write as _;
use std::time::Duration;

use super::world::World;

/// What a fleet has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// From the start of each machine until it was up, sorted.
    pub times: Vec<Duration>,
    /// Machines that never came up. 0, unless the model is wrong.
    pub stuck: usize,
    /// Requests of all machines, those that were refused included.
    pub requests: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Bytes that have come.
    pub bytes: u64,
    /// Requests at the store in each second.
    pub seconds: Vec<u64>,
}

impl Outcome {
    pub(super) fn of(world: &World<'_>) -> Self {
        let mut times: Vec<_> = world.machines.iter().filter_map(|machine| machine.took).collect();
        times.sort_unstable();
        Self {
            stuck: world.machines.len() - times.len(),
            times,
            requests: world.machines.iter().map(|machine| machine.requests).sum(),
            refused: world.machines.iter().map(|machine| machine.refused).sum(),
            bytes: world.machines.iter().map(|machine| machine.bytes).sum(),
            seconds: world.store.seconds.clone(),
        }
    }

    /// The time in which this share of the machines was up, in percent.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.times.len().saturating_sub(1);
        let index = (last * percent + 50) / 100;
        self.times.get(index).copied().unwrap_or_default()
    }

    /// Most requests in a second.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.seconds.iter().copied().max().unwrap_or(0)
    }

    /// As an object of JSON. `name` has no quotes in it.
    #[must_use]
    pub fn json(&self, name: &str) -> String {
        let seconds = |percent| self.percentile(percent).as_secs_f64();
        let mut text = format!(
            "{{\"name\": \"{name}\", \"machines\": {}",
            self.times.len() + self.stuck
        );
        _ = write!(text, ", \"median\": {:.3}, \"p99\": {:.3}", seconds(50), seconds(99));
        _ = write!(text, ", \"stuck\": {}, \"requests\": {}", self.stuck, self.requests);
        _ = write!(text, ", \"refused\": {}, \"bytes\": {}", self.refused, self.bytes);
        let quantiles: Vec<_> = (0..=100).map(|percent| format!("{:.3}", seconds(percent))).collect();
        _ = write!(text, ", \"quantiles\": [{}]", quantiles.join(", "));
        let each: Vec<_> = self.seconds.iter().map(u64::to_string).collect();
        _ = write!(text, ", \"requests-a-second\": [{}]}}", each.join(", "));
        text
    }
}
