//! What a run does, except for the order in which operations complete.

use std::fmt;
use std::time::Duration;

use fvd::image::CacheMode;

use super::case::{Case, Ends};
use super::load::Load;
use crate::fault::{Errno, Faults, Hangs, Target};
use crate::shape::Shape;
use crate::workload::Request;

/// Choices for [`Errors::one_in`].
const ONE_IN: [u32; 4] = [100, 30, 10, 10];

/// Choices for the minimum time of a read of a remote base, in milliseconds.
const LATENCIES: [u64; 4] = [1, 10, 30, 100];

/// Choices for [`Hangs::one_in`].
const HANG_ONE_IN: [u32; 3] = [5, 20, 80];

/// Choices for what hangs.
const HANG_TARGETS: [Target; 4] = [Target::Anything, Target::Reads, Target::Writes, Target::Zeroes];

/// Choices for what fails, in sessions with errors.
const TARGETS: [Target; 16] = [
    Target::Anything,
    Target::Anything,
    Target::Anything,
    Target::Base,
    Target::Base,
    Target::Base,
    Target::Data,
    Target::Data,
    Target::Data,
    Target::Metadata,
    Target::Reads,
    Target::Writes,
    Target::Zeroes,
    Target::Syncs,
    Target::Lengths,
    Target::Questions,
];

/// Choices for when operations fail.
const PHASES: [Phase; 8] = [
    Phase::Whole,
    Phase::Whole,
    Phase::Whole,
    Phase::Whole,
    Phase::Whole,
    Phase::Open,
    Phase::Close,
    Phase::Close,
];
/// In an open or a close, at least one in this many operations fails.
const FEW: u32 = 10;

/// Choices for the error number.
const ERRORS: [Errno; 8] = [
    Errno::Io,
    Errno::Io,
    Errno::Io,
    Errno::NoSpace,
    Errno::NoSpace,
    Errno::Quota,
    Errno::TimedOut,
    Errno::Any,
];

/// Errors that are injected at random.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// One in this many operations fails.
    pub one_in: u32,
    /// Only these operations fail.
    pub target: Target,
    /// The error number that they return.
    pub error: Errno,
    /// The part of the session in which they fail.
    pub phase: Phase,
}

/// A part of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The whole session.
    #[default]
    Whole,
    /// The open, including recovery.
    Open,
    /// The close, including its checkpoint.
    Close,
}

impl Errors {
    /// No errors in half of the sessions.
    fn random(rng: &mut fastrand::Rng) -> Option<Self> {
        let errors = Self {
            one_in: ONE_IN[rng.usize(..ONE_IN.len())],
            target: TARGETS[rng.usize(..TARGETS.len())],
            error: ERRORS[rng.usize(..ERRORS.len())],
            phase: PHASES[rng.usize(..PHASES.len())],
        };
        rng.bool().then_some(errors.within_phase())
    }

    /// An open and a close consist of few operations, so more of them fail.
    fn within_phase(mut self) -> Self {
        if self.phase != Phase::Whole {
            self.one_in = self.one_in.min(FEW);
        }
        self
    }
}

impl From<Errors> for Faults {
    fn from(errors: Errors) -> Self {
        Self {
            one_in: Some(errors.one_in),
            target: errors.target,
            error: errors.error,
            ..Self::default()
        }
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Script {
    /// The seed that determines the script.
    pub seed: u64,
    /// The point of the matrix.
    pub case: Case,
    /// The image.
    pub shape: Shape,
    /// Determines the content of the base.
    pub image_seed: u64,
    /// The sessions, one after the other.
    pub sessions: Vec<Session>,
}

/// A session, from open to end.
#[derive(Clone, Debug)]
pub struct Session {
    /// Determines the order of completions, which operations fail, and what a power cut leaves.
    pub seed: u64,
    /// Maximum number of requests in flight.
    pub depth: usize,
    /// The requests, in the order in which they start.
    pub steps: Vec<Step>,
    /// When writes become durable.
    pub cache: CacheMode,
    /// How it ends.
    pub end: End,
    /// Errors that are injected at random.
    pub errors: Option<Errors>,
    /// Pages of new space that can be allocated before half of the requests have started. `None`: no limit.
    pub space: Option<u64>,
    /// Minimum time of a read of the base.
    pub latency: Duration,
    /// Which operations hang.
    pub hangs: Option<Hangs>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Step {
    /// The request.
    pub request: Request,
    /// Cancel the request after this many completed operations, of any request.
    pub cancel: Option<u64>,
}

/// How a session ends. The numbers count completed operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a close.
    Close,
    /// With a power cut.
    Cut(u64),
    /// With the death of the process. What it wrote stays in the caches.
    Kill(u64),
}

impl Script {
    /// The run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let case = Case::random(&mut rng);
        let shape = case.shape(&mut rng);
        let image_seed = rng.u64(..);
        let sessions = (0..rng.u8(2..6)).map(|_| Session::random(&shape, image_seed, case, &mut rng));
        let script = Self {
            seed,
            case,
            image_seed,
            sessions: sessions.collect(),
            shape,
        };
        script.with_hangs()
    }

    /// In one run in eight, operations hang in half of the sessions.
    fn with_hangs(mut self) -> Self {
        // A generator of its own, so that the runs of other seeds do not change.
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0x5EED_4A46);
        if rng.u8(..8) > 0 {
            return self;
        }
        for session in &mut self.sessions {
            let hangs = Hangs {
                one_in: HANG_ONE_IN[rng.usize(..HANG_ONE_IN.len())],
                target: HANG_TARGETS[rng.usize(..HANG_TARGETS.len())],
            };
            session.hangs = rng.bool().then_some(hangs);
        }
        self
    }

    /// Number of requests in all sessions.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.sessions.iter().map(|session| session.steps.len()).sum()
    }
}

impl Session {
    fn random(shape: &Shape, image_seed: u64, case: Case, rng: &mut fastrand::Rng) -> Self {
        let (depth, count) = match rng.u8(..50) {
            0 => (1000, rng.u64(300..1200)),
            1..4 => (200, rng.u64(100..300)),
            // Long enough to fill a journal several times.
            4..10 => ([1, 2, 4][rng.usize(..3)], rng.u64(80..250)),
            // Little more than an open, so that the state left by earlier sessions remains.
            10..16 => (1, rng.u64(..3)),
            _ => ([1, 2, 4, 8, 16, 64][rng.usize(..6)], rng.u64(3..80)),
        };
        let mut load = Load::new(shape, image_seed, case.is_long(), rng.fork());
        let cancels = rng.u8(..4) > 0;
        let within = depth as u64 + 2;
        let steps = (0..count).map(|_| Step {
            request: load.request(),
            cancel: (cancels && rng.u8(..10) == 0).then(|| rng.u64(..within)),
        });
        let steps = steps.collect();
        let cache = match shape.cache {
            // A session without syncs among others.
            CacheMode::Writeback if case.has_unsafe_sessions() && rng.u8(..3) == 0 => CacheMode::Unsafe,
            cache => cache,
        };
        Self {
            seed: rng.u64(..),
            depth,
            steps,
            cache,
            end: End::random(case.ends(), cache, count, rng),
            errors: Errors::random(rng),
            space: (rng.u8(..8) == 0).then(|| rng.u64(..24)),
            latency: if case.is_far() {
                Duration::from_millis(LATENCIES[rng.usize(..LATENCIES.len())])
            } else {
                Duration::ZERO
            },
            hangs: None,
        }
    }
}

impl End {
    fn random(ends: Ends, cache: CacheMode, requests: u64, rng: &mut fastrand::Rng) -> Self {
        let each = [1, 2, 4][rng.usize(..3)];
        let after = rng.u64(1..requests * each + 8);
        let (closes, cuts) = match ends {
            Ends::Mixed => (2, 4),
            Ends::Kills => (1, 1),
            Ends::Cuts => (1, 7),
        };
        let number = rng.u8(..8);
        if number < closes {
            Self::Close
        } else if number < closes + cuts && cache != CacheMode::Unsafe {
            // Without syncs there is no guarantee after a power cut.
            Self::Cut(after)
        } else {
            Self::Kill(after)
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.case)?;
        writeln!(f, "{}", self.shape)?;
        for (number, session) in self.sessions.iter().enumerate() {
            writeln!(f, "{}", Numbered(number, session))?;
        }
        Ok(())
    }
}

struct Numbered<'a>(usize, &'a Session);

impl fmt::Display for Numbered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, session) = self;
        write!(
            f,
            "session {number}: {} at once, {:?}, end {:?}",
            session.depth, session.cache, session.end
        )?;
        if let Some(errors) = session.errors {
            let Errors {
                one_in,
                target,
                error,
                phase,
            } = errors;
            write!(
                f,
                ", one in {one_in} operations fails ({target:?}, {error:?}, {phase:?})"
            )?;
        }
        if let Some(pages) = session.space {
            write!(f, ", at first {pages} pages of space")?;
        }
        if !session.latency.is_zero() {
            write!(f, ", {} ms to the base", session.latency.as_millis())?;
        }
        if let Some(Hangs { one_in, target }) = session.hangs {
            write!(f, ", one in {one_in} operations hangs ({target:?})")?;
        }
        for step in &session.steps {
            write!(f, "\n    {:?}", step.request)?;
            if let Some(after) = step.cancel {
                write!(f, " cancelled after {after}")?;
            }
        }
        Ok(())
    }
}
