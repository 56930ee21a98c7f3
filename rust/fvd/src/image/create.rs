//! Create: lays out a new image. Regions are holes; only what is not zero is written.

use std::ops::Range;

use bytes::Bytes;

use super::unfinished::begin;
use crate::error::{Error, Result};
use crate::format::bitmap::blocks_of;
use crate::format::{
    BaseUpdate, Block, CreateOptions, Header, Layout, LayoutOptions, PAGE, Records, Region, SECTOR, StoredPin, profile,
    records, unfinished,
};
use crate::gate::check_storable;
use crate::join::yield_now;
use crate::source::{BaseSource, Content, is_zero};
use crate::storage::{IoBufMut, Space, Storage};

/// Bytes of the table in one buffer; several buffers are written with one system call.
const FILL: u64 = 64 << 10;
const FILLS_PER_WRITE: u64 = 512;

/// Bytes of the base that are searched for zeros before the task yields.
const YIELD_STEP: u64 = 64 << 20;

/// Writes a new image to `file`, which is empty or a device, and returns its header.
///
/// `options.layout.base_size` is the length of the base in bytes. `base` is the base itself, needed only with
/// `detect_sparse_hole`. The header comes last: an interrupted creation leaves no image, but the mark of an
/// unfinished disk (`docs/design/format.md`, section 10). Nothing is synced, except that mark on a device.
pub async fn create<S: Storage>(
    file: &S,
    data: Option<&S>,
    options: &CreateOptions,
    base: Option<&dyn BaseSource>,
) -> Result<Header> {
    write_image(file, data, options, base, true).await
}

/// As [`create`], but the image keeps the mark of an unfinished disk. It is opened with
/// [`read_unfinished_head`](super::read_unfinished_head) to get its content, and others can use it only after
/// [`finish`](super::finish).
pub async fn create_unfinished<S: Storage>(
    file: &S,
    data: Option<&S>,
    options: &CreateOptions,
    base: Option<&dyn BaseSource>,
) -> Result<Header> {
    write_image(file, data, options, base, false).await
}

async fn write_image<S: Storage>(
    file: &S,
    data: Option<&S>,
    options: &CreateOptions,
    base: Option<&dyn BaseSource>,
    finished: bool,
) -> Result<Header> {
    let layout = options.layout()?;
    let header = options.header()?;
    let mut bytes = header.encode()?;
    let mut facts = Records::default();
    facts.set(records::BASE_PIN, options.base_pin.as_ref().map(StoredPin::encode));
    bytes[records::PLACE].copy_from_slice(&facts.encode()?);
    if !finished {
        bytes[..unfinished::MARK.len()].copy_from_slice(&unfinished::MARK);
    }
    check_room(file, data, &layout).await?;
    begin(file).await?;
    lay_out(file, &layout).await?;
    let (storage, start) = data_region(file, data, &layout);
    clear_data(storage, start, &layout).await?;
    if let Some(table) = layout.table {
        fill_table(file, table).await?;
    }
    if let (Some(step), Some(base), Some(bitmap)) = (options.detect_sparse_hole, base, layout.bitmap) {
        mark_zero_regions(file, bitmap, &layout, base, step).await?;
    }
    file.write(Bytes::from(bytes), 0).await?;
    Ok(header)
}

impl CreateOptions {
    /// The header of an image with these options.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if options contradict one another,
    /// or a name is too long for its field.
    pub fn header(&self) -> Result<Header> {
        let layout = self.layout()?;
        check(&layout, self)?;
        let mut header = layout.header();
        header.base_img.clone_from(&self.base_img);
        header.base_img_fmt.clone_from(&self.base_img_fmt);
        header.data_file.clone_from(&self.data_file);
        header.data_file_fmt.clone_from(&self.data_file_fmt);
        header.add_storage_cmd.clone_from(&self.add_storage_cmd);
        if layout.has_base {
            header.copy_on_read = self.copy_on_read;
            header.prefetch_start_delay = self.prefetch_start_delay.unwrap_or(header.prefetch_start_delay);
            header.generate_prefetch_profile = self.generate_prefetch_profile;
            header.profile_directed_prefetch_start_delay = self
                .profile_directed_prefetch_start_delay
                .unwrap_or(header.profile_directed_prefetch_start_delay);
            if self.write_updates_base_img != BaseUpdate::No {
                // `No` is stored as an empty field, as by the original.
                header
                    .write_updates_base_img
                    .push_str(self.write_updates_base_img.name());
            }
            header.need_zero_init = self.detect_sparse_hole.is_some();
        }
        header.encode()?;
        Ok(header)
    }

    /// The layout, with room for a profile if one is to be recorded or used.
    fn layout(&self) -> Result<Layout> {
        let size = self.layout.prefetch_profile_size;
        Layout::compute(&LayoutOptions {
            prefetch_profile_size: size.or(self.wants_profile().then_some(profile::DEFAULT_SIZE)),
            ..self.layout
        })
    }

    fn wants_profile(&self) -> bool {
        let delay = self.profile_directed_prefetch_start_delay;
        self.generate_prefetch_profile || delay.is_some_and(|delay| delay >= 0)
    }
}

fn check(layout: &Layout, options: &CreateOptions) -> Result<()> {
    let refuse = |message: &str| Err(Error::invalid_argument(message));
    check_storable("backing_file", &options.base_img)?;
    check_storable("data_file", &options.data_file)?;
    if !matches!(options.data_file_fmt.as_str(), "" | "raw") {
        let format = &options.data_file_fmt;
        return Err(Error::unsupported(format!(
            "data_file_fmt: '{format}' is not supported, only 'raw'"
        )));
    }
    if !layout.has_base {
        if options.detect_sparse_hole.is_some() {
            return refuse("detect_sparse_hole needs a backing file");
        }
        if options.copy_on_read || options.prefetch_start_delay.is_some_and(|delay| delay > 0) {
            return refuse("copy_on_read and prefetch_start_delay need a backing file");
        }
        if options.wants_profile() || options.layout.prefetch_profile_size.is_some_and(|size| size > 0) {
            return refuse("A prefetch profile needs a backing file");
        }
    }
    if options.write_updates_base_img != BaseUpdate::No {
        if layout.bitmap.is_none() {
            return refuse("write_updates_base_img needs a backing file that is not empty");
        }
        if layout.journal.is_none() {
            return refuse("write_updates_base_img needs a journal");
        }
    }
    if options.detect_sparse_hole.is_some() && options.layout.compact {
        return refuse("detect_sparse_hole cannot be used with compact_image");
    }
    if options.wants_profile() && options.layout.prefetch_profile_size == Some(0) {
        return refuse("A prefetch profile needs room: prefetch_profile_size must be larger than 0");
    }
    if options.detect_sparse_hole == Some(0) {
        return refuse("detect_sparse_hole must be larger than 0");
    }
    Ok(())
}

/// Fills the metadata regions with zeros.
async fn lay_out<S: Storage>(file: &S, layout: &Layout) -> Result<()> {
    if file.can_resize() {
        return file.set_len(layout.metadata_size).await;
    }
    // The mark of an unfinished disk stays.
    clear(file, unfinished::LEN, layout.metadata_size).await
}

/// Fails if a device is too small, before anything is changed.
async fn check_room<S: Storage>(file: &S, data: Option<&S>, layout: &Layout) -> Result<()> {
    if !file.can_resize() {
        let (len, needed) = (file.len().await?, layout.metadata_size);
        if len < needed {
            let message = format!("The device has {len} bytes, the metadata alone needs {needed}");
            return Err(Error::invalid_argument(message).with_path(file.path()));
        }
    }
    let (storage, start) = data_region(file, data, layout);
    if storage.can_resize() || layout.table.is_some() {
        return Ok(());
    }
    let (len, size) = (storage.len().await?, layout.virtual_size);
    if len < start.saturating_add(size) {
        let message = format!("The device has {len} bytes, too few for a disk of {size} bytes");
        return Err(Error::invalid_argument(message).with_path(storage.path()));
    }
    Ok(())
}

/// The storage that holds the data, and the offset in bytes where it starts.
fn data_region<'a, S: Storage>(file: &'a S, data: Option<&'a S>, layout: &Layout) -> (&'a S, u64) {
    match data {
        Some(data) => (data, 0),
        None => (file, layout.metadata_size / SECTOR * SECTOR),
    }
}

/// On a device, the old content must not show where nothing has been written. Chunks of a compact image are
/// zeroed when they are allocated.
async fn clear_data<S: Storage>(data: &S, start: u64, layout: &Layout) -> Result<()> {
    if data.can_resize() || layout.table.is_some() {
        return Ok(());
    }
    clear(data, start, start + layout.virtual_size).await
}

/// Zeroes a part of a device, which may take long.
async fn clear<S: Storage>(device: &S, mut start: u64, end: u64) -> Result<()> {
    const STEP: u64 = 1 << 30;
    while start < end {
        let len = STEP.min(end - start);
        device.write_zeroes(start, len, Space::Free).await?;
        start += len;
        if start < end {
            yield_now().await;
        }
    }
    Ok(())
}

/// Marks every chunk as not allocated.
async fn fill_table<S: Storage>(file: &S, table: Region) -> Result<()> {
    let fill = Bytes::from(vec![0xFF; FILL.min(table.size) as usize]);
    let mut at = 0;
    while at < table.size {
        let mut bufs = Vec::new();
        let mut len = 0;
        while at + len < table.size && (bufs.len() as u64) < FILLS_PER_WRITE {
            let part = fill.len().min((table.size - at - len) as usize);
            bufs.push(fill.slice(..part));
            len += part as u64;
        }
        file.write_vectored(bufs, table.offset + at).await?;
        at += len;
        if at < table.size {
            yield_now().await;
        }
    }
    Ok(())
}

/// Sets the bits of every aligned region of `step` bytes (rounded up to whole blocks) of the base that is all
/// zeros, including the shorter region at its end.
async fn mark_zero_regions<S: Storage>(
    file: &S,
    bitmap: Region,
    layout: &Layout,
    base: &dyn BaseSource,
    step: u64,
) -> Result<()> {
    let mut page = BitmapPage::default();
    let blocks = |start, end| blocks_of(start, end, layout.base_img_size, layout.block_size);
    let step = step.div_ceil(layout.block_size).saturating_mul(layout.block_size);
    let mut start = 0;
    let mut last_yield = 0;
    while start < layout.base_img_size {
        if start - last_yield >= YIELD_STEP {
            last_yield = start;
            yield_now().await;
        }
        let run = base.status(start, layout.base_img_size - start).await?;
        let end = (start + run.len).min(layout.base_img_size);
        let whole = if end == layout.base_img_size {
            end
        } else {
            end / step * step
        };
        if run.content == Content::Zero && whole > start {
            // Many regions at once: a hole needs no reading.
            page.set(file, bitmap, &blocks(start, whole)).await?;
            start = whole;
            continue;
        }
        let end = start.saturating_add(step).min(layout.base_img_size);
        if reads_as_zeros(base, start, end).await? {
            page.set(file, bitmap, &blocks(start, end)).await?;
        }
        start = end;
    }
    page.write(file, bitmap).await
}

async fn reads_as_zeros(base: &dyn BaseSource, start: u64, end: u64) -> Result<bool> {
    const STEP: u64 = 1 << 20;
    let mut at = start;
    while at < end {
        let len = STEP.min(end - at);
        let buf = base.read(IoBufMut::zeroed(len as usize), at).await?;
        if !is_zero(buf.as_slice()) {
            return Ok(false);
        }
        at += len;
    }
    Ok(true)
}

/// The page of the bitmap that is being filled; bits come in ascending order.
#[derive(Default)]
struct BitmapPage {
    number: u64,
    bytes: Option<Vec<u8>>,
}

impl BitmapPage {
    async fn set<S: Storage>(&mut self, file: &S, bitmap: Region, blocks: &Range<Block>) -> Result<()> {
        for block in Block::each(blocks) {
            let bit = block.index();
            let number = bit / 8 / PAGE;
            if number != self.number {
                self.write(file, bitmap).await?;
                self.number = number;
            }
            let bytes = self.bytes.get_or_insert_with(|| vec![0; PAGE as usize]);
            bytes[(bit / 8 % PAGE) as usize] |= 1 << (bit % 8);
        }
        Ok(())
    }

    async fn write<S: Storage>(&mut self, file: &S, bitmap: Region) -> Result<()> {
        match self.bytes.take() {
            None => Ok(()),
            Some(bytes) => file.write(Bytes::from(bytes), bitmap.offset + self.number * PAGE).await,
        }
    }
}
