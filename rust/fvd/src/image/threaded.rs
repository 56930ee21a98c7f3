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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::Mutex;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;
    use crate::image::{CreateOptions, OpenOptions, create, read_head};

    fn image() -> Arc<Image<FileStorage>> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = FileStorage::create(folder.path().join("disk"), false).expect("a file");
        let mut options = CreateOptions::default();
        options.layout.virtual_size = 1 << 20;
        block_on(create(&file, None, &options, None)).expect("created");
        let head = block_on(read_head(&file)).expect("valid");
        let image = block_on(Image::open(file, head, None, None, OpenOptions::default()));
        Arc::new(image.expect("opens"))
    }

    #[test]
    fn an_image_that_blocks_does_not_block_who_polls_and_is_kept_until_its_last_request_has_ended() {
        let (kept, is_kept) = channel::<()>();
        let threaded = ThreadedImage::new(image(), Arc::new(Mutex::new(kept)));
        let (answer, answers) = channel();
        let answers = Mutex::new(answers);
        let mut hangs = Box::pin(threaded.run(async move |_: &Image<_>| {
            answers.lock().expect("nobody panics").recv().expect("the test answers");
            Ok(())
        }));
        let poll = hangs.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
        let size = block_on(threaded.run(async |image: &Image<_>| Ok(image.size())));
        assert_eq!(size.expect("no I/O"), 1 << 20);
        drop(hangs);
        drop(threaded);
        let soon = Duration::from_millis(50);
        assert_eq!(is_kept.recv_timeout(soon), Err(RecvTimeoutError::Timeout));
        answer.send(()).expect("somebody waits");
        is_kept.recv().expect_err("nobody keeps it any more");
    }
}
