//! Which changes of the names of the base and of the data file are allowed.

use crate::error::{Error, Result};
use crate::format::{Block, Header};
use crate::gate::check_storable;
use crate::image::Head;
use crate::image::inspect::dump::BitmapRuns;
use crate::storage::Storage;

/// Checks the names. A base or a data file can be renamed, but not added. A base can be removed if it is not
/// needed (see [`check_all_local`]), a data file cannot.
pub(super) fn check(old: &Header, new: &Header) -> Result<()> {
    let refuse = |message: &str| Err(Error::invalid_argument(message));
    for (field, old, new) in [
        ("base_img", &old.base_img, &new.base_img),
        ("data_file", &old.data_file, &new.data_file),
    ] {
        if new != old {
            check_storable(field, new)?;
        }
    }
    if old.base_img.is_empty() && !new.base_img.is_empty() {
        return refuse(
            "base_img: the image has no backing file and holds all its data; 'fvd create -b' makes an image that \
             has one",
        );
    }
    if new.base_img.is_empty() && !old.base_img_fmt.eq(&new.base_img_fmt) && !new.base_img_fmt.is_empty() {
        return refuse("base_img_fmt needs a backing file");
    }
    match (old.data_file.is_empty(), new.data_file.is_empty()) {
        (true, false) => refuse(
            "data_file: the data lies in the image itself; 'fvd convert -o data_file=...' makes an image with a \
             data file",
        ),
        (false, true) => refuse("data_file: the data lies in a file of its own, and the image has to name it"),
        (false, false) if new.data_file == new.base_img => {
            refuse("data_file: that is the backing file, which would be written over")
        }
        (true, true) if !new.data_file_fmt.is_empty() && new.data_file_fmt != old.data_file_fmt => {
            refuse("data_file_fmt needs a data file")
        }
        _ => Ok(()),
    }
}

/// Whether the change removes the base.
pub(super) fn drops_base(old: &Header, new: &Header) -> bool {
    !old.base_img.is_empty() && new.base_img.is_empty()
}

/// Whether any block may be local: its bit is set, or the journal of an unclean image may contain it.
pub(super) async fn may_be_local<S: Storage>(file: &S, head: &Head) -> Result<bool> {
    Ok(!head.header.clean_shutdown || BitmapRuns::new(file, head, Block::FIRST).next().await?.is_some())
}

/// Fails if any block is still in the base. The journal must have been replayed, and the data synced.
pub(super) async fn check_all_local<S: Storage>(file: &S, head: &Head) -> Result<()> {
    let blocks = head.geometry.blocks;
    if !head.needs_base() || blocks == 0 {
        return Ok(());
    }
    let first = BitmapRuns::new(file, head, Block::FIRST).next().await?;
    if first.is_some_and(|run| (run.first_block, run.count) == (Block::FIRST, blocks)) {
        return Ok(());
    }
    let message = "base_img: data is still in the backing file only, so the image has to name one; \
                   'fvd convert' makes an image without";
    Err(Error::invalid_argument(message).with_path(file.path()))
}
