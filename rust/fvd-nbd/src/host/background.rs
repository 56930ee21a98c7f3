//! What an image that is served does on its own: a thread for each part, because files block.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use fvd::copy::{self, Control, PrefetchOptions};
use fvd::image::Image;
use fvd::storage::Storage;
use fvd::{Error, Result};
use pollster::block_on;
use tokio::runtime::Handle;

use super::clock::TokioClock;

/// Copy-on-read, prefetch and checkpoints of one image, until it is stopped.
pub(super) struct Background {
    control: Control,
    thread: JoinHandle<()>,
}

impl Background {
    /// None where the image needs nothing.
    pub(super) fn start<S: Storage>(image: &Arc<Image<S>>, runtime: &Handle) -> Result<Option<Self>> {
        if !image.is_writable() || image.base().is_none() {
            return Ok(None);
        }
        let control = Control::new();
        let (image, handle) = (Arc::clone(image), control.clone());
        let clock = TokioClock::new(runtime.clone());
        let thread = thread::Builder::new()
            .name("fvd-background".to_owned())
            .spawn(move || drive(&image, &handle, &clock))
            .map_err(|error| Error::io("start a thread", error))?;
        Ok(Some(Self { control, thread }))
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Waits for what is under way everywhere.
    pub(super) fn stop_all(all: Vec<Option<Self>>) {
        // Before any of them is waited for.
        all.iter().flatten().for_each(|background| background.control.stop());
        all.into_iter().flatten().for_each(Self::join);
    }

    fn join(self) {
        // It ends without a panic, or what it held is as good as after a cancellation.
        let _ = self.thread.join();
    }
}

fn drive<S: Storage>(image: &Image<S>, control: &Control, clock: &TokioClock) {
    let options = PrefetchOptions::from(image.header());
    let seed = RandomState::new().build_hasher().finish();
    let first = block_on(copy::profile(image, &options));
    let background = copy::Background::new(image, options, first, control.clone(), clock, seed);
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
