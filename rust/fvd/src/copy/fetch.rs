//! Fetch: stores what of a range is still in the base, because somebody asked for it.

use std::ops::Range;

use crate::error::Result;
use crate::image::{BaseCopy, CopyData, Image};
use crate::source::Content;
use crate::storage::{IoBufMut, Storage};

/// Bytes moved at once.
const PIECE: u64 = 1 << 20;

/// Makes the blocks that `bytes` (of the disk) touch local. Like every copy it is durable with the
/// next checkpoint. Costs little where they are local already; nothing if nothing comes from a base.
pub async fn fetch<S: Storage>(image: &Image<S>, bytes: Range<u64>) -> Result<()> {
    image.check_writable()?;
    let mut at = bytes.start;
    while let Some(run) = image.next_in_base(at, bytes.end).await? {
        at = run.end.max(at);
        if !run.is_empty() {
            fetch_run(image, run).await?;
        }
    }
    Ok(())
}

/// Whole blocks that were in the base a moment ago.
async fn fetch_run<S: Storage>(image: &Image<S>, run: Range<u64>) -> Result<()> {
    let block = image.geometry().block_size;
    let step = (PIECE / block * block).max(block);
    let mut at = run.start;
    while at < run.end {
        let stop = run.end.min(at + step);
        let data = read(image, at..stop).await?;
        let blocks = image.blocks_of(&(at..stop));
        image.store_copy(BaseCopy { blocks, data }).await?;
        at = stop;
    }
    Ok(())
}

/// What the base holds, read without any lock; a block larger than a piece is left to the store.
async fn read<S: Storage>(image: &Image<S>, bytes: Range<u64>) -> Result<CopyData> {
    let len = bytes.end - bytes.start;
    let status = image.base_status(bytes.start, len).await?;
    if status.content == Content::Zero && status.len >= len {
        return Ok(CopyData::Zeros);
    }
    if len > PIECE {
        return Ok(CopyData::Unread);
    }
    let data = image.read_base(IoBufMut::zeroed(len as usize), bytes.start).await?;
    Ok(CopyData::Bytes(data.freeze()))
}
