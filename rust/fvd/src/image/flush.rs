//! Flush: one round at a time; those that arrive during a round share the next one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use event_listener::Event;

use super::Image;
use crate::error::Result;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

/// Hands out rounds. The holder of a round is the only one that writes metadata.
#[derive(Default)]
pub(super) struct FlushGate {
    state: Mutex<Rounds>,
    ended: Event,
}

#[derive(Default)]
struct Rounds {
    running: bool,
    /// Rounds begun, and the last one that was a completed flush.
    started: u64,
    completed: u64,
}

/// Ends its round when dropped, also when the task that holds it is cancelled.
pub(super) struct Round<'a> {
    gate: &'a FlushGate,
    number: u64,
}

impl FlushGate {
    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a round, or until a flush that started after this call has completed (None).
    async fn enter(&self) -> Option<Round<'_>> {
        // A round that is running now may have taken its changes already.
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

    /// Waits for a round of one's own.
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
    /// The round made everything durable that was acknowledged when it began.
    fn complete(self) {
        self.gate.rounds().completed = self.number;
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.gate.rounds().running = false;
        self.gate.ended.notify(usize::MAX);
    }
}

impl<S: Storage> Image<S> {
    /// Makes everything durable that was acknowledged before this call.
    ///
    /// Costs one sync where no metadata changed, two where the journal has to be written, and one of
    /// the base where the image writes through to it. After
    /// a failure other than a full disk the image is poisoned: this and every later write and
    /// flush fails, and what the disk holds is what a reopen finds. With
    /// [`CacheMode::Unsafe`](super::CacheMode::Unsafe) nothing is synced: it survives the end of
    /// the process, not a power cut.
    pub async fn flush(&self) -> Result<()> {
        self.check_process()?;
        self.check_poison()?;
        if !self.writable {
            return Ok(());
        }
        let _request = self.guests.enter();
        self.counters.flushes.add(1);
        // A base that cannot be reached is no reason not to make durable what the image has.
        let pushed = match &self.through {
            Some(through) => Box::pin(self.push_new(through)).await,
            None => Ok(()),
        };
        match self.flushes.enter().await {
            None => pushed,
            Some(round) => {
                // The round before this one may have failed.
                self.check_poison()?;
                match self.commit().await {
                    Err(error) if mutation::is(Mutation::FailedRoundCounts) => {
                        round.complete();
                        return Err(error);
                    }
                    committed => committed?,
                }
                pushed?;
                self.sync_base().await?;
                round.complete();
                Ok(())
            }
        }
    }
}
