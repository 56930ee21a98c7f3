//! The values, and pairs of values, of the matrix that were covered.

use std::fmt;

use super::case::{Case, DIMENSIONS};

/// The greatest number of values of all dimensions together: each has one bit.
const LIMIT: usize = u64::BITS as usize;

/// What was covered, counted in sessions. A value is a number below [`LIMIT`], see [`number`].
#[derive(Clone, Debug)]
pub struct Coverage {
    sessions: [u64; LIMIT],
    /// For each value, the lower values that were covered together with it.
    pairs: [u64; LIMIT],
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            sessions: [0; LIMIT],
            pairs: [0; LIMIT],
        }
    }
}

/// The number of a value. The values of earlier dimensions have lower numbers.
fn number(dimension: usize, value: usize) -> usize {
    let before: usize = DIMENSIONS[..dimension].iter().map(|(_, values)| values.len()).sum();
    before + value
}

impl Coverage {
    /// Adds this many sessions of a case.
    pub fn add(&mut self, case: &Case, sessions: u64) {
        let mut lower = 0;
        let mut first = 0;
        for (dimension, (_, values)) in DIMENSIONS.iter().enumerate() {
            let value = first + case.0[dimension];
            first += values.len();
            if case.matters(dimension) {
                self.sessions[value] += sessions;
                self.pairs[value] |= lower;
                lower |= 1 << value;
            }
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
        self.pairs.iter().map(|lower| lower.count_ones() as usize).sum()
    }

    /// Number of covered values.
    #[must_use]
    pub fn values(&self) -> usize {
        self.sessions.iter().filter(|count| **count > 0).count()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let possible = Self::possible();
        for (dimension, (name, values)) in DIMENSIONS.iter().enumerate() {
            write!(f, "{name:12}")?;
            for (value, text) in values.iter().enumerate() {
                let count = self.sessions[number(dimension, value)];
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
