//! Chooses the next step of a slot.

use std::ops::Range;

use super::machine::Fault;
use super::prefetch::Prefetch;
use super::step::{Kind, Step};
use crate::source::{Content, Run};
use crate::storage::Storage;

/// The most known zeros that one step makes local, in bytes: about as much as one look at the metadata finds.
const ZEROS_STEP: u64 = 1 << 30;

/// The ranges among which a slot takes its next step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranges {
    All,
    /// Those that a profile names.
    First,
}

/// What a slot has found.
pub(super) enum Taken<'a, S: Storage> {
    Step(Step<'a, S>),
    /// A range that needs no copy, or that another slot has taken.
    Walked,
    /// Everything has been walked.
    Nothing,
}

impl<S: Storage> Prefetch<'_, S> {
    /// Takes the next step.
    pub(super) async fn take(&self, ranges: Ranges) -> Result<Taken<'_, S>, Fault> {
        match self.front(ranges) {
            Some(front) => self.take_from(front).await,
            None => Ok(Taken::Nothing),
        }
    }

    /// The next range.
    pub(super) fn front(&self, ranges: Ranges) -> Option<Range<u64>> {
        let shared = self.shared();
        match ranges {
            Ranges::All => shared.work.front(),
            Ranges::First => shared.work.front_of_first(),
        }
    }

    /// A step without bytes, for the slot that comes when everything has been walked and all others have
    /// ended.
    pub(super) fn last_step(&self) -> Option<Step<'_, S>> {
        let mut shared = self.shared();
        if shared.phase.outcome().is_some() || !shared.work.is_done() {
            return None;
        }
        shared.work.begin(false);
        drop(shared);
        Some(Step::new(self, 0..0, Kind::Zeros, false))
    }

    /// Takes a step from `front`, which was the next range a moment ago.
    async fn take_from(&self, front: Range<u64>) -> Result<Taken<'_, S>, Fault> {
        let found = self.image.next_in_base(front.start, front.end).await;
        let run = match found.map_err(Fault::Image)? {
            Some(run) if !run.is_empty() => run,
            walked => {
                let stop = walked.map_or(front.end, |run| run.end);
                self.walk(&front, stop, stop);
                return Ok(Taken::Walked);
            }
        };
        let failures = self.shared().backoff.failures();
        let content = self.image.base_status(run.start, run.end - run.start).await;
        let block = self.image.geometry().block_size;
        let piece = self.piece_len();
        // One bad block may be the cause of a failure. A smaller piece lets the others succeed.
        let len = ((piece >> failures.min(16)) / block * block).max(block);
        let zeros = zero_blocks(content.as_ref().ok(), &run, block);
        let stop = zeros.unwrap_or(run.end.min(run.start + len));
        let Some(first) = self.walk(&front, run.start, stop) else {
            return Ok(Taken::Walked);
        };
        let kind = match zeros {
            Some(_) => Kind::Zeros,
            None if block > piece => Kind::Parts(None),
            None => Kind::Whole,
        };
        let step = Step::new(self, run.start..stop, kind, first);
        match content {
            Ok(_) => Ok(Taken::Step(step)),
            Err(error) => Err(Fault::Base { error, failures }),
        }
    }

    /// Advances to `stop`. A step begins at `found` if `found < stop`; what lies before is local. Returns
    /// whether the step belongs to the first ranges. None: another slot was faster.
    fn walk(&self, front: &Range<u64>, found: u64, stop: u64) -> Option<bool> {
        let mut shared = self.shared();
        let first = shared.work.front_of_first().is_some();
        if !shared.work.advance(front, stop) {
            return None;
        }
        if found < stop {
            shared.work.begin(first);
        }
        let is_last = first && shared.work.front_of_first().is_none();
        drop(shared);
        if is_last {
            // Nothing is left for helpers.
            self.widened.notify(usize::MAX);
        }
        self.tell_local(|_| ());
        Some(first)
    }
}

/// The end of the whole blocks at the start of `run` that are zeros according to `found`. None if there is no
/// such block. `run` begins and ends at block boundaries.
fn zero_blocks(found: Option<&Run>, run: &Range<u64>, block: u64) -> Option<u64> {
    let found = found.filter(|found| found.content == Content::Zero)?;
    let most = (ZEROS_STEP / block * block).max(block);
    let whole = if found.len >= run.end - run.start {
        run.end
    } else {
        run.start + found.len / block * block
    };
    Some(whole.min(run.start + most)).filter(|end| *end > run.start)
}
