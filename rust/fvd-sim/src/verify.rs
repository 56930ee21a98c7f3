//! Invariants of an image on disk, checked without the engine.

use std::collections::BTreeMap;

use fvd::format::{Block, Entry, Geometry, Header, Record, Region, SECTOR, bitmap, journal};

use crate::medium::Medium;

/// Checks header, table and journal of an image. The journal is replayed unless the image is marked clean.
/// `data` is the separate data file. The error describes the first violation found.
pub fn verify(image: &Medium, data: Option<&Medium>, must_be_clean: bool) -> Result<(), String> {
    let bytes = read(
        image,
        Region {
            offset: 0,
            size: fvd::format::HEADER_SIZE,
        },
    );
    let header = Header::decode(&bytes).map_err(|error| error.to_string())?;
    let geometry = Geometry::new(&header, image.size()).map_err(|error| error.to_string())?;
    if must_be_clean && !header.clean_shutdown && geometry.journal.is_some() {
        return Err("the image is not marked clean".into());
    }
    if let Some(region) = geometry.bitmap.filter(|_| header.all_data_in_fvd_img) {
        check_complete(&read(image, region), geometry.base_size.div_ceil(geometry.block_size))?;
    }
    if let Some(region) = geometry.journal.filter(|_| header.clean_shutdown) {
        check_stale(image, region, &header, &geometry)?;
    }
    let Some(region) = geometry.table else {
        return Ok(());
    };
    let mut table = decode_table(&read(image, region));
    if let Some(region) = geometry.journal.filter(|_| !header.clean_shutdown) {
        replay(image, region, &mut table, geometry.chunks)?;
    }
    check_table(&table, &geometry, data.unwrap_or(image).size())
}

fn read(medium: &Medium, region: Region) -> Vec<u8> {
    let mut bytes = vec![0; region.size as usize];
    medium.read(&mut bytes, region.offset);
    bytes
}

/// Checks that every block is local, as the header says.
fn check_complete(bitmap: &[u8], blocks: u64) -> Result<(), String> {
    let mut blocks = Block::each(&(Block::FIRST..Block::new(blocks)));
    match blocks.find(|block| !is_local(bitmap, *block)) {
        None => Ok(()),
        Some(block) => Err(format!("all_data_in_fvd_img is set, but block {block} is in the base")),
    }
}

fn is_local(bitmap: &[u8], block: Block) -> bool {
    let (byte, bit) = (block.index() / 8, block.index() % 8);
    bitmap[byte as usize] >> bit & 1 == 1
}

fn decode_table(bytes: &[u8]) -> Vec<Entry> {
    let (words, _) = bytes.as_chunks::<4>();
    words
        .iter()
        .map(|word| Entry::from_disk(u32::from_le_bytes(*word)))
        .collect()
}

fn records(image: &Medium, journal: Region) -> impl Iterator<Item = Record> + '_ {
    let sectors = journal.offset / SECTOR..(journal.offset + journal.size) / SECTOR;
    // Most of a journal is a hole.
    sectors
        .filter(|sector| image.has_storage(*sector))
        .flat_map(|sector| journal::decode_sector(&image.sector(sector)))
}

/// Checks that the journal of a clean image says nothing that is not in place: the next session leaves these
/// records there, and they count again once that session has marked the image unclean.
fn check_stale(image: &Medium, journal: Region, header: &Header, geometry: &Geometry) -> Result<(), String> {
    let table = geometry.table.map(|region| decode_table(&read(image, region)));
    let bitmap = geometry.bitmap.filter(|_| !header.all_data_in_fvd_img);
    let bitmap = bitmap.map(|region| read(image, region));
    for record in records(image, journal) {
        match (record, &table, &bitmap) {
            (Record::Table(record), Some(table), _) => {
                for (index, entry) in (record.first as usize..).zip(record.entries) {
                    let in_place = table.get(index).and_then(|entry| entry.storage());
                    if entry.storage().is_some_and(|storage| in_place != Some(storage)) {
                        return Err(format!(
                            "the journal of a clean image says that chunk {index} lies at {entry:?}, the table says {in_place:?}"
                        ));
                    }
                }
            }
            (Record::Bitmap(record), _, Some(bitmap)) => {
                let (start, end) = (record.first_sector, record.first_sector + u64::from(record.sectors));
                let (size, block_size) = (geometry.base_size, geometry.block_size);
                let blocks = bitmap::blocks_of(start * SECTOR, end * SECTOR, size, block_size);
                if let Some(block) = Block::each(&blocks).find(|block| !is_local(bitmap, *block)) {
                    return Err(format!(
                        "the journal of a clean image says that block {block} is local, the bitmap does not"
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Applies the table records of the journal. As an invariant, all records of a chunk have the same entry. The
/// table in place may be newer than the records, if a power cut came before the journal was erased.
fn replay(image: &Medium, journal: Region, table: &mut [Entry], chunks: u64) -> Result<(), String> {
    let mut said = BTreeMap::new();
    for record in records(image, journal) {
        let Record::Table(record) = record else {
            continue;
        };
        for (index, entry) in (u64::from(record.first)..).zip(record.entries) {
            if index >= chunks {
                return Err(format!("a journal record names chunk {index} of {chunks}"));
            }
            let Some(storage) = entry.storage() else {
                continue;
            };
            let before = *said.entry(index).or_insert(storage);
            if before != storage {
                return Err(format!(
                    "the journal says that chunk {index} lies at {before} and at {storage}"
                ));
            }
            table[index as usize] = entry;
        }
    }
    Ok(())
}

fn check_table(table: &[Entry], geometry: &Geometry, data_len: u64) -> Result<(), String> {
    let mut owners = BTreeMap::new();
    for (chunk, entry) in table.iter().enumerate() {
        let Some(storage) = entry.storage() else {
            continue;
        };
        if chunk as u64 >= geometry.chunks {
            return Err(format!("the padding of the table holds {entry:?} at {chunk}"));
        }
        if let Some(other) = owners.insert(storage, chunk) {
            return Err(format!("chunks {other} and {chunk} share storage chunk {storage}"));
        }
        let end = geometry.data_offset + (storage.index() + 1) * geometry.chunk_size;
        if end > data_len {
            return Err(format!("chunk {chunk} ends at {end}, the file at {data_len}"));
        }
    }
    Ok(())
}
