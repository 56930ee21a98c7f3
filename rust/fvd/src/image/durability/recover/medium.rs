//! Makes sure that what is read of an image that will be written is what the medium has (invariant I19).
//!
//! A process that died leaves metadata in the page cache that no sync has covered. A sync that failed leaves
//! pages there that look clean, and that the medium never got. Neither may be taken for durable.

use crate::error::{Error, ErrorKind, Result};
use crate::image::unfinished::read_unfinished_head;
use crate::image::{CacheMode, Head, read_head};
use crate::mutation::{self, Mutation};
use crate::storage::Storage;

/// As [`read_head`], for a file that will be written: first drops the metadata from the page cache, except
/// for dirty pages.
pub async fn read_head_to_write<S: Storage>(file: &S) -> Result<Head> {
    reread(file, read_head(file).await?).await
}

async fn reread<S: Storage>(file: &S, mut head: Head) -> Result<Head> {
    loop {
        let end = head.geometry.metadata_end;
        if !mutation::is(Mutation::BelieveCache) {
            file.drop_cached(end).await?;
        }
        head = if head.unfinished {
            read_unfinished_head(file).await?
        } else {
            read_head(file).await?
        };
        if head.geometry.metadata_end <= end {
            return Ok(head);
        }
    }
}

/// Makes durable what earlier sessions have left in the page cache, drops the metadata from it, and returns
/// the head as the medium has it. This is the first step of everything that writes to an existing image.
///
/// `data` is the separate data file, if it is open. It is synced first: a bit or an entry must not become
/// durable before its data (I6). With [`CacheMode::Unsafe`] nothing is synced, unless there is something to
/// recover.
///
/// # Errors
///
/// A sync that fails, with the medium's error. [`ErrorKind::InvalidImage`] if the header on the medium names
/// other files than `head`. That cannot happen if `head` comes from [`read_head_to_write`].
pub(in crate::image) async fn sync_and_reread<S: Storage>(
    file: &S,
    data: Option<&S>,
    head: Head,
    cache: CacheMode,
) -> Result<Head> {
    let needs_no_recovery = |head: &Head| head.header.clean_shutdown && !head.interrupted;
    let found = match cache {
        CacheMode::Unsafe => Some(reread(file, head.clone()).await?).filter(needs_no_recovery),
        _ if mutation::is(Mutation::CleanNeedsNoSync) => {
            Some(reread(file, head.clone()).await?).filter(needs_no_recovery)
        }
        CacheMode::Writeback | CacheMode::Writethrough => None,
    };
    let found = if let Some(found) = found {
        found
    } else {
        sync(file, data).await?;
        reread(file, head.clone()).await?
    };
    if !names_same_files(&head, &found) {
        let message = "The header in the page cache was not that on the disk, because an earlier write failed, and \
                       named other files: open the image again";
        return Err(Error::new(ErrorKind::InvalidImage, message).with_path(file.path()));
    }
    // The caller may have changed fields that only tune the session: they are kept.
    Ok(if describes_same(&head, &found) { head } else { found })
}

/// Whether both heads agree on the layout and the state of the metadata.
fn describes_same(one: &Head, other: &Head) -> bool {
    let state = |head: &Head| {
        let header = &head.header;
        let flags = (header.clean_shutdown, header.all_data_in_fvd_img, head.interrupted);
        (flags, head.unfinished, head.geometry.clone())
    };
    state(one) == state(other)
}

async fn sync<S: Storage>(file: &S, data: Option<&S>) -> Result<()> {
    if mutation::is(Mutation::BelieveUnsynced) {
        return Ok(());
    }
    let synced = match data {
        Some(data) => data.sync().await,
        None => Ok(()),
    };
    if mutation::is(Mutation::BeginSyncSwallowed) {
        let _ = file.sync().await;
        return Ok(());
    }
    synced?;
    file.sync().await
}

fn names_same_files(one: &Head, other: &Head) -> bool {
    let base = |head: &Head| (head.header.base_img.clone(), head.header.base_img_fmt.clone());
    let bases = |head: &Head| head.needs_base().then(|| base(head));
    let data = |head: &Head| (head.header.data_file.clone(), head.header.data_file_fmt.clone());
    bases(one) == bases(other) && data(one) == data(other)
}
