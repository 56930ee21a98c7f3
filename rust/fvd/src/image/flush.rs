//! Flush: makes durable what was acknowledged (`docs/design/engine.md`, "Making it durable").

use tracing::{Instrument as _, debug_span};

use super::Image;
use crate::error::Result;
use crate::image::durability::Round;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

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
        self.committer.check_poison()?;
        if !self.options.writable {
            return Ok(());
        }
        let _request = self.inflight.enter();
        self.counters.flushes.add(1);
        // If the base cannot be reached, the image's own changes still become durable.
        let written_back = match &self.writeback {
            Some(writeback) => Box::pin(self.write_back_new(writeback)).await,
            None => Ok(()),
        };
        match self.committer.shared_round().await? {
            None => written_back,
            Some(round) => {
                let span = debug_span!("flush", file = %self.file().path().display());
                self.flush_round(round, written_back).instrument(span).await
            }
        }
    }

    async fn flush_round(&self, round: Round<'_>, written_back: Result<()>) -> Result<()> {
        match self.committer.commit().await {
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
