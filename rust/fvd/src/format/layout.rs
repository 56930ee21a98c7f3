//! The layout of a new image (docs/design/format.md, section 7).

use super::{HEADER_SIZE, Header, PAGE, Region, SECTOR, StorageChunk, bitmap, journal, options, profile, table};
use crate::error::{Error, Result};

#[cfg(test)]
mod tests;

/// The default chunk size, in bytes.
pub const DEFAULT_CHUNK_SIZE: u64 = 1 << 20;

/// The default number of bytes by which the storage of a compact image grows.
pub const DEFAULT_STORAGE_GROW_UNIT: u64 = 100 << 20;

/// The default size of the journal, in bytes, if the table does not need more.
pub const DEFAULT_JOURNAL_SIZE: u64 = 16 << 20;

/// The most chunks of a compact image: one for each storage chunk number.
pub(crate) const MAX_CHUNKS: u64 = StorageChunk::MAX.index() + 1;

const MAX_OFFSET: u64 = i64::MAX as u64;

/// The options of a new image. All sizes are in bytes; `None` is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutOptions {
    /// Size of the disk. Rounded up to a multiple of 512; may be 0.
    pub virtual_size: u64,
    /// Length of the base image, not necessarily a multiple of 512. `None`: no base.
    pub base_size: Option<u64>,
    /// Bytes of a block, rounded up to a multiple of 512. By default the smallest power of two, at least 512,
    /// whose bitmap has at most 4 MiB. Ignored without a base.
    pub block_size: Option<u64>,
    /// Whether the image gets a table.
    pub compact: bool,
    /// Bytes of a chunk, rounded up to a multiple of 4096. Without `compact` it is only stored in the header.
    pub chunk_size: Option<u64>,
    /// Bytes by which the storage grows, at least one chunk. Without `compact` it is only stored in the
    /// header.
    pub storage_grow_unit: Option<u64>,
    /// Bytes of the journal, rounded up to a multiple of 4096, and raised to what the table needs. Negative:
    /// no journal. 0 and `None`: 16 MiB. An image without bitmap and table has no journal. If it is given a
    /// positive size nevertheless, that many bytes before the data stay unused, as in images of the original
    /// driver.
    pub journal_size: Option<i64>,
    /// Bytes for the prefetch profile, rounded up to a multiple of 4096, at most [`profile::MAX_SIZE`]. 0 and
    /// `None`: no profile. An image without a base, or with an empty base, has no profile either.
    pub prefetch_profile_size: Option<u64>,
}

/// The places of all regions of a new image. All numbers are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of the disk, a multiple of 512.
    pub virtual_size: u64,
    /// Whether there is a base image. It may be empty.
    pub has_base: bool,
    /// Bytes of the disk that the base covers, a multiple of 512. 0 without a base.
    pub base_img_size: u64,
    /// Bytes of a block. 0 without a base.
    pub block_size: u64,
    /// The bitmap. `None` without a base, or if the base or the disk is empty.
    pub bitmap: Option<Region>,
    /// The table. `None` if the image is not compact.
    pub table: Option<Region>,
    /// The journal. `None` if there is no journal.
    pub journal: Option<Region>,
    /// The region for the prefetch profile. `None` if there is none. The original driver never created one.
    pub profile: Option<Region>,
    /// Bytes of a chunk. If the image is not compact: the value that the user gave, or 0.
    pub chunk_size: u64,
    /// Bytes by which the storage grows. If the image is not compact: the value that the user gave, or 0.
    pub storage_grow_unit: u64,
    /// Bytes of everything before the data. Not always a multiple of 512.
    pub metadata_size: u64,
}

impl Layout {
    /// Computes the layout of an image, in the same way as the original driver.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the option, if a size is too large for
    /// its field, if a block, chunk or grow unit size is 0, if there would be more chunks than storage chunk
    /// numbers, or if the bitmap would exceed [`bitmap::MAX_SIZE`].
    pub fn compute(options: &LayoutOptions) -> Result<Self> {
        let virtual_size = round_up("size", options.virtual_size, SECTOR, MAX_OFFSET)?;
        let mut end = HEADER_SIZE;

        let base_img_size = base_img_size(options, virtual_size);
        let block_size = block_size(options, base_img_size)?;
        let bitmap = match bitmap_size(base_img_size, block_size)? {
            0 => None,
            size => Some(append(&mut end, size)?),
        };

        let chunk_size = chunk_size(options)?;
        let chunks = chunks(options, virtual_size, chunk_size)?;
        let table = if options.compact {
            let size = table::region_size(chunks).ok_or_else(too_large)?;
            Some(append(&mut end, size)?)
        } else {
            None
        };

        let mut journal = None;
        if bitmap.is_some() || table.is_some() {
            if let Some(size) = journal_size(options, chunks)? {
                journal = Some(append(&mut end, size)?);
            }
        } else if let Some(unused) = options.journal_size.and_then(|n| u64::try_from(n).ok()) {
            append(&mut end, unused)?;
        }

        let profile = match profile_size(options)? {
            // Without a bitmap no block is ever read from the base, so a profile would have no use.
            size if size > 0 && bitmap.is_some() => Some(append(&mut end, size)?),
            _ => None,
        };

        let data_size = if options.compact {
            chunks.checked_mul(chunk_size)
        } else {
            Some(virtual_size)
        };
        data_size
            .and_then(|size| end.checked_add(size))
            .filter(|data_end| *data_end <= MAX_OFFSET)
            .ok_or_else(too_large)?;
        Ok(Self {
            virtual_size,
            has_base: options.base_size.is_some(),
            base_img_size,
            block_size,
            bitmap,
            table,
            journal,
            profile,
            chunk_size,
            storage_grow_unit: storage_grow_unit(options, chunk_size)?,
            metadata_size: end,
        })
    }

    /// The header of an image with this layout: all defaults filled in, names empty, closed cleanly. An empty
    /// base is never read, so `all_data_in_fvd_img` is true, as without a base.
    #[must_use]
    pub fn header(&self) -> Header {
        let (bitmap, table, journal) = (or_zero(self.bitmap), or_zero(self.table), or_zero(self.journal));
        let mut header = Header {
            all_data_in_fvd_img: self.base_img_size == 0,
            virtual_disk_size: self.virtual_size,
            metadata_size: self.metadata_size,
            base_img_size: self.base_img_size,
            bitmap_offset: bitmap.offset,
            bitmap_size: bitmap.size,
            block_size: self.block_size,
            prefetch_profile_offset: or_zero(self.profile).offset,
            compact_image: self.table.is_some(),
            table_offset: table.offset,
            chunk_size: self.chunk_size,
            storage_grow_unit: self.storage_grow_unit,
            journal_offset: journal.offset,
            journal_size: journal.size,
            clean_shutdown: true,
            ..Header::default()
        };
        if self.has_base {
            options::set_defaults_of_base(&mut header);
            header.unit_of_prefetch_profile_entry_len = 4096;
            header.bytes_per_prefetch = whole_blocks(header.bytes_per_prefetch, self.block_size);
        }
        header
    }
}

fn or_zero(region: Option<Region>) -> Region {
    region.unwrap_or(Region { offset: 0, size: 0 })
}

/// The default `bytes` of one prefetch, rounded up to whole blocks.
fn whole_blocks(bytes: i32, block_size: u64) -> i32 {
    let bytes = u64::from(bytes.unsigned_abs()).next_multiple_of(block_size);
    i32::try_from(bytes).expect("one block, which is below 2^31, or less than twice 1 MiB")
}

fn base_img_size(options: &LayoutOptions, virtual_size: u64) -> u64 {
    let base_size = options.base_size.unwrap_or(0);
    // A base that is too large to be rounded up is larger than the disk.
    base_size
        .checked_next_multiple_of(SECTOR)
        .unwrap_or(u64::MAX)
        .min(virtual_size)
}

fn block_size(options: &LayoutOptions, base_img_size: u64) -> Result<u64> {
    const MAX: u64 = i32::MAX as u64;
    if options.base_size.is_none() {
        return Ok(0);
    }
    match options.block_size {
        Some(0) => Err(zero("block_size")),
        Some(size) => round_up("block_size", size, SECTOR, MAX),
        None => round_up("block_size", bitmap::default_block_size(base_img_size), SECTOR, MAX),
    }
}

/// Bytes of the bitmap in whole pages. 0: no bitmap.
fn bitmap_size(base_img_size: u64, block_size: u64) -> Result<u64> {
    if base_img_size == 0 {
        return Ok(0);
    }
    let needed = bitmap::bytes_needed(base_img_size, block_size);
    if needed > bitmap::MAX_SIZE {
        return Err(Error::invalid_argument(format!(
            "block_size is {block_size}, which makes a bitmap of {needed} bytes, more than {}: \
             use a larger block_size",
            bitmap::MAX_SIZE
        )));
    }
    Ok(needed.next_multiple_of(PAGE))
}

fn chunk_size(options: &LayoutOptions) -> Result<u64> {
    match (options.chunk_size, options.compact) {
        (Some(0), true) => Err(zero("chunk_size")),
        (Some(size), true) => round_up("chunk_size", size, PAGE, MAX_OFFSET),
        (None, true) => Ok(DEFAULT_CHUNK_SIZE),
        (size, false) => at_most_i64("chunk_size", size.unwrap_or(0)),
    }
}

fn storage_grow_unit(options: &LayoutOptions, chunk_size: u64) -> Result<u64> {
    let unit = match (options.storage_grow_unit, options.compact) {
        (Some(0), true) => return Err(zero("storage_grow_unit")),
        (size, true) => size.unwrap_or(DEFAULT_STORAGE_GROW_UNIT).max(chunk_size),
        (size, false) => size.unwrap_or(0),
    };
    at_most_i64("storage_grow_unit", unit)
}

/// Number of table entries in use. 0 for an image that is not compact.
fn chunks(options: &LayoutOptions, virtual_size: u64, chunk_size: u64) -> Result<u64> {
    if !options.compact {
        return Ok(0);
    }
    let chunks = virtual_size.div_ceil(chunk_size);
    if chunks > MAX_CHUNKS {
        let enough = virtual_size.div_ceil(MAX_CHUNKS).next_multiple_of(PAGE);
        return Err(Error::invalid_argument(format!(
            "chunk_size is {chunk_size}, which makes {chunks} chunks, more than {MAX_CHUNKS}: \
             use a larger chunk_size, {enough} at least"
        )));
    }
    Ok(chunks)
}

/// Bytes of the journal of an image with a bitmap or with `chunks` table entries. `None`: no journal.
fn journal_size(options: &LayoutOptions, chunks: u64) -> Result<Option<u64>> {
    let wanted = match options.journal_size {
        Some(size) if size < 0 => return Ok(None),
        Some(0) | None => DEFAULT_JOURNAL_SIZE,
        Some(size) => size.unsigned_abs(),
    };
    let size = wanted.max(least_journal_size(chunks));
    round_up("journal_size", size, PAGE, MAX_OFFSET).map(Some)
}

/// Bytes of the profile region in whole pages. 0: no region.
fn profile_size(options: &LayoutOptions) -> Result<u64> {
    let size = options.prefetch_profile_size.unwrap_or(0);
    round_up("prefetch_profile_size", size, PAGE, profile::MAX_SIZE)
}

/// The smallest journal, in bytes and whole pages, of an image with `chunks` table entries. It has room for
/// the whole table in sectors that also hold a bitmap record each.
pub(crate) fn least_journal_size(chunks: u64) -> u64 {
    let sectors = chunks.div_ceil(journal::MAX_ENTRIES_WITH_BITMAP as u64).max(1);
    (sectors * SECTOR).next_multiple_of(PAGE)
}

/// Appends a region of `size` bytes at `end`, and moves `end` to its end.
fn append(end: &mut u64, size: u64) -> Result<Region> {
    let region = Region { offset: *end, size };
    *end = end.checked_add(size).ok_or_else(too_large)?;
    Ok(region)
}

fn round_up(name: &str, value: u64, unit: u64, max: u64) -> Result<u64> {
    match value.checked_next_multiple_of(unit) {
        Some(rounded) if rounded <= max => Ok(rounded),
        _ => Err(Error::invalid_argument(format!("{name} is {value}, the most is {max}"))),
    }
}

fn at_most_i64(name: &str, value: u64) -> Result<u64> {
    round_up(name, value, 1, MAX_OFFSET)
}

fn zero(name: &str) -> Error {
    Error::invalid_argument(format!("{name} is 0, it must be positive"))
}

fn too_large() -> Error {
    Error::invalid_argument("size and journal_size make an image larger than a file can be (2^63 - 1 bytes)")
}
