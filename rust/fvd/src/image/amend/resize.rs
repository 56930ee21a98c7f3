//! The size: what it changes in the header, and what has to happen before and after that.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Geometry, Header, SECTOR, table};
use crate::image::{Head, check, patch, surplus};
use crate::storage::{Space, Storage};

use super::room;

/// A change of the size that the image has room for.
pub(super) struct Resize {
    /// Bytes of the disk.
    from: u64,
    to: u64,
    /// As it is before.
    geometry: Geometry,
    /// Table entries that only a larger disk has, up to the end of its last page: to be made "not allocated".
    entries: Range<u64>,
}

impl Resize {
    /// Puts `size` (bytes), and all that follows from it, into the header `new`. None: that is the
    /// size already.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) where the disk would become smaller without
    /// `shrink`, or there is no room for it to become as large.
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

    /// Fails where a device is too small for the disk to come.
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

    /// Before the header changes: makes what a larger disk will show read as zeros.
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

    /// After the header has become `new`, that of a smaller disk: removes what it does not show any more.
    pub(super) async fn clean_up<S: Storage>(&self, file: &S, data: &S, new: &Header) -> Result<()> {
        if self.geometry.table.is_none() {
            return self.clear_plain(data, self.to, self.from).await;
        }
        let geometry = Geometry::new(new, file.len().await?)?;
        surplus::clear(file, data, new, &geometry).await?;
        check::compact(file, data).await
    }

    /// Removes what a plain image has stored of the disk from `end` on, on a device up to `limit`.
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

/// Fails where the disk would end behind the largest offset that a file can have.
fn check_end(data_offset: u64, size: u64) -> Result<()> {
    let most = (i64::MAX as u64 - data_offset) / SECTOR * SECTOR;
    if size <= most {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "size is {size}, the most for this image is {most} bytes"
    )))
}

/// Says of a failure that the size has changed all the same.
pub(super) fn too_late(error: Error) -> Error {
    let context = "The disk has its new size, but not all that it no longer holds was freed";
    let kind = match error.kind() {
        ErrorKind::InvalidArgument => ErrorKind::InvalidImage,
        kind => kind,
    };
    error.with_context(kind, context)
}
