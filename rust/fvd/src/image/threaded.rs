//! An image that blocks, where blocking is allowed.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pollster::block_on;

use super::Image;
use crate::aio::Pool;
use crate::error::Result;
use crate::source::{BaseSource, BoxFuture, Run};
use crate::storage::{FileStorage, IoBufMut, Storage};

/// Most requests of one image at once.
const THREADS: usize = 16;

/// An image on files that block, used from threads of its own: for a host whose threads serve many, while
/// others use the same image and block.
///
/// A request that nobody waits for any more runs to its end if it has begun, and never begins otherwise.
pub struct ThreadedImage {
    image: Arc<Image<FileStorage>>,
    path: PathBuf,
    /// Also kept by each request until its end.
    kept: Arc<dyn Any + Send + Sync>,
    pool: Pool,
}

impl ThreadedImage {
    /// `kept` is dropped when this has been, and the last request has ended.
    #[must_use]
    pub fn new(image: Arc<Image<FileStorage>>, kept: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            path: image.file().path().to_owned(),
            image,
            kept,
            pool: Pool::new(THREADS),
        }
    }

    /// What it is and has done; for whatever does no I/O.
    #[must_use]
    pub fn image(&self) -> &Image<FileStorage> {
        &self.image
    }

    /// Does something with the image on one of the threads.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&Image<FileStorage>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (image, kept) = (Arc::clone(&self.image), Arc::clone(&self.kept));
        let begun = self.pool.run(move || {
            let done = block_on(work(&image));
            // In this order: whoever hears that nothing is kept may close the image.
            drop(image);
            drop(kept);
            done
        });
        begun.map_err(|error| error.with_path(&self.path))?.await
    }
}

impl BaseSource for ThreadedImage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn format(&self) -> &'static str {
        "fvd"
    }

    fn len(&self) -> u64 {
        self.image.size()
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(self.run(async move |image: &Image<_>| BaseSource::read(image, buf, offset).await))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        Box::pin(self.run(async move |image: &Image<_>| image.block_status(offset, len).await))
    }
}
