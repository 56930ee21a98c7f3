//! Changing the header: all of a change or nothing, with the redo copy and the fence
//! (`docs/design/format.md`, section 8).

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::{Geometry, HEADER_SIZE, Header, SECTOR, fence, records, redo};
use crate::image::space::surplus;
use crate::storage::{IoBufMut, Storage};

/// A change that has happened and is not yet all in place. The header has the fence, and a durable redo copy
/// holds the new fields.
pub(in crate::image) struct Change<'a, S> {
    file: &'a S,
    /// The new content of the sectors of the fields and records.
    sectors: Vec<u8>,
}

impl<'a, S: Storage> Change<'a, S> {
    /// Replaces `old`, the header in place, by `new`, and the record area by `area`; None: it stays. Everything
    /// that the new header relies on is durable.
    ///
    /// Returns the rest of the change, which [`Change::end`] completes. None: the change is complete, because
    /// nothing differs, or only a single sector. With `fenced` the fence is used for a single sector, too.
    ///
    /// After a failure, or a crash, the header is the old one or the new one.
    pub(in crate::image) async fn begin(
        file: &'a S,
        old: &Header,
        new: &Header,
        area: Option<&[u8; records::SIZE]>,
        fenced: bool,
    ) -> Result<Option<Self>> {
        let region = read_region(file).await?;
        let mut sectors = region.as_slice()[..redo::OFFSET as usize].to_vec();
        new.write_changes(old, &mut sectors)?;
        if let Some(area) = area {
            sectors[records::PLACE].copy_from_slice(area);
        }
        let mut changed = (0..redo::OFFSET).step_by(SECTOR as usize).filter(|&at| {
            let range = at as usize..(at + SECTOR) as usize;
            sectors[range.clone()] != region.as_slice()[range]
        });
        let Some(first) = changed.next() else {
            return Ok(None);
        };
        if changed.next().is_none() && !fenced {
            write_sector(file, &sectors, first).await?;
            return Ok(None);
        }
        let copy = redo::encode(region.as_slice(), &sectors)?;
        file.write(Bytes::from(copy), redo::OFFSET).await?;
        file.sync().await?;
        let mut fenced = region.as_slice()[..redo::OFFSET as usize].to_vec();
        fence::put_into(&mut fenced);
        write_sector(file, &fenced, fence::SECTOR_OFFSET).await?;
        let change = Self { file, sectors };
        change.put_in_place().await?;
        Ok(Some(change))
    }

    /// Writes the fields in place, except in the sector with the fence.
    async fn put_in_place(&self) -> Result<()> {
        let fields = self.sectors[..fence::SECTOR_OFFSET as usize].to_vec();
        self.file.write(Bytes::from(fields), 0).await?;
        self.file.sync().await
    }

    /// Writes the last sector, which removes the fence. From here on the redo copy does not count. Then
    /// erases the copy.
    pub(in crate::image) async fn end(self) -> Result<()> {
        write_sector(self.file, &self.sectors, fence::SECTOR_OFFSET).await?;
        erase(self.file).await
    }
}

/// Finishes the change in the redo copy of the file, if it has one that counts. Erases a copy that does not
/// count.
///
/// `data` is the storage that holds the data. None: it is a file that is not open.
pub(in crate::image) async fn finish<S: Storage>(file: &S, data: Option<&S>) -> Result<()> {
    let region = read_region(file).await?;
    let Some(redone) = redo::replay(region.as_slice()) else {
        if redo::is_in(region.as_slice()) {
            erase(file).await?;
        }
        return Ok(());
    };
    let header = Header::decode(&redone.fields)?;
    let geometry = Geometry::new(&header, file.len().await?)?;
    if redone.resizes && data.is_none() {
        let message = "A change of the size was cut short: open the image for writing once, which finishes it";
        return Err(Error::invalid_argument(message).with_path(file.path()));
    }
    let change = Change {
        file,
        sectors: redone.fields,
    };
    change.put_in_place().await?;
    if let Some(data) = data.filter(|_| redone.resizes) {
        surplus::clear(file, data, &header, &geometry).await?;
        // In an unclean image the journal may name chunks that the table does not. There, recovery cuts after
        // the replay.
        if header.clean_shutdown {
            surplus::cut_tail(file, Some(data), &geometry).await?;
        }
    } else if let Some(table) = geometry.table {
        surplus::clear_entries(file, table, &header, &geometry).await?;
    }
    change.end().await
}

async fn write_sector<S: Storage>(file: &S, sectors: &[u8], offset: u64) -> Result<()> {
    let sector = &sectors[offset as usize..(offset + SECTOR) as usize];
    file.write(Bytes::copy_from_slice(sector), offset).await?;
    file.sync().await
}

async fn erase<S: Storage>(file: &S) -> Result<()> {
    file.write(Bytes::from_static(&[0; redo::SIZE]), redo::OFFSET).await?;
    file.sync().await
}

async fn read_region<S: Storage>(file: &S) -> Result<IoBufMut> {
    file.read(IoBufMut::zeroed(HEADER_SIZE as usize), 0).await
}
