//! What a run is told, and what it says.

use std::fmt;

use fvd::format::BaseUpdate;

use crate::cut::Cut;
use crate::fault::Lie;

/// What to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Decides everything that the other fields leave open.
    pub seed: u64,
    /// Power cuts at each boundary.
    pub cuts: u64,
    /// Check only this boundary, and there only this cut.
    pub only: Option<(u64, Option<u64>)>,
    /// How the media break their contract.
    pub lie: Lie,
    /// Whether some requests are cancelled.
    pub cancel: bool,
    /// Whether some operations fail.
    pub errors: bool,
    /// Prints requests and operations.
    pub trace: bool,
    /// The mode in which writes go to the base, instead of the one that the seed gives.
    pub updates: Option<BaseUpdate>,
}

impl Plan {
    /// The usual run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            cuts: 3,
            // Not in every run: without cancellation, more requests overlap.
            cancel: seed % 2 == 1,
            errors: seed.is_multiple_of(5),
            ..Self::default()
        }
    }
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Power cuts that were checked.
    pub images: u64,
    /// Boundaries between operations.
    pub boundaries: u64,
    /// Opens that were followed by requests.
    pub sessions: u64,
    /// Requests.
    pub requests: u64,
    /// Names of the features of the geometry.
    pub features: Vec<String>,
    /// A hash of everything that happened.
    pub digest: u64,
}

/// What was wrong, and how to reproduce it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The boundary.
    pub boundary: u64,
    /// The number of the cut and what it kept. `None`: found without a power cut.
    pub cut: Option<(u64, Cut)>,
    /// The geometry.
    pub shape: String,
    /// What was wrong.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.shape)?;
        write!(f, "boundary {}", self.boundary)?;
        let mut replay = format!("{}:{}", self.seed, self.boundary);
        if let Some((number, cut)) = &self.cut {
            write!(f, ", cut {number}: {cut}")?;
            replay = format!("{replay}:{number}");
        }
        writeln!(f, "\n{}", self.detail)?;
        write!(f, "replay: make crash SEED={replay}")
    }
}
