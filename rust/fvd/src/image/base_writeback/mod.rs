//! Base writeback: the image as a local cache of a base that is written to.
//!
//! A block whose bit is 1 is as the image has it, one whose bit is 0 as the base has it. The mark
//! (`clean_shutdown` = 0) records that the two may contradict each other. `docs/design/copies.md`, "Base
//! writeback", has the invariants (W1 to W6) and the crash cases.

mod dirty;
mod update;
mod write_back;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use event_listener::Event;

use super::{Head, Image};
use crate::error::{Error, ErrorKind, Result};
use crate::format::BaseUpdate;
use crate::image::durability::Mark;
use crate::image::metadata::bitmap::Bitmap;
use crate::mutation::{self, Mutation};
use crate::source::{BaseSource, WritableBase};
use crate::storage::Storage;

use dirty::DirtyRanges;

/// The state of an image that writes to its base.
pub(super) struct BaseWriteback {
    mode: BaseUpdate,
    dirty: Mutex<DirtyRanges>,
    /// Notified when a range becomes dirty.
    became_dirty: Event,
    /// The mark says that the sides may differ (W2), and the base is ready to be written to.
    begun: AtomicBool,
}

impl Head {
    /// What a write to this image does to its base.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if `write_updates_base_img` names an unknown mode, or one that would lose
    /// data in this image.
    pub fn base_update(&self) -> Result<BaseUpdate> {
        let name = self.header.write_updates_base_img.as_str();
        let refuse = |why: &str| {
            let message = format!("write_updates_base_img is '{name}': {why}");
            Err(Error::unsupported(message))
        };
        match BaseUpdate::from_name(name) {
            None => refuse("only no, writethrough, writeback and writenocache are known"),
            Some(BaseUpdate::No) => Ok(BaseUpdate::No),
            Some(_) if self.header.base_img.is_empty() => Ok(BaseUpdate::No),
            Some(_) if self.header.all_data_in_fvd_img => {
                refuse("all_data_in_fvd_img says that the base is no longer used")
            }
            Some(_) if self.geometry.journal.is_none() => refuse("this needs a journal, and the image has none"),
            Some(update) => Ok(update),
        }
    }

    /// Whether the base may lack what is local, provided that the image is unclean.
    pub(in crate::image) fn base_may_be_stale(&self) -> bool {
        self.needs_base() && matches!(self.base_update(), Ok(update) if update != BaseUpdate::No)
    }
}

impl BaseWriteback {
    /// The state for an image with this head; None: its base is only read. Fails with
    /// [`ErrorKind::NotPermitted`] if the base must be written to and cannot be.
    pub(super) fn of(head: &Head, base: Option<&dyn BaseSource>, writable: bool) -> Result<Option<Self>> {
        if !writable {
            return Ok(None);
        }
        let mode = head.base_update()?;
        let Some(base) = base.filter(|_| mode != BaseUpdate::No && head.geometry.bitmap.is_some()) else {
            return Ok(None);
        };
        if base.writable().is_none() {
            let message = "It cannot be written to, and the image is to write to its base (write_updates_base_img)";
            return Err(Error::new(ErrorKind::NotPermitted, message).with_path(base.path()));
        }
        let size = head.geometry.base_size;
        let resync = !head.header.clean_shutdown && !mutation::is(Mutation::ForgetResync);
        Ok(Some(Self {
            mode,
            dirty: Mutex::new(DirtyRanges::new(size, resync)),
            became_dirty: Event::new(),
            begun: AtomicBool::new(false),
        }))
    }

    /// Prepares for the resync of an unclean image, whose `data` has been synced: what is read of the image
    /// and of the base from now on is what their media have (I19).
    pub(super) async fn sync_leftovers<S: Storage>(
        &self,
        head: &Head,
        data: &S,
        base: Option<&dyn BaseSource>,
    ) -> Result<()> {
        let Some(base) = base.and_then(BaseSource::writable) else {
            return Ok(());
        };
        if head.header.clean_shutdown {
            return Ok(());
        }
        if !mutation::is(Mutation::ResyncBelievesCache) {
            data.drop_cached(u64::MAX).await?;
        }
        if mutation::is(Mutation::LeftoversUnsynced) {
            return Ok(());
        }
        base.sync_leftovers().await
    }

    /// Whether the base changes under blocks that are still in it (W5).
    pub(super) fn changes_base(&self) -> bool {
        self.mode == BaseUpdate::Writenocache
    }

    fn dirty(&self) -> MutexGuard<'_, DirtyRanges> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Called before the image is marked clean: the next write must mark it unclean again.
    pub(super) fn end(&self) {
        self.begun.store(false, Ordering::Release);
    }
}

impl<S: Storage> Image<S> {
    /// Marks the image unclean, durably, and prepares the base, before the first write of a session reaches
    /// either side (W2).
    ///
    /// The caller holds no lock of blocks and no flush round.
    async fn begin_updates(&self, writeback: &BaseWriteback) -> Result<()> {
        if writeback.has_begun() {
            return Ok(());
        }
        let _round = self.committer.round().await?;
        if self.committer.mark() != Mark::Unclean && !mutation::is(Mutation::UpdateUnrecorded) {
            self.committer.mark_unclean().await?;
        }
        self.updated_base().prepare(self.metadata.base_size()).await?;
        // This attempt, an earlier one or an earlier process may have changed the length of the base. A power
        // cut must not bring the old length back (as in `extend`).
        let synced = self.updated_base().sync().await;
        if !mutation::is(Mutation::BaseBeginSwallowed) {
            self.committer.metadata_written(synced)?;
        }
        writeback.begun.store(true, Ordering::Release);
        Ok(())
    }

    fn updated_base(&self) -> &dyn WritableBase {
        let base = self.base.as_ref().and_then(BaseSource::writable);
        base.expect("an image that writes through was opened with a base for that")
    }

    fn needed_bitmap(&self) -> &Bitmap {
        let bitmap = self.metadata.bitmap();
        bitmap.expect("an image that writes through has blocks in the base")
    }
}

/// An image of one block of 8192 bytes, over a base of sevens.
#[cfg(test)]
pub(in crate::image) fn in_memory(updates: BaseUpdate) -> Image<crate::storage::MemoryStorage> {
    use pollster::block_on;

    use crate::source::RawSource;
    use crate::storage::MemoryStorage;

    let base = MemoryStorage::from_bytes(&[7; 8192]);
    let base = block_on(RawSource::for_writing(base)).expect("memory does not fail");
    over(Box::new(base), updates)
}

/// As [`in_memory`], but over `base`.
#[cfg(test)]
pub(in crate::image) fn over(base: Box<dyn BaseSource>, updates: BaseUpdate) -> Image<crate::storage::MemoryStorage> {
    use pollster::block_on;

    use super::{CreateOptions, OpenOptions, create, read_head};
    use crate::format::LayoutOptions;
    use crate::storage::MemoryStorage;

    let file = MemoryStorage::new();
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: 8192,
            base_size: Some(8192),
            block_size: Some(8192),
            ..LayoutOptions::default()
        },
        base_img: "base".into(),
        write_updates_base_img: updates,
        ..CreateOptions::default()
    };
    block_on(create(&file, None, &options, None)).expect("created");
    let head = block_on(read_head(&file)).expect("valid");
    let options = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    block_on(Image::open(file, head, None, Some(base), options)).expect("opens")
}
