//! The background work of an open image with blocking I/O: one thread for each part.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use fvd::chain::OpenedFile;
use fvd::copy::{self, Control, PrefetchOptions, PrefetchState};
use fvd::image::Image;
use fvd::storage::Storage;
use fvd::{Error, ErrorKind};
use fvd_nbd::daemon::{self, TokioClock, seed};
use pollster::block_on;

use crate::time;

/// An engine with blocking file I/O.
pub(crate) type Engine = Image<OpenedFile>;

/// Copy-on-read, prefetch and checkpoints of one image, until stopped.
pub(crate) struct Background {
    control: Control,
    thread: JoinHandle<()>,
}

/// The running background work of an image, on threads or as a task.
pub(crate) trait Running: Send + 'static {
    fn control(&self) -> &Control;

    /// Stops it. Also waits for its end, where it runs on threads.
    fn end(self);

    /// Stops it, and waits for its end. Blocks where it runs on threads.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// Whether the image has background work, given how it was opened.
pub(crate) fn is_wanted<S: Storage>(engine: &Image<S>) -> bool {
    let options = PrefetchOptions::from(engine.header());
    engine.is_writable()
        && engine.base().is_some()
        && (engine.copies_on_read()
            || engine.updates_base()
            || options.start_delay.is_some()
            || options.profile_start_delay.is_some())
}

/// The control of prefetch. Starts the background work if it does not run. None if the image has no base.
pub(crate) fn control<S: Storage, R: Running>(
    engine: &Image<S>,
    running: &mut Option<R>,
    start: impl FnOnce() -> Result<R, Error>,
) -> Result<Option<Control>, Error> {
    if engine.base().is_none() {
        return Ok(None);
    }
    if !engine.is_writable() {
        let error = Error::new(ErrorKind::NotPermitted, "The image is open read-only");
        return Err(error.with_path(engine.file().path()));
    }
    // Background work that has failed or stopped is started again.
    let over = |running: &mut R| {
        let state = running.control().status().state;
        state.is_final() && state != PrefetchState::Finished
    };
    if let Some(failed) = running.take_if(over) {
        failed.end();
    }
    if running.is_none() {
        *running = Some(start()?);
    }
    Ok(running.as_ref().map(|running| running.control().clone()))
}

impl Background {
    pub(crate) fn start(engine: &Arc<Engine>) -> Result<Self, Error> {
        let engine = Arc::clone(engine);
        let clock = time::clock()?;
        let control = Control::new();
        let handle = control.clone();
        let thread = thread::Builder::new()
            .name("fvd-background".to_owned())
            .spawn(move || drive(&engine, &handle, &clock))
            .map_err(|error| Error::io("start a thread", error))?;
        Ok(Self { control, thread })
    }
}

impl Running for Background {
    fn control(&self) -> &Control {
        &self.control
    }

    /// Must be called without the GIL.
    fn end(self) {
        self.control.stop();
        // If the thread has panicked, its state was dropped as in a cancellation, which is safe.
        let _ = self.thread.join();
    }

    async fn stop(self) {
        self.end();
    }
}

impl Running for daemon::Background {
    fn control(&self) -> &Control {
        self.control()
    }

    fn end(self) {
        self.control().stop();
    }

    async fn stop(self) {
        self.stop().await;
    }
}

fn drive(engine: &Engine, control: &Control, clock: &TokioClock) {
    let options = PrefetchOptions::from(engine.header());
    let first = block_on(copy::profile(engine, &options));
    let background = copy::Background::new(engine, options, first, control.clone(), clock, seed());
    thread::scope(|scope| {
        for worker in background.workers() {
            let named = thread::Builder::new().name("fvd-copy".to_owned());
            if named.spawn_scoped(scope, || block_on(worker)).is_err() {
                // If one part is missing, the others would wait for it for ever.
                control.stop();
            }
        }
        for helper in background.helpers() {
            let named = thread::Builder::new().name("fvd-copy".to_owned());
            if named.spawn_scoped(scope, || block_on(helper)).is_err() {
                break;
            }
        }
    });
}
