//! What an image does on its own where nothing blocks: a task of the runtime.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use fvd::copy::{self, Control};
use fvd::image::Image;
use fvd::storage::Storage;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::clock::TokioClock;

/// Copy-on-read, prefetch and checkpoints of one image, until it is stopped.
pub struct Background {
    control: Control,
    task: JoinHandle<()>,
}

impl Background {
    /// For an image that is writable and has a base; others have nothing to do.
    #[must_use]
    pub fn start<S: Storage>(image: &Arc<Image<S>>, runtime: &Handle) -> Self {
        let control = Control::new();
        let (image, handle) = (Arc::clone(image), control.clone());
        let clock = TokioClock::new(runtime.clone());
        let task = runtime.spawn(async move { copy::background(&image, handle, &clock, seed()).await });
        Self { control, task }
    }

    /// Of prefetch; also stops all of it, without waiting.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Waits for what is under way.
    pub async fn stop(self) {
        self.control.stop();
        // It ends without a panic, or what it held is as good as after a cancellation.
        let _ = self.task.await;
    }
}

/// A seed that no other image has.
#[must_use]
pub fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
