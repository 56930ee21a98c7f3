//! Storage chunks that were freed, on their way to be used again.
//!
//! Freed, a chunk is first *pending* (`pending`): on disk its old entry still counts. A checkpoint
//! clears the entry in place and erases the journal, which might bring it back; then it is
//! *settled* here. Then the requests have to end that were under way, because they may have
//! looked up where it lay.

use super::lookups::{Lookups, Phase};
use super::numbers::NumberSet;

#[derive(Default)]
pub(super) struct Freed {
    /// Nothing on disk leads to them; a request may be about to read or write there.
    settled: NumberSet,
    /// As `settled`; free when the requests of this phase have ended.
    leaving: Option<(Phase, NumberSet)>,
    /// To be used again.
    free: NumberSet,
}

impl Freed {
    /// Nothing on disk leads to these any more.
    pub(super) fn settle(&mut self, numbers: NumberSet) {
        self.settled.append(numbers);
    }

    /// No request and nothing on disk leads to these.
    pub(super) fn add_free(&mut self, numbers: NumberSet) {
        self.free.append(numbers);
    }

    /// Looks whether requests have ended. Never waits: who frees a chunk is a request as well.
    pub(super) fn collect(&mut self, lookups: &Lookups) {
        // Twice: what has left makes way for those that come next.
        for _ in 0..2 {
            if let Some((_, numbers)) = self.leaving.take_if(|(phase, _)| lookups.have_ended(*phase)) {
                self.free.append(numbers);
            }
            if self.leaving.is_none() && !self.settled.is_empty() {
                self.leaving = Some((lookups.change(), self.settled.take()));
            }
        }
    }

    /// Whether some will be free when requests have ended.
    pub(super) fn is_waiting(&self) -> bool {
        self.leaving.is_some() || !self.settled.is_empty()
    }

    /// The lowest number to be used again.
    pub(super) fn first_free(&mut self) -> Option<u32> {
        self.free.first()
    }

    /// It is in use.
    pub(super) fn take(&mut self, number: u32) {
        self.free.remove(number);
    }
}
