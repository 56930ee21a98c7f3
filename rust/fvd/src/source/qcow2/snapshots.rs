//! Lists the snapshots in a qcow2 image. Their content is not read.

use super::File;
use super::bytes::{u16_at, u32_at, u64_at};
use super::header::Header;
use crate::error::{Error, Result};
use crate::storage::{IoBufMut, Storage as _};

/// QEMU's limits.
const MOST: u32 = 65536;
const MAX_EXTRA: usize = 1024;
const MAX_TABLE: u64 = 64 << 20;

/// Bytes of an entry before its extra data.
const FIXED: usize = 40;

/// A snapshot, with what `qemu-img info` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Unique within the image.
    pub id: String,
    /// The name that the user chose.
    pub name: String,
    /// Size of the state of the virtual machine, in bytes.
    pub vm_state_size: u64,
    /// When it was taken: seconds since 1970, and nanoseconds within the second.
    pub date: (u32, u32),
    /// How long the virtual machine had run, in nanoseconds.
    pub vm_clock_ns: u64,
    /// Instructions that it had executed, if they were counted.
    pub icount: Option<u64>,
}

/// The snapshots of the image in `file` with this `header`.
pub fn snapshots(file: &File, header: &Header) -> Result<Vec<Snapshot>> {
    let (count, start) = header.snapshots;
    let refused = |what: &str| {
        let message = format!("The snapshot table is corrupt: {what}");
        Error::invalid_image(message).with_path(file.path())
    };
    if count > MOST {
        return Err(refused(&format!("it is to have {count} entries")));
    }
    if start > i64::MAX as u64 - MAX_TABLE {
        return Err(refused("it lies beyond the end of any file"));
    }
    let (mut snapshots, mut len) = (Vec::new(), 0);
    for _ in 0..count {
        let entry = read_entry(file, start + len)?;
        let (snapshot, entry_len) = entry.ok_or_else(|| refused("an entry is longer than it may be"))?;
        len += entry_len.next_multiple_of(8);
        if len > MAX_TABLE {
            return Err(refused("it is longer than it may be"));
        }
        snapshots.push(snapshot);
    }
    Ok(snapshots)
}

/// The entry at `at`, and its length in bytes. None: it violates the format.
fn read_entry(file: &File, at: u64) -> Result<Option<(Snapshot, u64)>> {
    let mut buf = IoBufMut::zeroed(FIXED);
    file.read_blocking(&mut buf, at)?;
    let sizes = || {
        let fixed = buf.as_slice();
        let extra = u32_at(fixed, 36)? as usize;
        Some((extra, usize::from(u16_at(fixed, 12)?), usize::from(u16_at(fixed, 14)?)))
    };
    let Some((extra, id_len, name_len)) = sizes().filter(|(extra, ..)| *extra <= MAX_EXTRA) else {
        return Ok(None);
    };
    let len = FIXED + extra + id_len + name_len;
    let mut buf = IoBufMut::zeroed(len);
    file.read_blocking(&mut buf, at)?;
    Ok(parse(buf.as_slice(), extra, id_len).map(|snapshot| (snapshot, len as u64)))
}

/// `entry`: a whole entry.
fn parse(entry: &[u8], extra: usize, id_len: usize) -> Option<Snapshot> {
    let (id, name) = entry.get(FIXED + extra..)?.split_at_checked(id_len)?;
    let more = &entry[FIXED..FIXED + extra];
    Some(Snapshot {
        id: String::from_utf8_lossy(id).into_owned(),
        name: String::from_utf8_lossy(name).into_owned(),
        vm_state_size: u64_at(more, 0).map_or_else(|| u32_at(entry, 32).map(u64::from), Some)?,
        date: (u32_at(entry, 16)?, u32_at(entry, 20)?),
        vm_clock_ns: u64_at(entry, 24)?,
        icount: u64_at(more, 16).filter(|count| *count != u64::MAX),
    })
}
