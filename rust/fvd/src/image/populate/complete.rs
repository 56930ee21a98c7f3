//! Complete: every block is local, and the base is never read again.

use crate::error::Result;
use crate::image::Image;
use crate::image::metadata::patch;
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

impl<S: Storage> Image<S> {
    /// If every block is local: makes that durable, and then sets `all_data_in_fvd_img` in the header, unless
    /// writes also go to the base. Otherwise returns the first byte that is still in the base.
    ///
    /// Asks the bitmap itself: no other record of what was copied is trusted (P1).
    pub(crate) async fn complete(&self) -> Result<Option<u64>> {
        let mut at = 0;
        while let Some(run) = self.next_in_base(at, self.metadata.base_size()).await? {
            if !run.is_empty() && !mutation::is(Mutation::CompleteUnseen) {
                return Ok(Some(run.start));
            }
            at = run.end;
        }
        let _round = self.committer.round().await?;
        if mutation::is(Mutation::CompleteFirst) {
            patch::write_all_local(self.file(), true).await?;
            self.committer.sync_file().await?;
        }
        // A bit only changes from 0 to 1, so all blocks are still local. The checkpoint syncs data, entries
        // and bits.
        self.committer.checkpoint().await?;
        if self.writeback.is_some() {
            // The base stays in use: later writes go to it, too.
            return Ok(None);
        }
        self.committer
            .metadata_written(patch::write_all_local(self.file(), true).await)?;
        self.committer.sync_file().await?;
        Ok(None)
    }

    /// Makes the copies stored so far durable, so that they are not made again after a crash.
    pub(crate) async fn checkpoint_copies(&self) -> Result<()> {
        self.check_process()?;
        let _round = self.committer.round().await?;
        self.committer.checkpoint().await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pollster::block_on;

    use crate::format::BaseUpdate;
    use crate::image::base_writeback::in_memory;
    use crate::image::read_head;
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
    fn completion_sets_the_flag_unless_writes_go_to_the_base() {
        assert!(is_marked(BaseUpdate::No));
        assert!(!is_marked(BaseUpdate::Writethrough));
    }
}
