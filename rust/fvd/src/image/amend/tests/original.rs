//! A model of the original driver, written after the description of the format. It knows neither redo copy
//! nor fence. It replays the journal, allocates the next storage chunk number without clearing the chunk, and
//! writes its metadata to the journal until it closes the image.

use super::*;
use crate::format::journal::{decode_sector, encode_sector};
use crate::format::{
    BitmapRecord, Entry, Geometry, HEADER_SIZE, Record, Region, SECTOR, StorageChunk, TableRecord, fence,
};
use crate::storage::IoBufMut;

/// How a session of the original ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Killed,
}

pub(super) struct Original<'a> {
    sample: &'a Sample<MemoryStorage>,
    header: Header,
    geometry: Geometry,
    table: Vec<u32>,
    bitmap: Vec<u8>,
    /// The next sector of the journal.
    position: u64,
}

fn read(storage: &MemoryStorage, offset: u64, len: u64) -> Vec<u8> {
    let buf = block_on(storage.read(IoBufMut::zeroed(len as usize), offset)).expect("read");
    buf.as_slice().to_vec()
}

fn write(storage: &MemoryStorage, offset: u64, bytes: &[u8]) {
    block_on(storage.write(Bytes::copy_from_slice(bytes), offset)).expect("written");
}

/// The header in place, without regard to a redo copy.
pub(super) fn in_place(sample: &Sample<MemoryStorage>) -> Header {
    Header::decode(&read(&sample.file, 0, HEADER_SIZE)).expect("a header")
}

impl<'a> Original<'a> {
    /// Opens the image for writing. `None` if the original refuses the image.
    pub(super) fn open(sample: &'a Sample<MemoryStorage>) -> Option<Self> {
        let header = in_place(sample);
        let has_metadata = header.compact_image || header.bitmap_size > 0;
        if !header.clean_shutdown && header.journal_size == 0 && has_metadata {
            return None;
        }
        let len = block_on(sample.file.len()).expect("memory");
        let geometry = Geometry::new(&header, len).expect("regions");
        let region = |region: Option<Region>| region.map_or_else(Vec::new, |r| read(&sample.file, r.offset, r.size));
        let words = region(geometry.table);
        let (words, _) = words.as_chunks::<4>();
        let mut original = Self {
            sample,
            table: words.iter().map(|word| u32::from_le_bytes(*word)).collect(),
            bitmap: region(geometry.bitmap),
            position: 0,
            header,
            geometry,
        };
        if !original.header.clean_shutdown {
            original.replay();
        }
        sample.set_clean(false);
        Some(original)
    }

    fn replay(&mut self) {
        let journal = self
            .geometry
            .journal
            .map_or_else(Vec::new, |region| read(&self.sample.file, region.offset, region.size));
        let (sectors, _) = journal.as_chunks::<{ SECTOR as usize }>();
        for record in sectors.iter().flat_map(decode_sector) {
            match record {
                Record::Table(record) => {
                    for (entry, new) in self.table.iter_mut().skip(record.first as usize).zip(record.entries) {
                        *entry = new.raw();
                    }
                }
                Record::Bitmap(record) => {
                    let start = record.first_sector * SECTOR;
                    self.set_bits(start, start + u64::from(record.sectors) * SECTOR);
                }
            }
        }
        self.put_in_place();
    }

    fn put_in_place(&self) {
        if let Some(region) = self.geometry.table {
            let bytes: Vec<u8> = self.table.iter().flat_map(|word| word.to_le_bytes()).collect();
            write(&self.sample.file, region.offset, &bytes);
        }
        if let Some(region) = self.geometry.bitmap {
            write(&self.sample.file, region.offset, &self.bitmap);
        }
    }

    fn set_bits(&mut self, start: u64, end: u64) {
        let end = end.min(self.geometry.base_size);
        if self.geometry.block_size > 0 && start < end {
            for block in start / self.geometry.block_size..end.div_ceil(self.geometry.block_size) {
                self.bitmap[(block / 8) as usize] |= 1 << (block % 8);
            }
        }
    }

    /// Size of the disk in bytes.
    pub(super) fn size(&self) -> u64 {
        self.geometry.virtual_size
    }

    /// A guest write. In the range of a base it must consist of whole blocks.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if self.table.is_empty() {
            write(self.sample.data(), self.geometry.data_offset + offset, bytes);
        } else {
            self.write_chunks(offset, bytes);
        }
        self.set_bits(offset, end);
        let bits = (offset < self.geometry.base_size).then(|| BitmapRecord {
            first_sector: offset / SECTOR,
            sectors: (end.min(self.geometry.base_size).div_ceil(SECTOR) - offset / SECTOR) as u32,
        });
        let chunks = match self.geometry.chunk_size {
            0 => 0..0,
            size => offset / size..end.div_ceil(size),
        };
        let entries = TableRecord {
            first: chunks.start as u32,
            entries: chunks
                .clone()
                .map(|chunk| Entry::allocated(StorageChunk::new(self.table[chunk as usize])))
                .collect(),
        };
        let entries = Some(&entries).filter(|_| !chunks.is_empty());
        if entries.is_some() || bits.is_some() {
            self.journal(&encode_sector(entries, bits.as_ref()));
        }
    }

    fn write_chunks(&mut self, offset: u64, bytes: &[u8]) {
        let size = self.geometry.chunk_size;
        let mut at = offset;
        while at < offset + bytes.len() as u64 {
            let end = (at / size + 1) * size;
            let end = end.min(offset + bytes.len() as u64);
            let number = self.allocate(at / size);
            let part = &bytes[(at - offset) as usize..(end - offset) as usize];
            let place = self.geometry.data_offset + u64::from(number) * size + at % size;
            write(self.sample.data(), place, part);
            at = end;
        }
    }

    fn allocate(&mut self, chunk: u64) -> u32 {
        let used = self.table.iter().filter(|number| **number != u32::MAX);
        let next = used.max().map_or(0, |number| number + 1);
        let entry = &mut self.table[chunk as usize];
        if *entry == u32::MAX {
            *entry = next;
            let end = self.geometry.data_offset + (u64::from(next) + 1) * self.geometry.chunk_size;
            let data = self.sample.data();
            if block_on(data.len()).expect("memory") < end {
                block_on(data.set_len(end)).expect("memory");
            }
        }
        *entry
    }

    fn journal(&mut self, sector: &[u8]) {
        match self.geometry.journal {
            Some(region) if self.position < region.size / SECTOR => {
                write(&self.sample.file, region.offset + self.position * SECTOR, sector);
                self.position += 1;
            }
            Some(_) => {
                self.put_in_place();
                self.position = 0;
            }
            None => {}
        }
    }

    pub(super) fn end(self, end: End) {
        if end == End::Closed {
            self.put_in_place();
            self.sample.set_clean(true);
        }
    }
}

/// Whether other programs may use the image: it is marked clean and has no fence.
pub(super) fn is_released(sample: &Sample<MemoryStorage>) -> bool {
    in_place(sample).clean_shutdown && !fence::is_in(&read(&sample.file, 0, HEADER_SIZE))
}

/// The bytes after the highest storage chunk that the table in place names, or after the end of a plain disk.
pub(super) fn tail(sample: &Sample<MemoryStorage>) -> Vec<u8> {
    let header = in_place(sample);
    let geometry = Geometry::new(&header, block_on(sample.file.len()).expect("memory")).expect("regions");
    let used = match geometry.table {
        Some(table) => {
            let bytes = read(&sample.file, table.offset, geometry.chunks * 4);
            let (words, _) = bytes.as_chunks::<4>();
            let numbers = words.iter().map(|word| u32::from_le_bytes(*word));
            let highest = numbers.filter(|number| *number != u32::MAX).max();
            highest.map_or(0, |number| u64::from(number) + 1) * geometry.chunk_size
        }
        None => geometry.virtual_size,
    };
    let (start, len) = (
        geometry.data_offset + used,
        block_on(sample.data().len()).expect("memory"),
    );
    read(sample.data(), start, len.saturating_sub(start))
}
