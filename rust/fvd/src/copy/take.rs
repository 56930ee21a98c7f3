//! Chooses the next step of a slot.

use std::ops::Range;

use super::end::Fault;
use super::prefetch::Prefetch;
use crate::source::{Content, Run};
use crate::storage::Storage;

/// The most known zeros that one step makes local, in bytes: about as much as one look at the metadata finds.
const ZEROS_STEP: u64 = 1 << 30;

/// A range that one slot works on. Dropping it ends the step.
pub(super) struct Step<'a, S: Storage> {
    pub(super) prefetch: &'a Prefetch<'a, S>,
    /// Whole blocks, in bytes of the disk.
    pub(super) bytes: Range<u64>,
    /// Known zeros.
    pub(super) zeros: bool,
    /// One block that is moved part by part.
    pub(super) in_parts: bool,
    /// Belongs to the first ranges.
    pub(super) first: bool,
}

impl<S: Storage> Drop for Step<'_, S> {
    fn drop(&mut self) {
        self.prefetch.state().work.end(self.first);
        self.prefetch.ended.notify(usize::MAX);
    }
}

/// What a slot does next.
pub(super) enum Turn<'a, S: Storage> {
    Step(Step<'a, S>),
    /// A range was walked that needs no copy.
    Walked,
    /// Everything has been walked.
    Nothing,
}

impl<S: Storage> Prefetch<'_, S> {
    /// Takes the next step.
    pub(super) async fn take(&self) -> Result<Turn<'_, S>, Fault> {
        let front = self.state().work.front();
        match front {
            Some(front) => self.take_from(front).await,
            None => Ok(Turn::Nothing),
        }
    }

    /// Takes a step from `front`, which was the next range a moment ago.
    pub(super) async fn take_from(&self, front: Range<u64>) -> Result<Turn<'_, S>, Fault> {
        let found = self.image.next_in_base(front.start, front.end).await;
        let run = match found.map_err(Fault::Image)? {
            Some(run) if !run.is_empty() => run,
            walked => {
                let stop = walked.map_or(front.end, |run| run.end);
                self.walk(&front, stop, stop);
                return Ok(Turn::Walked);
            }
        };
        let failures = self.state().backoff.failures();
        let content = self.image.base_status(run.start, run.end - run.start).await;
        let block = self.image.geometry().block_size;
        let piece = self.piece_len();
        // One bad block may be the cause of a failure. A smaller piece lets the others succeed.
        let len = ((piece >> failures.min(16)) / block * block).max(block);
        let zeros = zero_blocks(content.as_ref().ok(), &run, block);
        let stop = zeros.unwrap_or(run.end.min(run.start + len));
        let Some(first) = self.walk(&front, run.start, stop) else {
            return Ok(Turn::Walked);
        };
        let step = Step {
            prefetch: self,
            bytes: run.start..stop,
            zeros: zeros.is_some(),
            in_parts: block > piece,
            first,
        };
        match content {
            Ok(_) => Ok(Turn::Step(step)),
            Err(error) => Err(Fault::Base { error, failures }),
        }
    }

    /// Advances to `stop`. A step begins at `found` if `found < stop`; what lies before is local. Returns
    /// whether the step belongs to the first ranges. None: another slot was faster.
    fn walk(&self, front: &Range<u64>, found: u64, stop: u64) -> Option<bool> {
        let mut state = self.state();
        let first = state.work.front_of_first().is_some();
        if !state.work.advance(front, stop) {
            return None;
        }
        if found < stop {
            state.work.begin(first);
        }
        let is_last = first && state.work.front_of_first().is_none();
        drop(state);
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
