//! A change of the disk size: the changed header fields, and the steps before and after the header changes
//! (docs/design/format.md, section 9).

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Geometry, Header, SECTOR, table};
use crate::image::metadata::patch;
use crate::image::space::surplus;
use crate::image::{Head, check};
use crate::storage::{Space, Storage};

use super::room;

/// A change of the size for which the image has room.
pub(super) struct Resize {
    /// The old size of the disk in bytes.
    from: u64,
    /// The new size of the disk in bytes.
    to: u64,
    /// The geometry before the change.
    geometry: Geometry,
    /// Indices of the table entries that are new in a larger disk, up to the end of the last page of the
    /// table. They must be set to "not allocated".
    entries: Range<u64>,
}

impl Resize {
    /// Sets the size of the disk to `size` bytes in the header `new`, and changes all fields that depend on
    /// it. `None` if the disk already has this size. `file_len` is the length of the image file in bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the disk would become smaller without
    /// `shrink`, or if there is no room for the larger disk.
    pub(super) fn plan(head: &Head, new: &mut Header, size: u64, shrink: bool, file_len: u64) -> Result<Option<Self>> {
        let (from, to) = (head.geometry.virtual_size, size);
        if from == to {
            return Ok(None);
        }
        if to < from && !shrink {
            return Err(Error::invalid_argument(format!(
                "Shrinking the disk from {from} to {to} bytes deletes all data beyond its new end. \
                 Use --shrink (shrink=True) to perform a shrink operation"
            )));
        }
        new.virtual_disk_size = to;
        if new.base_img_size > to {
            new.base_img_size = to;
            new.all_data_in_fvd_img |= to == 0;
        }
        let mut resize = Self {
            from,
            to,
            geometry: head.geometry.clone(),
            entries: 0..0,
        };
        match head.geometry.table {
            Some(_) if to < from => {}
            Some(_) => {
                let room = room::for_table(head, to, file_len)?;
                if let Some(journal) = room.journal {
                    new.journal_offset = journal.offset;
                    new.journal_size = journal.size;
                }
                resize.entries = head.geometry.chunks..room.table_size / table::ENTRY_SIZE;
            }
            None => check_end(head.geometry.data_offset, to)?,
        }
        Ok(Some(resize))
    }

    pub(super) fn grows(&self) -> bool {
        self.to > self.from
    }

    /// Fails if the data lies on a device that is too small for the new size.
    pub(super) async fn check_device<S: Storage>(&self, data: &S) -> Result<()> {
        if data.can_resize() || self.geometry.table.is_some() {
            return Ok(());
        }
        let (needed, len) = (self.geometry.data_offset + self.to, data.len().await?);
        if !self.grows() || len >= needed {
            return Ok(());
        }
        let message = format!(
            "The device has {len} bytes, too few for a disk of {} bytes, which takes {needed}",
            self.to
        );
        Err(Error::invalid_argument(message).with_path(data.path()))
    }

    /// The step before the header changes: the bytes that a larger disk adds must read as zeros. Synced.
    pub(super) async fn prepare<S: Storage>(&self, file: &S, data: &S) -> Result<()> {
        if !self.grows() {
            return Ok(());
        }
        let Some(table) = self.geometry.table else {
            return self.clear_plain(data, self.from, self.to).await;
        };
        surplus::clear_chunk_behind(file, data, &self.geometry, self.from).await?;
        data.sync().await?;
        patch::clear_entries(file, table, self.entries.clone()).await?;
        file.sync().await
    }

    /// The step after the header of a smaller disk, `new`, is in place: removes the data after the end of the
    /// disk. Synced.
    pub(super) async fn clean_up<S: Storage>(&self, file: &S, data: &S, new: &Header) -> Result<()> {
        if self.geometry.table.is_none() {
            return self.clear_plain(data, self.to, self.from).await;
        }
        let geometry = Geometry::new(new, file.len().await?)?;
        surplus::clear(file, data, new, &geometry).await?;
        check::compact(file, data).await
    }

    /// Removes the data of a plain image from byte `end` of the disk. Cuts a file there. Zeroes a device up
    /// to byte `limit` of the disk.
    async fn clear_plain<S: Storage>(&self, data: &S, end: u64, limit: u64) -> Result<()> {
        let len = data.len().await?;
        let start = self.geometry.data_offset + end;
        if len <= start {
            return Ok(());
        }
        if data.can_resize() {
            data.set_len(start).await?;
        } else {
            let stop = len.min(self.geometry.data_offset + limit);
            data.write_zeroes(start, stop.saturating_sub(start), Space::Free)
                .await?;
        }
        data.sync().await
    }
}

/// Fails if the disk would end after the largest possible file offset.
fn check_end(data_offset: u64, size: u64) -> Result<()> {
    let most = (i64::MAX as u64 - data_offset) / SECTOR * SECTOR;
    if size <= most {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "size is {size}, the most for this image is {most} bytes"
    )))
}

/// Adds to an error that the size has changed nevertheless.
pub(super) fn too_late(error: Error) -> Error {
    let context = "The disk has its new size, but not all that it no longer holds was freed";
    let kind = match error.kind() {
        ErrorKind::InvalidArgument => ErrorKind::InvalidImage,
        kind => kind,
    };
    error.with_context(kind, context)
}
