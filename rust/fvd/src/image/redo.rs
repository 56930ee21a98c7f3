//! Writing the header: all of a change or nothing, through the redo copy.

use bytes::Bytes;

use crate::error::Result;
use crate::format::header::RAW_SIZE;
use crate::format::{Geometry, HEADER_SIZE, Header, redo, table};
use crate::storage::{IoBufMut, Storage};

/// Makes `old`, the header in place, `new`. Everything that the new one relies on is durable.
///
/// After a failure, or a crash, it is one or the other: the next [`finish`] decides.
pub(in crate::image) async fn replace<S: Storage>(file: &S, old: &Header, new: &Header) -> Result<()> {
    let region = read_region(file).await?;
    let in_place = &region.as_slice()[..RAW_SIZE];
    let mut fields = in_place.to_vec();
    new.write_changes(old, &mut fields)?;
    if fields == in_place {
        return Ok(());
    }
    let copy = redo::encode(in_place, &fields)?;
    file.write(Bytes::from(copy), redo::OFFSET).await?;
    file.sync().await?;
    put_in_place(file, region, &fields).await
}

/// Finishes what a redo copy in the file says, if there is one that counts.
pub(in crate::image) async fn finish<S: Storage>(file: &S) -> Result<()> {
    let region = read_region(file).await?;
    match redo::replay(region.as_slice()) {
        Some(fields) => put_in_place(file, region, &fields).await,
        None => Ok(()),
    }
}

/// Writes the fields in place, now that a durable copy tells of them, and erases the copy.
async fn put_in_place<S: Storage>(file: &S, region: IoBufMut, fields: &[u8]) -> Result<()> {
    // What lies between the last field and the next sector stays.
    let mut sectors = region.as_slice()[..redo::OFFSET as usize].to_vec();
    sectors[..RAW_SIZE].copy_from_slice(fields);
    file.write(Bytes::from(sectors), 0).await?;
    file.sync().await?;
    trim_table(file, fields).await?;
    file.write(Bytes::from_static(&[0; redo::SIZE]), redo::OFFSET).await?;
    file.sync().await
}

/// Makes the entries behind the last chunk, in the last page of the table, "not allocated", durably: a
/// disk that has become smaller leaves some there.
async fn trim_table<S: Storage>(file: &S, fields: &[u8]) -> Result<()> {
    let geometry = Geometry::new(&Header::decode(fields)?, file.len().await?)?;
    let Some(table) = geometry.table else {
        return Ok(());
    };
    let start = table.offset + geometry.chunks * table::ENTRY_SIZE;
    let behind = IoBufMut::zeroed((table.end() - start) as usize);
    let behind = file.read(behind, start).await?;
    if behind.as_slice().iter().all(|byte| *byte == 0xFF) {
        return Ok(());
    }
    file.write(Bytes::from(vec![0xFF; behind.len()]), start).await?;
    file.sync().await
}

async fn read_region<S: Storage>(file: &S) -> Result<IoBufMut> {
    file.read(IoBufMut::zeroed(HEADER_SIZE as usize), 0).await
}
