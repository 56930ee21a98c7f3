//! An image whose I/O blocks, for a server whose threads must not block.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use fvd::Result;
use fvd::aio::Threaded;
use fvd::chain::OpenedFile;
use fvd::image::Image;
use fvd::source::{BaseSource, BoxFuture, Run};
use fvd::storage::{IoBufMut, Storage};

/// Most requests of one image at once.
const THREADS: usize = 16;

/// An image on files whose I/O blocks, used from worker threads of its own. Other code may use the image with
/// blocking calls at the same time. At most 16 requests run at once.
///
/// If its future is dropped, a request that has begun runs to its end, and one that has not begun never does.
pub struct ThreadedImage(Threaded<Kept>);

/// What each request holds until its end.
struct Kept {
    image: Arc<Image<OpenedFile>>,
    /// Dropped after `image`: then its owner may close the image.
    _kept: Arc<dyn Any + Send + Sync>,
}

impl ThreadedImage {
    /// `kept` is dropped when this has been dropped and the last request has ended.
    #[must_use]
    pub fn new(image: Arc<Image<OpenedFile>>, kept: Arc<dyn Any + Send + Sync>) -> Self {
        let kept = Kept { image, _kept: kept };
        Self(Threaded::new(Arc::new(kept), THREADS))
    }

    /// The image, for calls that do no I/O.
    #[must_use]
    pub fn image(&self) -> &Image<OpenedFile> {
        &self.0.value().image
    }

    /// Runs `work` with the image on one of the worker threads.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&Image<OpenedFile>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self.0.run(async move |kept: &Kept| work(&kept.image).await).await;
        done.map_err(|error| error.with_path(self.path()))
    }
}

impl BaseSource for ThreadedImage {
    fn path(&self) -> &Path {
        self.image().file().path()
    }

    fn format(&self) -> &'static str {
        "fvd"
    }

    fn len(&self) -> u64 {
        self.image().size()
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
    use std::sync::mpsc::{TryRecvError, channel};
    use std::task::{Context, Waker};

    use fvd::image::{CreateOptions, OpenOptions, create, read_head};
    use fvd::remote::AnyFile;
    use fvd::storage::FileStorage;
    use pollster::block_on;

    use super::*;

    fn image() -> Arc<Image<OpenedFile>> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = AnyFile::Local(FileStorage::create(folder.path().join("disk"), false).expect("a file"));
        let mut options = CreateOptions::default();
        options.layout.virtual_size = 1 << 20;
        block_on(create(&file, None, &options, None)).expect("created");
        let head = block_on(read_head(&file)).expect("valid");
        let image = block_on(Image::open(file, head, None, None, OpenOptions::default()));
        Arc::new(image.expect("opens"))
    }

    #[test]
    fn a_poll_does_not_block_and_requests_keep_the_image() {
        let (kept, is_kept) = channel::<()>();
        let threaded = ThreadedImage::new(image(), Arc::new(Mutex::new(kept)));
        let (answer, answers) = channel();
        let answers = Mutex::new(answers);
        let mut hangs = Box::pin(threaded.run(async move |_: &Image<_>| {
            answers.lock().expect("not poisoned").recv().expect("the test answers");
            Ok(())
        }));
        let poll = hangs.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
        let size = block_on(threaded.run(async |image: &Image<_>| Ok(image.size())));
        assert_eq!(size.expect("no I/O"), 1 << 20);
        drop(hangs);
        drop(threaded);
        assert_eq!(is_kept.try_recv(), Err(TryRecvError::Empty));
        answer.send(()).expect("the request waits");
        is_kept.recv().expect_err("dropped with the last request");
    }
}
