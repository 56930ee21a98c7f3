//! Unfinished: the mark of an image that is being made, or written as a whole, so that it is not taken for a
//! complete one (`docs/design/format.md`, section 10). An image that was not closed is another thing: see
//! `durability/recover`.

use bytes::Bytes;

use super::open::{Head, head_of};
use crate::error::Result;
use crate::format::{HEADER_SIZE, SECTOR, header, unfinished};
use crate::storage::{IoBufMut, Storage};

/// Marks `file` as one in which nothing is in place yet. On a device the mark is synced: after a power cut an
/// old header could come back, and make the new content look valid.
pub async fn begin<S: Storage>(file: &S) -> Result<()> {
    file.write(Bytes::from(unfinished::page()), 0).await?;
    if file.can_resize() { Ok(()) } else { file.sync().await }
}

/// Marks an image whose metadata is in order, durably. Nothing else in the image changes.
pub async fn suspend<S: Storage>(file: &S) -> Result<()> {
    write_magic(file, unfinished::MARK).await?;
    file.sync().await
}

/// Removes the mark from an image. Not synced.
pub async fn finish<S: Storage>(file: &S) -> Result<()> {
    write_magic(file, header::MAGIC.to_le_bytes()).await
}

/// As [`read_head`](super::read_head), but also reads an image that has the mark, if its metadata is in
/// order.
pub async fn read_unfinished_head<S: Storage>(file: &S) -> Result<Head> {
    let len = file.len().await?;
    let mut buf = file.read(IoBufMut::zeroed(HEADER_SIZE.min(len) as usize), 0).await?;
    let marked = unfinished::is_marked(buf.as_slice());
    if marked {
        buf.as_mut_slice()[..unfinished::MARK.len()].copy_from_slice(&header::MAGIC.to_le_bytes());
    }
    let head = head_of(buf.as_slice(), len).map(|head| Head {
        unfinished: marked,
        ..head
    });
    head.map_err(|error| {
        let error = if marked { unfinished::error() } else { error };
        error.with_path(file.path())
    })
}

async fn write_magic<S: Storage>(file: &S, magic: [u8; 4]) -> Result<()> {
    let mut sector = file.read(IoBufMut::zeroed(SECTOR as usize), 0).await?;
    sector.as_mut_slice()[..magic.len()].copy_from_slice(&magic);
    file.write(sector.freeze(), 0).await
}
