//! Block status: what the backing chain reports for a range, piece by piece.

use fvd::Result;
use fvd::source::{BaseSource, Content, Run};

use crate::protocol::meta::Status;

/// The maximum number of pieces per request, so that one request cannot scan a whole disk.
const MAX_PIECES: u32 = 4096;

/// See [`Export::status`](crate::server::Export::status).
pub(super) async fn walk(
    source: &dyn BaseSource,
    offset: u64,
    length: u64,
    piece: &mut (dyn FnMut(u64, Status) -> bool + Send),
) -> Result<()> {
    let end = offset + length;
    let mut at = offset;
    for _ in 0..MAX_PIECES {
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
