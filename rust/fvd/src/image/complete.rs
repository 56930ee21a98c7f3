//! Complete: every block is local, and the base is never read again.

use super::{Image, patch};
use crate::error::Result;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

impl<S: Storage> Image<S> {
    /// If every block is local: makes that durable, and then says so in the header, unless writes
    /// go on to the base. Gives the
    /// first byte that is still in the base, if there is one.
    ///
    /// Asks the bitmap itself: nobody's account of what was copied is trusted.
    pub(crate) async fn complete(&self) -> Result<Option<u64>> {
        let mut at = 0;
        while let Some(run) = self.next_in_base(at, self.base_size()).await? {
            if !run.is_empty() && !mutation::is(Mutation::CompleteUnseen) {
                return Ok(Some(run.start));
            }
            at = run.end;
        }
        let _round = self.flushes.exclusive().await;
        self.check_poison()?;
        if mutation::is(Mutation::CompleteFirst) {
            patch::write_all_local(&self.file).await?;
            self.sync_file().await?;
        }
        // Bits only go up: what was local is local. The checkpoint syncs data, entries and bits.
        self.checkpoint().await?;
        if self.through.is_some() {
            // The base stays in use: it gets what is written.
            return Ok(None);
        }
        self.metadata_written(patch::write_all_local(&self.file).await)?;
        self.sync_file().await?;
        Ok(None)
    }

    /// Makes what has been copied durable, so that it is not copied again after a crash.
    pub(crate) async fn checkpoint_copies(&self) -> Result<()> {
        self.check_process()?;
        let _round = self.flushes.exclusive().await;
        self.check_poison()?;
        self.checkpoint().await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pollster::block_on;

    use crate::format::BaseUpdate;
    use crate::image::read_head;
    use crate::image::through::in_memory;
    use crate::process::Process;

    #[test]
    fn a_forked_child_makes_nothing_durable() {
        let mut image = in_memory(BaseUpdate::No);
        block_on(image.write(Bytes::from_static(&[9; 8192]), 0)).expect("memory does not fail");
        image.process = Process::other();
        block_on(image.checkpoint_copies()).expect_err("it is the parent's");
        let head = block_on(read_head(image.file())).expect("valid");
        assert!(head.header.clean_shutdown, "nothing was written");
    }

    fn is_marked(updates: BaseUpdate) -> bool {
        let image = in_memory(updates);
        block_on(image.write(Bytes::from_static(&[9; 8192]), 0)).expect("memory does not fail");
        assert_eq!(block_on(image.complete()).expect("memory does not fail"), None);
        let head = block_on(read_head(image.file())).expect("valid");
        head.header.all_data_in_fvd_img
    }

    #[test]
    fn an_image_with_everything_local_needs_its_base_no_more_unless_it_writes_to_it() {
        assert!(is_marked(BaseUpdate::No));
        assert!(!is_marked(BaseUpdate::Writethrough));
    }
}
