//! The function `dump`.

use std::path::PathBuf;

use fvd::Error;
use fvd::chain::{ChainOptions, open_file};
use fvd::format::profile::ENTRY_SIZE;
use fvd::format::{Block, FieldValue, Header, ProfileEntry, Record, StorageChunk};
use fvd::image::dump::{BitmapRuns, JournalSectors, TableRuns};
use fvd::image::profile::EntryReader;
use fvd::image::{Head, read_head};
use fvd::storage::FileStorage;
use pollster::block_on;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arguments::blocking;
use crate::numbers;

/// Return header, table, bitmap, journal and profile as they are on disk, without recovery.
///
/// Opens no file that the image names. `limit` is the maximum number of runs of the table and of the bitmap,
/// of sectors of the journal, and of entries of the profile; `truncated` names the parts that may have more.
/// `force_share` reads without locks. Raises `InvalidImageError` if the header is not that of an FVD image.
///
/// ```pycon
/// >>> dump = fvd.dump("overlay.fvd")
/// >>> dump["header"]["base_img"], dump["header"]["block_size"]
/// ('base.raw', 4096)
/// >>> dump["table"], dump["bitmap"]
/// (None, [])
/// ```
#[pyfunction]
#[pyo3(signature = (path, *, limit = 100_000, force_share = false))]
pub(crate) fn dump(
    py: Python<'_>,
    path: PathBuf,
    #[pyo3(from_py_with = numbers::limit)] limit: usize,
    force_share: bool,
) -> PyResult<Bound<'_, PyDict>> {
    let options = ChainOptions {
        force_share,
        ..ChainOptions::default()
    };
    let (file, head) = blocking(py, || {
        let file = open_file(&path, &options)?;
        let head = block_on(read_head(&file))?;
        Ok((file, head))
    })?;
    let dict = PyDict::new(py);
    dict.set_item("filename", path.as_os_str())?;
    dict.set_item("header", header_of(py, &head.header)?)?;
    let geometry = &head.geometry;
    let table = geometry.table.map(|_| blocking(py, || table_of(&file, &head, limit)));
    let table = table.transpose()?;
    let bitmap = geometry.bitmap.map(|_| blocking(py, || bitmap_of(&file, &head, limit)));
    let bitmap = bitmap.transpose()?;
    let journal = geometry.journal.map(|_| journal_of(py, &file, &head, limit));
    let journal = journal.transpose()?;
    let profile = geometry
        .profile
        .map(|_| blocking(py, || profile_of(&file, &head, limit)));
    let profile = profile.transpose()?;
    let lens = [
        ("table", table.as_ref().map(Vec::len)),
        ("bitmap", bitmap.as_ref().map(Vec::len)),
        ("journal", journal.as_ref().map(PyListMethods::len)),
        ("profile", profile.as_ref().map(Vec::len)),
    ];
    let full = lens.into_iter().filter(|(_, len)| *len >= Some(limit));
    let truncated: Vec<&str> = full.map(|(name, _)| name).collect();
    dict.set_item("table", table)?;
    dict.set_item("bitmap", bitmap)?;
    dict.set_item("journal", journal)?;
    dict.set_item("profile", profile)?;
    dict.set_item("truncated", truncated)?;
    Ok(dict)
}

fn header_of<'py>(py: Python<'py>, header: &Header) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in header.fields() {
        match value {
            FieldValue::Int(value) => dict.set_item(name, value)?,
            FieldValue::Bool(value) => dict.set_item(name, u8::from(value))?,
            FieldValue::Text(value) => dict.set_item(name, value)?,
        }
    }
    Ok(dict)
}

fn table_of(file: &FileStorage, head: &Head, limit: usize) -> Result<Vec<(u64, u64, u32)>, Error> {
    let mut runs = TableRuns::new(file, head, 0);
    let mut all = Vec::new();
    while all.len() < limit
        && let Some(run) = block_on(runs.next())?
    {
        all.push((run.first_chunk, run.count, run.first_number));
    }
    Ok(all)
}

fn bitmap_of(file: &FileStorage, head: &Head, limit: usize) -> Result<Vec<(u64, u64)>, Error> {
    let mut runs = BitmapRuns::new(file, head, Block::FIRST);
    let mut all = Vec::new();
    while all.len() < limit
        && let Some(run) = block_on(runs.next())?
    {
        all.push((run.first_block.index(), run.count));
    }
    Ok(all)
}

fn journal_of<'py>(py: Python<'py>, file: &FileStorage, head: &Head, limit: usize) -> PyResult<Bound<'py, PyList>> {
    let mut sectors = JournalSectors::new(file, head);
    let list = PyList::empty(py);
    while list.len() < limit
        && let Some(sector) = blocking(py, || block_on(sectors.next()))?
    {
        let dict = PyDict::new(py);
        dict.set_item("sector", sector.number)?;
        let records = PyList::empty(py);
        for record in &sector.records {
            records.append(record_of(py, record)?)?;
        }
        dict.set_item("records", records)?;
        list.append(dict)?;
    }
    Ok(list)
}

/// The entries of the profile: offset in bytes, length in units of the profile.
fn profile_of(file: &FileStorage, head: &Head, limit: usize) -> Result<Vec<(i64, u32)>, Error> {
    let mut reader = EntryReader::new(file, &head.geometry);
    let mut all = Vec::new();
    while all.len() < limit
        && let Some(bytes) = block_on(reader.next())?
    {
        let (entries, _) = bytes.as_slice().as_chunks::<{ ENTRY_SIZE as usize }>();
        let entries = entries.iter().map(ProfileEntry::decode);
        all.extend(entries.map(|entry| (entry.offset, entry.len)));
    }
    all.truncate(limit);
    Ok(all)
}

fn record_of<'py>(py: Python<'py>, record: &Record) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    match record {
        Record::Table(record) => {
            let entries: Vec<Option<u32>> = record
                .entries
                .iter()
                .map(|entry| entry.storage().map(StorageChunk::number))
                .collect();
            dict.set_item("type", "table")?;
            dict.set_item("first", record.first)?;
            dict.set_item("entries", entries)?;
        }
        Record::Bitmap(record) => {
            dict.set_item("type", "bitmap")?;
            dict.set_item("first_sector", record.first_sector)?;
            dict.set_item("sectors", record.sectors)?;
        }
    }
    Ok(dict)
}
