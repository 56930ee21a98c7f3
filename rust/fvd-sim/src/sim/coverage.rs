//! The values, and pairs of values, of the matrix that were covered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::case::{Case, DIMENSIONS};

/// A dimension and one of its values.
type Value = (usize, usize);

/// What was covered, counted in sessions.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    values: BTreeMap<Value, u64>,
    pairs: BTreeSet<(Value, Value)>,
}

impl Coverage {
    /// Adds this many sessions of a case.
    pub fn add(&mut self, case: &Case, sessions: u64) {
        let values: Vec<Value> = (0..DIMENSIONS.len())
            .filter(|dimension| case.matters(*dimension))
            .map(|dimension| (dimension, case.0[dimension]))
            .collect();
        for (index, value) in values.iter().enumerate() {
            *self.values.entry(*value).or_default() += sessions;
            self.pairs.extend(values[..index].iter().map(|other| (*other, *value)));
        }
    }

    /// Everything that can be covered.
    #[must_use]
    pub fn possible() -> Self {
        let mut coverage = Self::default();
        let mut case = Case([0; DIMENSIONS.len()]);
        loop {
            if case.is_possible() {
                coverage.add(&case, 1);
            }
            // Counts up, with one digit for each dimension.
            let next = (0..DIMENSIONS.len()).find(|&dimension| {
                let digit = &mut case.0[dimension];
                *digit = (*digit + 1) % DIMENSIONS[dimension].1.len();
                *digit != 0
            });
            if next.is_none() {
                return coverage;
            }
        }
    }

    /// Number of covered pairs of values of two dimensions.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Number of covered values.
    #[must_use]
    pub fn values(&self) -> usize {
        self.values.len()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let possible = Self::possible();
        for (dimension, (name, values)) in DIMENSIONS.iter().enumerate() {
            write!(f, "{name:12}")?;
            for (value, text) in values.iter().enumerate() {
                let count = self.values.get(&(dimension, value)).unwrap_or(&0);
                write!(f, "  {text}: {count}")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "{} of {} values, {} of {} pairs",
            self.values(),
            possible.values(),
            self.pairs(),
            possible.pairs()
        )
    }
}
