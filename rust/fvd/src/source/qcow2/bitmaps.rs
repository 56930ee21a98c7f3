//! Lists the dirty bitmaps of a qcow2 image. Their content is not read.

use super::File;
use super::bytes::{u16_at, u32_at};
use super::header::Header;
use crate::error::{Error, Result};
use crate::storage::{IoBufMut, Storage as _};

/// QEMU's limits.
const MOST: u32 = 65535;
const MAX_DIRECTORY: u64 = 64 << 20;
const GRANULARITY_BITS: std::ops::RangeInclusive<u8> = 9..=31;

/// Bytes of an entry before its extra data.
const FIXED: usize = 24;

/// A bitmap, with what `qemu-img info` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// Unique within the image.
    pub name: String,
    /// Bytes of the disk per bit.
    pub granularity: u64,
    /// The bitmap was not saved: its content is unreliable.
    pub in_use: bool,
    /// The bitmap is updated while the image is open.
    pub auto: bool,
}

/// The bitmaps of the image in `file` with this `header`. Empty if they are not up to date.
pub fn bitmaps(file: &File, header: &Header) -> Result<Vec<Bitmap>> {
    let Some((offset, size, count)) = header.bitmaps.filter(|_| header.features.has_bitmaps()) else {
        return Ok(Vec::new());
    };
    let refused = || {
        let message = format!("The bitmap directory is corrupt: {count} entries in {size} bytes");
        Error::invalid_image(message).with_path(file.path())
    };
    if count > MOST || size > MAX_DIRECTORY || offset.checked_add(size).is_none() {
        return Err(refused());
    }
    let (mut at, end) = (offset, offset + size);
    let mut bitmaps = Vec::new();
    for _ in 0..count {
        let (bitmap, len) = read_entry(file, at, end)?.ok_or_else(refused)?;
        bitmaps.push(bitmap);
        at += len;
    }
    Ok(bitmaps)
}

/// The entry at `at` of a directory that ends at `end`, and its length in bytes. None: it violates the
/// format.
fn read_entry(file: &File, at: u64, end: u64) -> Result<Option<(Bitmap, u64)>> {
    if end - at < FIXED as u64 {
        return Ok(None);
    }
    let mut buf = IoBufMut::zeroed(FIXED);
    file.read_blocking(&mut buf, at)?;
    let fixed = buf.as_slice();
    let (Some(flags), Some(name_len), Some(extra)) = (u32_at(fixed, 12), u16_at(fixed, 18), u32_at(fixed, 20)) else {
        return Ok(None);
    };
    let granularity_bits = fixed[17];
    let name_at = FIXED as u64 + u64::from(extra);
    let len = (name_at + u64::from(name_len)).next_multiple_of(8);
    if len > end - at || !GRANULARITY_BITS.contains(&granularity_bits) {
        return Ok(None);
    }
    let mut name = IoBufMut::zeroed(usize::from(name_len));
    file.read_blocking(&mut name, at + name_at)?;
    let bitmap = Bitmap {
        name: String::from_utf8_lossy(name.as_slice()).into_owned(),
        granularity: 1 << granularity_bits,
        in_use: flags & 1 != 0,
        auto: flags & 2 != 0,
    };
    Ok(Some((bitmap, len)))
}
