//! Fetches a range from the base at the request of a caller.

use std::ops::Range;

use crate::error::Result;
use crate::image::{BaseCopy, CopyData, Image};
use crate::source::Content;
use crate::storage::{IoBufMut, Storage};

/// The most bytes moved at once.
const PIECE: u64 = 1 << 20;

/// Makes the blocks that `bytes` (of the disk) touches local. As with every copy, the next checkpoint makes
/// them durable. Costs little if they are local already, and nothing if the image has no base.
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

/// `run` consists of whole blocks that were in the base when it was looked up.
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

/// Reads from the base without any lock. A block larger than a piece is not read here: `store_copy` reads it.
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
