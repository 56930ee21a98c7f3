//! Open: reads and checks the header, and recovers an unclean image (`docs/design/engine.md`, "What is
//! believed at open").

use std::sync::Arc;

use tracing::{Instrument as _, info_span};

use super::Image;
use super::base_writeback::BaseWriteback;
use super::range_lock::RangeLock;
use crate::error::{Error, Result};
use crate::format::{Area, Geometry, HEADER_SIZE, Header, Region, redo};
use crate::image::durability::Committer;
use crate::image::durability::recover::{in_place, medium};
use crate::image::files::Files;
use crate::image::inspect::stats::Counters;
use crate::image::metadata::Metadata;
use crate::image::populate::copy_on_read::CopyQueue;
use crate::image::populate::inflight::InflightRequests;
use crate::image::populate::profile::{Recorder, empty_profile};
use crate::image::space::epochs::Epochs;
use crate::image::space::pool::ChunkPool;
use crate::image::space::{Allocator, Parts};
use crate::process::Process;
use crate::source::{BaseSource, Layer};
use crate::storage::{IoBufMut, Space, Storage};

/// Most bytes of copies that wait to be stored, whatever the header says.
const MOST_WAITING: i64 = 64 << 20;

/// When acknowledged writes become durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// At the next flush.
    #[default]
    Writeback,
    /// Before they are acknowledged.
    Writethrough,
    /// When the operating system writes them. A power cut can destroy the image.
    Unsafe,
}

/// What a discard of the guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discard {
    /// Nothing. Zeroing keeps the space, too.
    Ignore,
    /// The range reads as zeros, and its space is freed.
    #[default]
    Unmap,
}

/// What a write that is all zeros does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectZeroes {
    /// The zeros are written, as any other data.
    #[default]
    Off,
    /// The range is zeroed: holes get no space, and storage chunks stay allocated.
    On,
    /// The range is zeroed, and its space is freed, unless [`Discard::Ignore`] forbids that.
    Unmap,
}

/// How to open an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Allow writes. Recovery of an unclean image is then written to disk, otherwise it is done in memory.
    pub writable: bool,
    /// When acknowledged writes become durable.
    pub cache: CacheMode,
    /// Store data that is read from the base; None: as the header says. Needs `writable`, and a task that
    /// runs [`copy::copy_on_read`](crate::copy::copy_on_read).
    pub copy_on_read: Option<bool>,
    /// What discards do.
    pub discard: Discard,
    /// What writes of zeros do.
    pub detect_zeroes: DetectZeroes,
}

impl OpenOptions {
    /// `space`, but `Keep` instead of `Free` with [`Discard::Ignore`].
    pub(super) fn permitted(self, space: Space) -> Space {
        match (space, self.discard) {
            (Space::Free, Discard::Ignore) => Space::Keep,
            _ => space,
        }
    }
}

/// A header that passed every check, and what is derived from it.
#[derive(Clone, Debug)]
pub struct Head {
    /// The fields of the header.
    pub header: Header,
    /// Offsets and sizes of the regions.
    pub geometry: Geometry,
    /// Facts that have no field.
    pub records: Area,
    /// A change of the header was cut short: not all of these fields are in place. The next open for writing
    /// writes them there.
    pub interrupted: bool,
    /// The image is not complete: a command is still making it, or did not finish (`docs/design/format.md`,
    /// section 10).
    pub unfinished: bool,
}

impl Head {
    /// Whether reading needs the base image.
    #[must_use]
    pub fn needs_base(&self) -> bool {
        !self.header.all_data_in_fvd_img && !self.header.base_img.is_empty()
    }

    /// The journal, if the image was not closed: only then its records count.
    #[must_use]
    pub fn unclean_journal(&self) -> Option<Region> {
        self.geometry.journal.filter(|_| !self.header.clean_shutdown)
    }

    /// Whether metadata may be incomplete, and nothing tells what is missing: the image was not closed, and
    /// has no journal.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        let bitmap = self.geometry.bitmap.is_some() && !self.header.all_data_in_fvd_img;
        let metadata = bitmap || self.geometry.table.is_some();
        !self.header.clean_shutdown && self.geometry.journal.is_none() && metadata
    }

    /// Fails for a suspect image.
    pub(super) fn check_trusted<S: Storage>(&self, file: &S) -> Result<()> {
        if !self.is_suspect() {
            return Ok(());
        }
        let error = Error::invalid_image(
            "The image was not closed cleanly and has no journal: its content is suspect. \
             `fvd check -r all` makes what is there usable",
        );
        Err(error.with_path(file.path()))
    }
}

/// Reads and checks the header. If a change of it was interrupted, returns the header as it will be when the
/// change is finished. No file that it names is opened.
pub async fn read_head<S: Storage>(file: &S) -> Result<Head> {
    let len = file.len().await?;
    let buf = file.read(IoBufMut::zeroed(HEADER_SIZE.min(len) as usize), 0).await?;
    head_of(buf.as_slice(), len).map_err(|error| error.with_path(file.path()))
}

/// The head that `region`, the first bytes of an image of `len` bytes, describes.
pub(super) fn head_of(region: &[u8], len: u64) -> Result<Head> {
    let redone = redo::replay(region);
    let fields = redone.as_ref().map_or(region, |redone| &redone.fields);
    let header = Header::decode(fields)?;
    let geometry = Geometry::new(&header, len)?;
    Ok(Head {
        header,
        geometry,
        records: Area::decode(fields),
        interrupted: redone.is_some(),
        unfinished: false,
    })
}

impl<S: Storage> Image<S> {
    /// Opens the image in `file`. The caller has read its [`Head`], to open what that names: `data`, the
    /// separate data file, and `base`.
    ///
    /// An open for writing first syncs the files of the image, unless with [`CacheMode::Unsafe`]: metadata
    /// that only the page cache has is not believed (invariant I19). `head` should then come from
    /// [`read_head_to_write`](super::read_head_to_write). An image that writes to its base (see
    /// [`Head::base_update`]) needs a writable `base` for that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidImage`](crate::ErrorKind::InvalidImage) for a suspect image (see
    /// [`Head::is_suspect`]). When it is opened for writing: the errors of [`Head::base_update`], and
    /// [`ErrorKind::NotPermitted`](crate::ErrorKind::NotPermitted) if `base` cannot be written to, but must
    /// be.
    ///
    /// # Panics
    ///
    /// If `data` or `base` is missing although the header names it.
    pub async fn open(
        file: S,
        head: Head,
        data: Option<S>,
        base: Option<Box<dyn BaseSource>>,
        options: OpenOptions,
    ) -> Result<Self> {
        assert_eq!(
            data.is_some(),
            !head.header.data_file.is_empty(),
            "the data file comes with the image"
        );
        assert!(
            base.is_some() || !head.needs_base(),
            "the base comes with an image that needs it"
        );
        let mut head = head;
        if options.writable {
            head = medium::sync_and_reread(&file, data.as_ref(), head, options.cache).await?;
        }
        head.check_trusted(&file)?;
        let writeback = BaseWriteback::of(&head, base.as_deref(), options.writable);
        let writeback = writeback.map_err(|error| error.with_path(file.path()))?;
        if let Some(writeback) = &writeback {
            let data = data.as_ref().unwrap_or(&file);
            writeback.sync_leftovers(&head, data, base.as_deref()).await?;
        }
        if options.writable {
            in_place::recover(&file, Some(data.as_ref().unwrap_or(&file)), &mut head).await?;
        }
        let unclean = head.unclean_journal().filter(|_| !options.writable);
        let image = Self::assemble(file, head, data, base, options, writeback);
        if let Some(journal) = unclean {
            let span =
                info_span!("recovery_in_memory", file = %image.file().path().display(), journal_bytes = journal.size);
            image.recover_in_memory(journal).instrument(span).await?;
        }
        Ok(image)
    }

    fn assemble(
        file: S,
        head: Head,
        data: Option<S>,
        base: Option<Box<dyn BaseSource>>,
        options: OpenOptions,
        writeback: Option<BaseWriteback>,
    ) -> Self {
        let needs_base = head.needs_base();
        let Head { header, geometry, .. } = head;
        let has_blocks_in_base = needs_base && geometry.bitmap.is_some();
        let copies = has_blocks_in_base && options.writable && options.copy_on_read.unwrap_or(header.copy_on_read);
        let most_waiting = header
            .max_outstanding_copy_on_read_data
            .clamp(0, MOST_WAITING)
            .cast_unsigned();
        // An existing profile stays until the user clears it.
        let records = has_blocks_in_base && options.writable && header.generate_prefetch_profile;
        let recorded = empty_profile(&geometry).filter(|_| records && geometry.profile_entries == 0);
        let files = Arc::new(Files::new(file, data));
        let counters = Arc::new(Counters::default());
        let epochs = Arc::new(Epochs::default());
        let metadata = Arc::new(Metadata::new(geometry, needs_base, ChunkPool::new(epochs.clone())));
        let committer = Arc::new(Committer::new(
            files.clone(),
            metadata.clone(),
            counters.clone(),
            options.cache,
            header.clean_shutdown,
        ));
        let below = Parts {
            files: files.clone(),
            metadata: metadata.clone(),
            committer: committer.clone(),
            counters: counters.clone(),
            epochs,
        };
        let zero_space = options.permitted(Space::Free);
        let allocator = Allocator::new(below, options.writable, header.storage_grow_unit, zero_space);
        Self {
            process: Process::current(),
            files,
            header,
            metadata,
            committer,
            allocator,
            base: base.filter(|_| needs_base).map(Layer::new),
            writeback,
            filling: RangeLock::default(),
            copies: CopyQueue::new(copies, most_waiting),
            recorder: Recorder::new(recorded),
            inflight: InflightRequests::default(),
            counters,
            options,
        }
    }
}
