//! Status: what a chain says of a range, piece by piece.

use fvd::Result;
use fvd::source::{BaseSource, Content, Run};

use crate::meta::Status;

/// Pieces looked at for one request: an answer, not a scan of the disk.
const MAX_LOOKS: u32 = 4096;

/// See [`Export::status`](crate::server::Export::status).
pub(super) async fn walk(
    source: &dyn BaseSource,
    offset: u64,
    length: u64,
    piece: &mut (dyn FnMut(u64, Status) -> bool + Send),
) -> Result<()> {
    let end = offset + length;
    let mut at = offset;
    for _ in 0..MAX_LOOKS {
        let run = source.status(at, end - at).await?;
        let len = run.len.min(end - at);
        at += len;
        if !piece(len, status(&run)) || at == end {
            break;
        }
    }
    Ok(())
}

fn status(run: &Run) -> Status {
    Status {
        zero: run.content == Content::Zero,
        depth: if run.present { run.depth + 1 } else { 0 },
    }
}
