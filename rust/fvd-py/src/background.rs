//! What an open image does on its own: a thread for each part, because files block.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use fvd::Error;
use fvd::copy::{self, Control, PrefetchOptions};
use fvd::image::Image;
use fvd::storage::FileStorage;
use pollster::block_on;

use crate::time::TokioClock;

/// An engine on files.
pub(crate) type Engine = Image<FileStorage>;

/// Copy-on-read, prefetch and checkpoints of one image, until it is stopped.
pub(crate) struct Background {
    control: Control,
    thread: JoinHandle<()>,
}

impl Background {
    /// Whether the image, as it was opened, has something to do on its own.
    pub(crate) fn is_wanted(engine: &Engine) -> bool {
        let options = PrefetchOptions::from(engine.header());
        engine.is_writable()
            && engine.base().is_some()
            && (engine.copies_on_read()
                || engine.updates_base()
                || options.start_delay.is_some()
                || options.profile_start_delay.is_some())
    }

    pub(crate) fn start(engine: Arc<Engine>) -> Result<Self, Error> {
        let clock = TokioClock::shared()?;
        let control = Control::new();
        let handle = control.clone();
        let thread = thread::Builder::new()
            .name("fvd-background".to_owned())
            .spawn(move || drive(&engine, &handle, &clock))
            .map_err(|error| Error::io("start a thread", error))?;
        Ok(Self { control, thread })
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Waits for what is under way. Without the GIL.
    pub(crate) fn stop(self) {
        self.control.stop();
        // It ends without a panic, or what it held is as good as after a cancellation.
        let _ = self.thread.join();
    }
}

fn drive(engine: &Engine, control: &Control, clock: &TokioClock) {
    let options = PrefetchOptions::from(engine.header());
    let seed = RandomState::new().build_hasher().finish();
    let first = block_on(copy::profile(engine, &options));
    let background = copy::Background::new(engine, options, first, control.clone(), clock, seed);
    thread::scope(|scope| {
        for worker in background.workers() {
            let named = thread::Builder::new().name("fvd-copy".to_owned());
            if named.spawn_scoped(scope, || block_on(worker)).is_err() {
                // Without all of its parts it would wait for ever for the one that is missing.
                control.stop();
            }
        }
    });
}
