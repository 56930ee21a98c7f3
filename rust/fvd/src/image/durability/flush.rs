//! Flush: one round at a time. Flushes that arrive during a round share the next one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use event_listener::Event;

use crate::error::Result;
use crate::image::Image;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

/// Hands out rounds. Only the holder of a round writes metadata.
#[derive(Default)]
pub(in crate::image) struct FlushGate {
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
    async fn enter(&self) -> Option<Round<'_>> {
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
    pub(in crate::image) async fn exclusive(&self) -> Round<'_> {
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
    /// Costs one sync if no metadata has changed, two if the journal must be written, and one of the base if
    /// the image writes to its base. After a failure other than a full disk the image is poisoned: this and
    /// every later write and flush fails, and a reopen finds what the disk holds. With
    /// [`CacheMode::Unsafe`](crate::image::CacheMode::Unsafe) nothing is synced: the data survives the end of
    /// the process, but not a power cut.
    pub async fn flush(&self) -> Result<()> {
        self.check_process()?;
        self.check_poison()?;
        if !self.writable {
            return Ok(());
        }
        let _request = self.inflight.enter();
        self.counters.flushes.add(1);
        // If the base cannot be reached, the image's own changes must become durable all the same.
        let written_back = match &self.writeback {
            Some(writeback) => Box::pin(self.write_back_new(writeback)).await,
            None => Ok(()),
        };
        match self.flushes.enter().await {
            None => written_back,
            Some(round) => {
                // The previous round may have failed.
                self.check_poison()?;
                match self.commit().await {
                    Err(error) if mutation::is(Mutation::FailedRoundCounts) => {
                        round.complete();
                        return Err(error);
                    }
                    committed => committed?,
                }
                written_back?;
                self.sync_base().await?;
                round.complete();
                Ok(())
            }
        }
    }
}
