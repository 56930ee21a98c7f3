//! The checked geometry of an image, derived from its header (docs/design/format.md, section 2).

use std::fmt::Display;

use super::{HEADER_SIZE, Header, PAGE, SECTOR, bitmap, profile, table};
use crate::error::{Error, Result};

#[cfg(test)]
mod tests;

/// The largest byte offset that a file can have.
const MAX_OFFSET: u64 = i64::MAX as u64;

/// A range of the image file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub size: u64,
}

impl Region {
    /// The byte offset after the last byte. It does not overflow for any region of a [`Geometry`] or a
    /// [`Layout`](super::Layout).
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.size
    }
}

/// The sizes and places that the engine needs, derived from a header that passed every check of
/// [`Geometry::new`].
///
/// Sums of these numbers do not overflow as long as they stay inside the disk or the storage: bitmap, table
/// and journal lie inside the file, and [`data_offset`](Self::data_offset) plus
/// [`virtual_size`](Self::virtual_size) rounded up to whole chunks is at most `i64::MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the disk in bytes, a multiple of 512. May be 0.
    pub virtual_size: u64,
    /// Bytes of the disk that the base image covers, a multiple of 512 and at most `virtual_size`. 0 if the
    /// header names no base image.
    pub base_size: u64,
    /// Bytes of a block, a multiple of 512. 0 if and only if `bitmap` is `None`.
    pub block_size: u64,
    /// Number of bits in use: the blocks that cover the base. 0 without a bitmap.
    pub blocks: u64,
    /// The bitmap. Also present if `all_data_in_fvd_img` says to ignore it. `None` if the header names no
    /// base image, because a bitmap has no meaning then. Bytes that `blocks` does not need are padding.
    pub bitmap: Option<Region>,
    /// Bytes of a chunk, a multiple of 4096. 0 if and only if `table` is `None`.
    pub chunk_size: u64,
    /// Number of table entries in use, at most `u32::MAX`. 0 without a table.
    pub chunks: u64,
    /// The table: the entries in use, rounded up to a page. `Some` for every compact image. Its size is 0
    /// only if the disk is empty.
    pub table: Option<Region>,
    /// The journal, whole pages. `None` if there is no journal.
    pub journal: Option<Region>,
    /// The region of the prefetch profile: from its offset to the next region, or to the end of the metadata.
    /// `None` if there is no region, or if the header names no base image.
    pub profile: Option<Region>,
    /// The unit, in bytes, of the length of a profile entry, a multiple of 512. 0 if and only if `profile` is
    /// `None`.
    pub profile_unit: u64,
    /// Number of entries of the profile. They fit into its region. 0 without a profile.
    pub profile_entries: u64,
    /// Byte offset of the data: in the image, a multiple of 512; in a separate data file, 0.
    pub data_offset: u64,
    /// Byte offset of the end of the last metadata region, at least [`HEADER_SIZE`] and a multiple of a page.
    /// The bytes between it and the data are unused.
    pub metadata_end: u64,
}

impl Geometry {
    /// Checks whether the fields of a header agree with each other and with `file_len`, the length of the
    /// image file or device in bytes.
    ///
    /// Fields that are not used are not checked: block size and base size if the header names no base, chunk
    /// size and table offset of an image that is not compact, the offset of a region of size 0,
    /// `storage_grow_unit`, and the unit of profile lengths if there is no prefetch profile.
    ///
    /// # Errors
    ///
    /// [`InvalidImage`](crate::ErrorKind::InvalidImage), naming the field and its value, if
    ///
    /// * a size is not a multiple of its unit, or a region does not start at a multiple of a page;
    /// * regions overlap, lie in the header, or end after `metadata_size` or after the end of the file;
    /// * the bitmap is too small for `base_img_size`, or the region after the table leaves too little room
    ///   for the entries of `virtual_disk_size`;
    /// * the prefetch profile has more entries than its region holds, or the unit of its lengths is invalid;
    /// * `base_img_size` exceeds `virtual_disk_size`;
    /// * blocks may still be in a base image, but the header names no base image or there is no bitmap;
    /// * the number of chunks exceeds `u32`, or the data would end after the largest file offset.
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a bitmap of more than 64 GiB.
    pub fn new(header: &Header, file_len: u64) -> Result<Self> {
        multiple("virtual_disk_size", header.virtual_disk_size, SECTOR)?;
        let base_size = base_size(header)?;
        let bitmap = bitmap_region(header)?;
        let chunks = chunks(header)?;
        let table = table_region(header, chunks)?;
        let journal = journal_region(header)?;

        let mut regions = Vec::with_capacity(4);
        regions.extend(bitmap.map(|region| ("bitmap", region)));
        regions.extend(table.map(|region| ("table", region)));
        regions.extend(journal.map(|region| ("journal", region)));
        let profile = profile_region(header, &regions)?;
        regions.extend(profile.map(|region| ("prefetch_profile", region)));
        let metadata_end = place_regions(&mut regions, header.metadata_size, file_len)?;

        // A removed base may have left a bitmap and a profile. They only take room, and are not used.
        let bitmap = bitmap.filter(|_| has_base(header));
        let profile = profile.filter(|_| has_base(header));
        let blocks = blocks(header, bitmap)?;
        Ok(Self {
            virtual_size: header.virtual_disk_size,
            base_size,
            block_size: bitmap.map_or(0, |_| header.block_size),
            blocks,
            bitmap,
            chunk_size: table.map_or(0, |_| header.chunk_size),
            chunks,
            table,
            journal,
            profile,
            profile_unit: profile.map_or(Ok(0), |_| profile_unit(header))?,
            profile_entries: profile.map_or(0, |_| header.prefetch_profile_entries),
            data_offset: data_offset(header, chunks)?,
            metadata_end,
        })
    }
}

fn has_base(header: &Header) -> bool {
    !header.base_img.is_empty()
}

fn base_size(header: &Header) -> Result<u64> {
    let size = header.base_img_size;
    if !has_base(header) {
        if size > 0 && !header.all_data_in_fvd_img {
            return Err(refuse(
                "base_img_size",
                size,
                "but base_img is empty and all_data_in_fvd_img is false",
            ));
        }
        return Ok(0);
    }
    multiple("base_img_size", size, SECTOR)?;
    if size > header.virtual_disk_size {
        let why = format!("more than virtual_disk_size, {}", header.virtual_disk_size);
        return Err(refuse("base_img_size", size, &why));
    }
    Ok(size)
}

/// The bitmap as a range of the file, whether or not it is used.
fn bitmap_region(header: &Header) -> Result<Option<Region>> {
    multiple("bitmap_size", header.bitmap_size, PAGE)?;
    region("bitmap_offset", header.bitmap_offset, "bitmap_size", header.bitmap_size)
}

fn journal_region(header: &Header) -> Result<Option<Region>> {
    multiple("journal_size", header.journal_size, PAGE)?;
    region(
        "journal_offset",
        header.journal_offset,
        "journal_size",
        header.journal_size,
    )
}

/// Number of table entries in use. 0 for an image that is not compact.
fn chunks(header: &Header) -> Result<u64> {
    if !header.compact_image {
        return Ok(0);
    }
    positive_multiple("chunk_size", header.chunk_size, PAGE)?;
    let chunks = header.virtual_disk_size.div_ceil(header.chunk_size);
    if u32::try_from(chunks).is_err() {
        let why = format!("{chunks} chunks of chunk_size {}, too many", header.chunk_size);
        return Err(refuse("virtual_disk_size", header.virtual_disk_size, &why));
    }
    Ok(chunks)
}

fn table_region(header: &Header, chunks: u64) -> Result<Option<Region>> {
    if !header.compact_image {
        return Ok(None);
    }
    page_aligned("table_offset", header.table_offset)?;
    let size = table::region_size(chunks).filter(|size| fits(header.table_offset, *size));
    match size {
        Some(size) => Ok(Some(Region {
            offset: header.table_offset,
            size,
        })),
        None => Err(refuse("table_offset", header.table_offset, "too large")),
    }
}

/// A region whose size is in the header. `None` if the size is 0. Overlaps with other regions are not checked
/// here.
fn region(offset_name: &str, offset: u64, size_name: &str, size: u64) -> Result<Option<Region>> {
    if size == 0 {
        return Ok(None);
    }
    page_aligned(offset_name, offset)?;
    if !fits(offset, size) {
        let why = format!("too large for a region at {offset_name} {offset}");
        return Err(refuse(size_name, size, &why));
    }
    Ok(Some(Region { offset, size }))
}

/// The region of the profile. The header has no field for its size: the region ends where the next of the
/// `others` starts, or at the end of the metadata. `None` if there is no region.
fn profile_region(header: &Header, others: &[(&str, Region)]) -> Result<Option<Region>> {
    const OFFSET: &str = "prefetch_profile_offset";
    const ENTRIES: &str = "prefetch_profile_entries";
    let (offset, entries) = (header.prefetch_profile_offset, header.prefetch_profile_entries);
    if offset == 0 {
        if entries > 0 {
            return Err(refuse(ENTRIES, entries, &format!("but {OFFSET} is 0")));
        }
        return Ok(None);
    }
    page_aligned(OFFSET, offset)?;
    let next = others
        .iter()
        .filter(|(_, other)| other.size > 0 && other.offset >= offset);
    let next = next.min_by_key(|(_, other)| other.offset);
    let metadata_end = ("metadata", header.metadata_size / PAGE * PAGE);
    let (name, end) = next.map_or(metadata_end, |(name, other)| (*name, other.offset));
    if end <= offset {
        let why = match next {
            Some(_) => format!("where the {name} starts"),
            None => format!("but the metadata ends at {} (metadata_size)", header.metadata_size),
        };
        return Err(refuse(OFFSET, offset, &why));
    }
    let region = Region {
        offset,
        size: end - offset,
    };
    if entries > profile::capacity(region.size) {
        let why = format!("more than the {} bytes at {OFFSET} {offset} hold", region.size);
        return Err(refuse(ENTRIES, entries, &why));
    }
    Ok(Some(region))
}

fn profile_unit(header: &Header) -> Result<u64> {
    const NAME: &str = "unit_of_PrefetchProfileEntry_len";
    let unit = header.unit_of_prefetch_profile_entry_len;
    match u64::try_from(unit) {
        Ok(unit) => positive_multiple(NAME, unit, SECTOR).map(|()| unit),
        Err(_) => Err(refuse(NAME, unit, "a negative number")),
    }
}

fn page_aligned(name: &str, offset: u64) -> Result<()> {
    multiple(name, offset, PAGE)?;
    if offset < HEADER_SIZE {
        return Err(refuse(name, offset, "inside the header"));
    }
    Ok(())
}

/// Whether the end of a range is a possible file offset.
fn fits(offset: u64, size: u64) -> bool {
    offset.checked_add(size).is_some_and(|end| end <= MAX_OFFSET)
}

/// Checks that the regions overlap neither each other nor the data, and lie inside the file. Returns the byte
/// offset where the last one ends.
fn place_regions(regions: &mut [(&str, Region)], metadata_size: u64, file_len: u64) -> Result<u64> {
    regions.sort_by_key(|(_, region)| (region.offset, region.end()));
    for pair in regions.windows(2) {
        let [(name, region), (next_name, next)] = pair else {
            continue;
        };
        if region.end() > next.offset {
            let why = format!(
                "the {name} needs {} bytes and overlaps the {next_name} at {next_name}_offset {}",
                region.size, next.offset
            );
            return Err(refuse(&format!("{name}_offset"), region.offset, &why));
        }
    }
    let last = regions.last().map(|(name, region)| (*name, region.end()));
    let (name, end) = last.unwrap_or(("header", HEADER_SIZE));
    if metadata_size < end {
        let why = format!("but the {name} ends at {end}");
        return Err(refuse("metadata_size", metadata_size, &why));
    }
    if end > file_len {
        return Err(Error::invalid_image(format!(
            "Truncated image: the {name} ends at {end}, the file at {file_len}"
        )));
    }
    Ok(end)
}

/// Number of bits in use of `bitmap`. `bitmap` is `None` if there is none or if it is not used.
fn blocks(header: &Header, bitmap: Option<Region>) -> Result<u64> {
    let Some(region) = bitmap else {
        if has_base(header) && header.base_img_size > 0 && !header.all_data_in_fvd_img {
            return Err(refuse(
                "bitmap_size",
                header.bitmap_size,
                "but base_img is named and all_data_in_fvd_img is false",
            ));
        }
        return Ok(0);
    };
    positive_multiple("block_size", header.block_size, SECTOR)?;
    let needed = bitmap::bytes_needed(header.base_img_size, header.block_size);
    if region.size < needed {
        let why = format!(
            "but base_img_size {} with block_size {} needs {needed}",
            header.base_img_size, header.block_size
        );
        return Err(refuse("bitmap_size", region.size, &why));
    }
    if region.size > bitmap::MAX_SIZE {
        return Err(Error::unsupported(format!(
            "bitmap_size is {}: bitmaps of more than {} bytes are not supported",
            region.size,
            bitmap::MAX_SIZE
        )));
    }
    Ok(bitmap::blocks(header.base_img_size, header.block_size))
}

fn data_offset(header: &Header, chunks: u64) -> Result<u64> {
    let offset = if header.data_file.is_empty() {
        header.metadata_size - header.metadata_size % SECTOR
    } else {
        0
    };
    let size = if header.compact_image {
        chunks.checked_mul(header.chunk_size)
    } else {
        Some(header.virtual_disk_size)
    };
    if size.is_some_and(|size| fits(offset, size)) {
        return Ok(offset);
    }
    let why = format!("too large for data that starts at {offset} (metadata_size)");
    Err(refuse("virtual_disk_size", header.virtual_disk_size, &why))
}

fn multiple(name: &str, value: u64, unit: u64) -> Result<()> {
    if value.is_multiple_of(unit) {
        return Ok(());
    }
    Err(refuse(name, value, &format!("not a multiple of {unit}")))
}

fn positive_multiple(name: &str, value: u64, unit: u64) -> Result<()> {
    if value == 0 {
        return Err(refuse(name, value, &format!("not a positive multiple of {unit}")));
    }
    multiple(name, value, unit)
}

fn refuse(name: &str, value: impl Display, why: &str) -> Error {
    Error::invalid_image(format!("Invalid header: {name} is {value}, {why}"))
}
