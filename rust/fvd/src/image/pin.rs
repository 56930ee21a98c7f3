//! The pin of the backing file, as the head of an image says it.

use super::Head;
use crate::error::{Error, Result};
use crate::format::records::BASE_PIN;
use crate::format::{Area, Block, StoredPin};
use crate::image::inspect::dump::BitmapRuns;
use crate::remote::UPDATE_HINT;
use crate::storage::Storage;

impl Head {
    /// Which object the image stands on. None: it was not pinned. Only counts if the base is a remote file.
    ///
    /// # Errors
    ///
    /// If the pin cannot be read: without it, a changed base would not be noticed.
    pub fn base_pin(&self) -> Result<Option<StoredPin>> {
        match &self.records {
            Area::Damaged(why) => {
                let message = format!("The pin of its backing file is lost: the record area is damaged ({why})");
                Err(Error::invalid_image(message).with_hint(UPDATE_HINT))
            }
            Area::Records(records) => records.get(BASE_PIN).map(StoredPin::decode).transpose(),
        }
    }

    /// Whether the bitmap in place says that every block of the base is local. Stops at the first that is not.
    pub(crate) async fn is_all_in_place<S: Storage>(&self, file: &S) -> Result<bool> {
        let blocks = self.geometry.blocks;
        let first = BitmapRuns::new(file, self, Block::FIRST).next().await?;
        Ok(first.is_some_and(|run| (run.first_block, run.count) == (Block::FIRST, blocks)))
    }
}
