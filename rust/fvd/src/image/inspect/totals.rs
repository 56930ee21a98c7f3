//! Totals: what all sessions of an image have done (`docs/design/format.md`, section 12).

use bytes::Bytes;

use crate::error::Result;
use crate::format::{SECTOR, totals};
use crate::image::{Image, Stats};
use crate::storage::{IoBufMut, Storage};

/// The sum of the counters of all sessions that changed the image in `file` and were closed.
pub async fn read_totals<S: Storage>(file: &S) -> Result<Stats> {
    let sector = file.read(IoBufMut::zeroed(SECTOR as usize), totals::OFFSET).await?;
    Ok(Stats::from_values(&totals::decode(sector.as_slice())))
}

impl<S: Storage> Image<S> {
    /// Adds what this session has done so far. Not synced. A later call adds only what came since.
    pub(in crate::image) async fn add_to_totals(&self) -> Result<()> {
        let now = self.stats();
        let since = now.minus(&self.committer.counted());
        let totals = read_totals(self.file()).await?.plus(&since);
        self.file()
            .write(Bytes::from(totals::encode(&totals.values())), totals::OFFSET)
            .await?;
        self.committer.set_counted(now);
        Ok(())
    }
}
