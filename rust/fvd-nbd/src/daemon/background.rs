//! The background work of an image whose I/O does not block, as a task of the runtime.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use fvd::copy::{self, Control};
use fvd::image::Image;
use fvd::storage::Storage;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::clock::TokioClock;

/// Copy-on-read, prefetch and checkpoints of one image, until stopped.
pub struct Background {
    control: Control,
    task: JoinHandle<()>,
}

impl Background {
    /// Starts the background work of an image that is writable and has a base. Other images have none.
    #[must_use]
    pub fn start<S: Storage>(image: &Arc<Image<S>>, runtime: &Handle) -> Self {
        let control = Control::new();
        let (image, handle) = (Arc::clone(image), control.clone());
        let clock = TokioClock::new(runtime.clone());
        let task = runtime.spawn(async move { copy::background(&image, handle, &clock, seed()).await });
        Self { control, task }
    }

    /// The control of prefetch. It can also stop all background work without waiting for its end.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops the background work and waits until it has ended.
    pub async fn stop(self) {
        self.control.stop();
        // If the task has panicked, its state was dropped as in a cancellation, which is safe.
        let _ = self.task.await;
    }
}

/// A random seed, different for each call.
#[must_use]
pub fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
