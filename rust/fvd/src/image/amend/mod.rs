//! Amend: changes fields of the header, including the size of the disk, of an image that no other process has
//! open.
//!
//! All fields of one amendment change together or not at all, also after a crash. The steps, the reasons for
//! their order and the crash cases are in docs/design/format.md, section 8.

mod changes;
mod names;
mod pin;
mod resize;
mod room;
#[cfg(test)]
mod tests;

use std::ffi::OsString;

pub use changes::Changes;

use crate::error::{Error, Result};
use crate::format::{BaseUpdate, Geometry, Header, records};
use crate::image::durability::recover::{in_place, medium};
use crate::image::metadata::redo;
use crate::image::{CacheMode, Head, read_head_to_write};
use crate::storage::Storage;

use resize::Resize;

/// Makes the changes durably, and returns the new header.
///
/// `data` is the separate data file. It is required if [`needs_data`] says so. The image is recovered first.
/// The caller must hold the locks: no other process may have the image open, not even as a base.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a change is not possible. Then nothing was
/// written, except by the recovery. [`InvalidImage`](crate::ErrorKind::InvalidImage) if the image is suspect.
/// After any other failure either all changes have been made, or none.
pub async fn amend<S: Storage>(file: &S, data: Option<&S>, changes: &Changes) -> Result<Header> {
    let add_path = |error: Error| error.with_path(file.path());
    let head = read_head_to_write(file).await?;
    let mut head = medium::sync_and_reread(file, data, head, CacheMode::default()).await?;
    head.check_trusted(file)?;
    if !head.header.clean_shutdown && head.base_may_be_stale() {
        return Err(add_path(Error::invalid_argument(
            "The backing file may lack what the image has, which is written to it first: open the image with \
             write_base=True, or use --write-base",
        )));
    }
    let plan = Plan::new(file, &head, changes).await.map_err(add_path)?;
    let data = if head.header.data_file.is_empty() {
        Some(file)
    } else {
        data
    };
    if data.is_none() && plan.needs_data(&head) {
        return Err(add_path(Error::invalid_argument(
            "The change needs the data file, which is not open",
        )));
    }
    if let (Some(resize), Some(data)) = (&plan.resize, data) {
        resize.check_device(data).await?;
    }
    in_place::recover(file, data, &mut head).await?;
    // Without `data` the changes do not need the data file, so this stand-in is not used.
    plan.carry_out(file, data.unwrap_or(file), &head).await?;
    Ok(plan.new)
}

/// The name of the separate data file, if the changes need it. `None` if they do not, or if there is no such
/// file.
///
/// # Errors
///
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the changes are not possible.
pub async fn needs_data<S: Storage>(file: &S, head: &Head, changes: &Changes) -> Result<Option<OsString>> {
    let plan = Plan::new(file, head, changes).await;
    let plan = plan.map_err(|error| error.with_path(file.path()))?;
    let needed = plan.needs_data(head) && !plan.new.data_file.is_empty();
    Ok(needed.then_some(plan.new.data_file))
}

/// Changes that have been checked and are possible.
struct Plan {
    new: Header,
    /// The new record area. None: it stays.
    area: Option<[u8; records::SIZE]>,
    resize: Option<Resize>,
    /// Whether the journal must be erased, because replaying its records would revert the changes.
    erase: bool,
}

impl Plan {
    async fn new<S: Storage>(file: &S, head: &Head, changes: &Changes) -> Result<Self> {
        let file_len = file.len().await?;
        let mut new = changes.apply(&head.header)?;
        if changes.unclean() && head.geometry.journal.is_none() {
            return Err(Error::invalid_argument(
                "clean_shutdown: an image without a journal that is not clean could not be opened any more",
            ));
        }
        let size = changes.size().unwrap_or(head.geometry.virtual_size);
        let resize = Resize::plan(head, &mut new, size, changes.may_shrink(), file_len)?;
        if names::drops_base(&head.header, &new) {
            new.all_data_in_fvd_img = true;
        }
        let after = Head {
            geometry: Geometry::new(&new, file_len)?,
            header: new.clone(),
            records: head.records.clone(),
            interrupted: false,
            unfinished: false,
        };
        // Blocks that are already local were never written to the base. They are dirty from now on.
        let updates = after.base_update()? != BaseUpdate::No;
        let has_it = head.base_may_be_stale() && new.base_img == head.header.base_img;
        let leaves_base_stale = updates && !has_it && names::may_be_local(file, head).await?;
        if leaves_base_stale {
            new.clean_shutdown = false;
        }
        let erase = resize.is_some() || new.base_img != head.header.base_img || changes.unclean() || leaves_base_stale;
        let area = pin::area_after(changes, head, &new)?;
        Ok(Self {
            new,
            area,
            resize,
            erase,
        })
    }

    fn needs_data(&self, head: &Head) -> bool {
        // The recovery of a compact image cuts the data file. Finishing an interrupted change cuts that of
        // any image.
        let recovers = head.interrupted || (head.unclean_journal().is_some() && head.geometry.table.is_some());
        self.resize.is_some() || names::drops_base(&head.header, &self.new) || recovers
    }

    /// Makes the changes. The image must have been recovered.
    async fn carry_out<S: Storage>(&self, file: &S, data: &S, head: &Head) -> Result<()> {
        if names::drops_base(&head.header, &self.new) {
            // Sync first: the base may be dropped only if all data of the image is durable.
            data.sync().await?;
            names::check_all_local(file, head).await?;
        }
        if let Some(journal) = head.geometry.journal.filter(|_| self.erase) {
            in_place::erase(file, journal).await?;
        }
        if let Some(resize) = &self.resize {
            resize.prepare(file, data).await?;
        }
        let shrinks = self.resize.as_ref().filter(|resize| !resize.grows());
        let change = redo::Change::begin(file, &head.header, &self.new, self.area.as_ref(), shrinks.is_some()).await?;
        if let Some(resize) = shrinks {
            let cleaned = resize.clean_up(file, data, &self.new).await;
            cleaned.map_err(resize::too_late)?;
        }
        match change {
            Some(change) => change.end().await,
            None => Ok(()),
        }
    }
}
