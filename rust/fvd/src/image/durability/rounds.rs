//! Rounds: one at a time. Flushes that arrive during a round share the next one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use event_listener::Event;

use crate::mutation::{self, Mutation};

/// Hands out rounds. Only the holder of a round writes metadata.
#[derive(Default)]
pub(super) struct FlushGate {
    state: Mutex<Rounds>,
    ended: Event,
}

#[derive(Default)]
struct Rounds {
    running: bool,
    /// Number of the last round that began, and of the last one that was a completed flush.
    started: u64,
    completed: u64,
}

/// Ends its round when dropped, also if the task that holds it is cancelled.
pub(in crate::image) struct Round<'a> {
    gate: &'a FlushGate,
    number: u64,
}

impl FlushGate {
    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a round of its own, or until a flush that began after this call has completed (None).
    pub(super) async fn enter(&self) -> Option<Round<'_>> {
        // The running round may have taken its changes already, so it may not cover this call.
        let covered_from = self.rounds().started + u64::from(!mutation::is(Mutation::ShareRunningRound));
        loop {
            let listener = {
                let mut rounds = self.rounds();
                if rounds.completed >= covered_from {
                    return None;
                }
                if !rounds.running {
                    return Some(self.begin(&mut rounds));
                }
                self.ended.listen()
            };
            listener.await;
        }
    }

    /// Waits for a round of its own.
    pub(super) async fn exclusive(&self) -> Round<'_> {
        loop {
            let listener = {
                let mut rounds = self.rounds();
                if !rounds.running {
                    return self.begin(&mut rounds);
                }
                self.ended.listen()
            };
            listener.await;
        }
    }

    fn begin(&self, rounds: &mut Rounds) -> Round<'_> {
        rounds.running = true;
        rounds.started += 1;
        Round {
            gate: self,
            number: rounds.started,
        }
    }
}

impl Round<'_> {
    /// Records that the round made everything durable that was acknowledged when it began.
    pub(in crate::image) fn complete(self) {
        self.gate.rounds().completed = self.number;
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.gate.rounds().running = false;
        self.gate.ended.notify(usize::MAX);
    }
}
