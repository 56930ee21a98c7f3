//! The L1 and L2 tables, which map the disk to clusters. `docs/interop/qcow2.rst` of QEMU has the format.

use std::sync::Arc;

use pollster::block_on;

use super::File;
use super::cache::Cache;
use super::header::Header;
use crate::error::{Error, Result};
use crate::storage::{IoBufMut, Storage};

/// 64-bit words that are read and cached at once.
pub(super) const SLICE: u64 = 2048;

/// The most bytes of tables in memory, for a whole chain.
const MOST_KEPT: usize = 8 << 20;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

const SUBCLUSTERS: u64 = 32;
const ALL_SUBCLUSTERS: u64 = (1 << SUBCLUSTERS) - 1;

/// Slices of the tables of all images of a chain.
pub(super) type Tables = Cache<[u64]>;

pub(super) fn tables() -> Tables {
    Cache::new(MOST_KEPT)
}

/// Where a byte of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the backing file, if there is one.
    Unallocated,
    /// Nowhere: it reads as zeros. It may be allocated in the data file.
    Zeros { host: Option<u64> },
    /// In the data file, at this offset in bytes.
    Data { host: u64 },
    /// In a compressed cluster. The compressed data lies at `host` and has at most `len` bytes.
    Compressed { host: u64, len: usize },
}

impl Place {
    /// Whether `next`, `distance` bytes further on the disk, continues this place.
    fn continues_with(self, next: Self, distance: u64) -> bool {
        match (self, next) {
            (Self::Unallocated, Self::Unallocated) | (Self::Zeros { host: None }, Self::Zeros { host: None }) => true,
            (Self::Zeros { host: Some(a) }, Self::Zeros { host: Some(b) })
            | (Self::Data { host: a }, Self::Data { host: b }) => a + distance == b,
            _ => false,
        }
    }
}

/// Looks up where one image stores its disk.
pub(super) struct Lookup<'a> {
    pub(super) header: &'a Header,
    /// The file with the tables.
    pub(super) file: &'a File,
    pub(super) has_data_file: bool,
    pub(super) tables: &'a Tables,
    /// Index of the image in the chain.
    pub(super) layer: u32,
}

impl Lookup<'_> {
    /// Where the byte at `offset` is, and for how many of `len` bytes that continues. All of them must lie
    /// within the disk, and `len` must not be 0.
    pub(super) fn find(&self, offset: u64, len: u64) -> Result<(Place, u64)> {
        let end = offset + len;
        // At most 2 MiB times 2^18 entries.
        let span = self.header.cluster_size * self.header.l2_entries();
        let index = offset / span;
        let l1 = self.slice(self.header.l1_offset, self.header.l1_needed(), index)?;
        let entries = &l1[(index % SLICE) as usize..];
        let table = entries[0] & OFFSET;
        if table == 0 {
            let empty = entries.iter().take_while(|entry| **entry & OFFSET == 0).count() as u64;
            let stop = (index + empty).saturating_mul(span).min(end);
            return Ok((Place::Unallocated, stop - offset));
        }
        self.find_in_l2(table, offset, end.min((index + 1).saturating_mul(span)))
    }

    fn find_in_l2(&self, table: u64, offset: u64, end: u64) -> Result<(Place, u64)> {
        let (cluster_size, entry_words) = (self.header.cluster_size, self.header.l2_entry_words());
        let words = self.header.l2_entries() * entry_words;
        let index = offset / cluster_size % self.header.l2_entries() * entry_words;
        let slice = self.slice(table, words, index)?;
        let entries = &slice[(index % SLICE) as usize..];
        let start = offset / cluster_size * cluster_size;
        let known = start.saturating_add(entries.len() as u64 / entry_words * cluster_size);
        let end = end.min(known);
        let place = |at: u64| {
            let entry = &entries[((at - start) / cluster_size * entry_words) as usize..];
            self.place(entry, at)
        };
        let found = place(offset)?;
        let has_subclusters = entry_words == 2 && !matches!(found, Place::Compressed { .. });
        let unit = if has_subclusters {
            cluster_size / SUBCLUSTERS
        } else {
            cluster_size
        };
        let mut stop = offset / unit * unit + unit;
        // An error further on is reported when that place is looked up itself.
        while stop < end && place(stop).is_ok_and(|next| found.continues_with(next, stop - offset)) {
            stop += unit;
        }
        Ok((found, stop.min(end) - offset))
    }

    /// Where the byte at `at` is. `words` begins with the L2 entry of its cluster.
    fn place(&self, words: &[u64], at: u64) -> Result<Place> {
        let (entry, cluster_size) = (words[0], self.header.cluster_size);
        let inside = at % cluster_size;
        if entry & COMPRESSED != 0 {
            return self.compressed(entry, at);
        }
        let host = entry & OFFSET;
        if !host.is_multiple_of(cluster_size) {
            return Err(self.corrupt(at, &format!("lies at {host}, which is not the start of a cluster")));
        }
        // In an external data file, the first cluster may be at 0.
        let is_allocated = host != 0 || (self.has_data_file && entry & COPIED != 0);
        let host = host + inside;
        let zeros = Place::Zeros {
            host: is_allocated.then_some(host),
        };
        let data = Place::Data { host };
        if self.header.features.has_extended_l2() {
            let (with_data, with_zeros) = (words[1] & ALL_SUBCLUSTERS, words[1] >> SUBCLUSTERS);
            if with_data & with_zeros != 0 || (with_data != 0 && !is_allocated) {
                return Err(self.corrupt(at, "has a subcluster that is data and cannot be"));
            }
            let subcluster = inside / (cluster_size / SUBCLUSTERS);
            return Ok(match (with_data >> subcluster & 1, with_zeros >> subcluster & 1) {
                (0, 0) => Place::Unallocated,
                (0, _) => zeros,
                _ => data,
            });
        }
        match (entry & ZERO != 0, is_allocated) {
            (true, _) if self.header.version < 3 => Err(self.corrupt(at, "is marked as zeros in version 2")),
            (true, _) => Ok(zeros),
            (false, true) => Ok(data),
            (false, false) => Ok(Place::Unallocated),
        }
    }

    fn compressed(&self, entry: u64, at: u64) -> Result<Place> {
        if self.has_data_file {
            return Err(self.corrupt(at, "is compressed, and the data lies in an external file"));
        }
        // The number of sectors is in the bits above the offset.
        let sectors_bits = self.header.cluster_size.ilog2() - 8;
        let shift = 62 - sectors_bits;
        let host = entry & ((1 << shift) - 1);
        let sectors = (entry >> shift & ((1 << sectors_bits) - 1)) + 1;
        let len = (sectors * 512 - host % 512) as usize;
        Ok(Place::Compressed { host, len })
    }

    fn corrupt(&self, at: u64, what: &str) -> Error {
        let message = format!("The image is corrupt: the cluster for offset {at} of the disk {what}");
        let error = Error::invalid_image(message).with_path(self.file.path());
        error.with_hint("`qemu-img check` tells more")
    }

    /// The slice that contains word `index` of a table of `words` words at `table`.
    fn slice(&self, table: u64, words: u64, index: u64) -> Result<Arc<[u64]>> {
        let first = index / SLICE * SLICE;
        let len = (words - first).min(SLICE) * 8;
        let at = table + first * 8;
        let key = (self.layer, at);
        // In a corrupt image two tables of different lengths may lie at the same offset: then the cached
        // slice belongs to the other one.
        let kept = self.tables.get(key).filter(|slice| slice.len() as u64 * 8 == len);
        if let Some(slice) = kept {
            return Ok(slice);
        }
        let is_misplaced = !table.is_multiple_of(self.header.cluster_size);
        if is_misplaced || at + len > block_on(self.file.len())? {
            let what = if is_misplaced {
                "is not aligned"
            } else {
                "lies beyond the end of the file"
            };
            let message = format!("The image is corrupt, or was cut short: the table at {table} {what}");
            return Err(Error::invalid_image(message).with_path(self.file.path()));
        }
        let slice: Arc<[u64]> = read_words(self.file, at, len)?.into();
        self.tables.put(key, &slice, len as usize);
        Ok(slice)
    }
}

fn read_words(file: &File, at: u64, bytes: u64) -> Result<Vec<u64>> {
    let mut buf = IoBufMut::zeroed(bytes as usize);
    file.read_blocking(&mut buf, at)?;
    let (words, _) = buf.as_slice().as_chunks();
    Ok(words.iter().map(|word| u64::from_be_bytes(*word)).collect())
}

/// Fails if two entries of the L1 table share an L2 table. So a walk over the disk meets each table once.
pub(super) fn check_l1(header: &Header, file: &File) -> Result<()> {
    let needed = header.l1_needed();
    let (mut used, mut at) = (Vec::new(), 0);
    while at < needed {
        let count = (needed - at).min(8 * SLICE);
        let words = read_words(file, header.l1_offset + at * 8, count * 8)?;
        used.extend(words.iter().map(|entry| entry & OFFSET).filter(|table| *table != 0));
        at += count;
    }
    used.sort_unstable();
    match used.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => {
            let message = format!("The image is corrupt: the L2 table at {} is in use twice", pair[0]);
            Err(Error::invalid_image(message).with_path(file.path()))
        }
    }
}
