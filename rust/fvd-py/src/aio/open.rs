//! An open engine for asyncio.

use std::path::Path;
use std::sync::Arc;

use fvd::Error;
use fvd::chain::{AsyncIo, ChainOptions, FileOf, open_image_on};
use fvd::image::Image;
use fvd_nbd::daemon::Background;
use pollster::block_on;

use crate::handle::Handle;
use crate::{runtime, time};

/// An engine with asynchronous file I/O.
pub(crate) type Engine = Image<FileOf<AsyncIo>>;

/// An open engine with asynchronous file I/O.
pub(crate) type AsyncHandle = Handle<FileOf<AsyncIo>, Background>;

/// Opens the image at `path`. Also returns the size of the disk in bytes. Blocks.
pub(super) fn open(path: &Path, options: &ChainOptions) -> Result<(AsyncHandle, u64), Error> {
    let files = AsyncIo::new()?.with_clock(Arc::new(time::clock()?));
    let engine = block_on(open_image_on(&files, path, options))?;
    let size = engine.size();
    let start = |engine: &Arc<Engine>| Ok(Background::start(engine, &runtime::shared()?));
    Ok((Handle::new(engine, start), size))
}

/// Closes the image on another thread, for callers that must not block. Errors are ignored: no caller is left
/// to receive them.
pub(super) fn close_soon(open: &Arc<AsyncHandle>) {
    if let (true, Ok(runtime)) = (open.is_ours(), runtime::shared()) {
        let open = Arc::clone(open);
        runtime.spawn_blocking(move || block_on(open.close()));
    }
}
