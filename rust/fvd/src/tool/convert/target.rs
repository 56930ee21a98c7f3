//! Targets: a raw file or device, or an FVD image.

use std::path::Path;

use bytes::Bytes;
use pollster::block_on;

use super::created::Created;
use super::plan::Zeros;
use super::raw::RawDisk;
use super::sink::Sink;
use super::{Cache, ConvertRequest, Format};
use crate::chain::{ChainOptions, NewBase, OpenedFile, open_image, open_new_base};
use crate::error::{Error, Result};
use crate::format::{BaseUpdate, SECTOR};
use crate::gate::beside;
use crate::image::{
    CreateOptions, DetectZeroes, Discard, Image, OpenOptions, create_unfinished, finish, read_unfinished_head, suspend,
};
use crate::remote::AnyFile;
use crate::storage::Storage;
use crate::tool::create::files_of;
use crate::tool::progress::{Callback, Progress, drive};

/// The open target of a conversion.
pub(super) enum Disk {
    Raw(RawDisk),
    Fvd(Box<FvdDisk>),
}

/// An FVD image as the target.
pub(super) struct FvdDisk {
    /// It has the mark of an unfinished disk until [`Disk::finish`].
    image: Image<OpenedFile>,
    cache: Cache,
}

/// A target that is ready to be written.
pub(super) struct Opened {
    pub(super) disk: Disk,
    /// How zeros are handled.
    pub(super) zeros: Zeros,
}

impl Opened {
    /// Creates or opens the target at `path` for a disk of `size` bytes. `None`: the size is unknown, and the
    /// target grows as it is written. This is possible only for a raw target.
    pub(super) fn new(
        path: &Path,
        size: Option<u64>,
        request: &ConvertRequest,
        created: &mut Created,
        progress: &mut Callback<'_>,
    ) -> Result<Self> {
        let cache = request.cache;
        let (disk, is_blank, unit) = match request.format {
            Format::Raw => {
                let disk = RawDisk::open(path, size, request, created)?;
                let is_blank = request.target_is_zero || (disk.can_resize() && !request.no_create);
                (Disk::Raw(disk), is_blank, 1)
            }
            Format::Fvd => {
                let size = size.expect("an image is created with its size");
                let image = open_fvd(path, size, request, created, progress)?;
                let has_base = image.base().is_some();
                if request.target_is_zero && has_base {
                    let message = "It has a backing file: zeros have to be written, or that shows (--target-is-zero)";
                    return Err(Error::invalid_argument(message).with_path(path));
                }
                // Zeroing a part of a block would cause a copy-on-write.
                let unit = if has_base { image.geometry().block_size } else { 1 };
                let is_blank = request.target_is_zero || (!has_base && !request.no_create);
                (Disk::Fvd(Box::new(FvdDisk { image, cache })), is_blank, unit)
            }
        };
        let unit = request.sparse_size.next_multiple_of(unit);
        let unit = unit.min(super::MAX_SPARSE_SIZE);
        let zeros = match (request.sparse_size, is_blank) {
            (0, _) => Zeros::Write,
            (_, true) => Zeros::Skip { unit },
            (_, false) => Zeros::Make { unit },
        };
        Ok(Self { disk, zeros })
    }
}

impl Disk {
    pub(super) fn sink(&self) -> &dyn Sink {
        match self {
            Self::Raw(disk) => disk,
            Self::Fvd(disk) => disk.as_ref(),
        }
    }

    /// Whether the order of writes decides where the data is stored. Then writes should come in the order of
    /// the disk.
    ///
    /// This is the case for a compact image, and for direct I/O, where the file system allocates space at
    /// each write. Otherwise each batch is written by the CPU that has just read it, which is faster.
    pub(super) fn order_matters(&self) -> bool {
        match self {
            Self::Raw(disk) => disk.is_direct(),
            Self::Fvd(disk) => disk.cache.is_direct() || disk.image.geometry().table.is_some(),
        }
    }

    /// Completes a new target after `len` bytes of the disk were written. Sets the length of a raw file.
    /// Zeroes the rest of the last sector of an image, where the data of its base would be visible.
    pub(super) fn complete(&self, len: u64) -> Result<()> {
        match self {
            Self::Raw(disk) if disk.can_resize() => block_on(disk.storage().set_len(len)),
            Self::Raw(_) => Ok(()),
            Self::Fvd(disk) => block_on(disk.image.write_zeroes(len, disk.image.size() - len)),
        }
    }

    /// Finishes the target: makes everything durable if the cache mode requires it, marks an image clean, and
    /// removes the mark of the unfinished disk as the last step.
    pub(super) fn finish(&self) -> Result<()> {
        match self {
            Self::Raw(disk) => disk.finish(),
            Self::Fvd(disk) => block_on(disk.finish()),
        }
    }

    /// Closes an existing image after a failure, so that its metadata is consistent. The image keeps the mark
    /// of an unfinished disk.
    pub(super) fn abandon(&self) {
        if let Self::Fvd(disk) = self {
            let _ = block_on(disk.image.close());
        }
    }
}

impl FvdDisk {
    async fn finish(&self) -> Result<()> {
        self.image.close().await?;
        finish(self.image.file()).await?;
        if self.cache == Cache::Unsafe {
            return Ok(());
        }
        self.image.file().sync().await
    }
}

impl Sink for FvdDisk {
    fn write(&self, buf: Bytes, offset: u64, _stopped: &dyn Fn() -> bool) -> Result<()> {
        block_on(self.image.write(buf, offset))
    }

    fn zero(&self, offset: u64, len: u64) -> Result<()> {
        block_on(self.image.write_zeroes(offset, len))
    }

    fn start_writeback(&self) {
        if self.cache == Cache::Writeback {
            self.image.data().start_writeback();
        }
    }
}

pub(super) fn check_room(path: &Path, len: u64, size: u64) -> Result<()> {
    if len >= size {
        return Ok(());
    }
    let message = format!("The target has {len} bytes, the source {size}");
    Err(Error::invalid_argument(message).with_path(path))
}

fn chain_options(request: &ConvertRequest) -> ChainOptions {
    ChainOptions {
        writable: true,
        cache: request.cache.image(),
        direct: request.cache.is_direct(),
        force_share: false,
        gate: request.gate.clone(),
        remote: request.remote.clone(),
        base: None,
        // A conversion changes only its target, never the base of the target.
        write_base: false,
        // A conversion overwrites what it reads of the target, so storing it would be useless.
        copy_on_read: Some(false),
        base_timeout: None,
        discard: Discard::Unmap,
        detect_zeroes: DetectZeroes::Off,
        // A target that an earlier conversion left unfinished may be written again.
        unfinished: request.no_create,
    }
}

fn open_fvd(
    path: &Path,
    size: u64,
    request: &ConvertRequest,
    created: &mut Created,
    progress: &mut Callback<'_>,
) -> Result<Image<OpenedFile>> {
    let size = size.next_multiple_of(SECTOR);
    if request.no_create {
        let image = block_on(open_image(path, &chain_options(request)))?;
        check_room(path, image.size(), size)?;
        block_on(suspend(image.file()))?;
        return Ok(image);
    }
    let mut options: CreateOptions = request.create.clone();
    options.layout.virtual_size = size;
    if options.write_updates_base_img != BaseUpdate::No {
        return Err(Error::invalid_argument(
            "write_updates_base_img cannot be used with a conversion, which writes to no base",
        ));
    }
    let base = open_base(path, &options, request)?;
    let pin = base.as_ref().and_then(NewBase::pin);
    let base = base.map(|base| base.source);
    options.base_pin = pin;
    options.layout.base_size = base.as_ref().map(|base| base.len());
    // Check the options before an existing file is emptied.
    options.header().map_err(|error| error.with_path(path))?;
    let direct = request.cache.is_direct();
    let file = AnyFile::Local(created.create(path, direct)?);
    let data = if options.data_file.is_empty() {
        None
    } else {
        let path = beside(path, &options.data_file);
        Some(AnyFile::Local(created.create(&path, direct)?))
    };
    let made = create_unfinished(&file, data.as_ref(), &options, base.as_deref());
    drive(made, &mut || progress(Progress { done: 0, total: None }))?;
    block_on(async {
        if request.cache != Cache::Unsafe {
            // The file system may make the length durable before the mark.
            file.sync().await?;
        }
        let mut head = read_unfinished_head(&file).await?;
        // Do not record a profile: the reads of a conversion do not predict the reads of a guest.
        head.header.generate_prefetch_profile = false;
        let open = OpenOptions {
            writable: true,
            cache: request.cache.image(),
            ..OpenOptions::default()
        };
        let image = Image::open(file, head, data, base, open).await?;
        if image.geometry().table.is_none() && image.data().can_resize() {
            // Set the full length now, because zeros may be skipped. A separate data file must be a complete
            // raw disk.
            let len = image.geometry().data_offset + image.size();
            image.data().set_len(len).await?;
        }
        Ok(image)
    })
}

/// Opens the base that the user named for the new image.
fn open_base(image: &Path, options: &CreateOptions, request: &ConvertRequest) -> Result<Option<NewBase>> {
    if options.base_img.is_empty() {
        return Ok(None);
    }
    let path = beside(image, &options.base_img);
    let format = Some(options.base_img_fmt.as_str()).filter(|format| !format.is_empty());
    let chain = chain_options(request);
    block_on(open_new_base(&path, format, files_of(options), &chain)).map(Some)
}
