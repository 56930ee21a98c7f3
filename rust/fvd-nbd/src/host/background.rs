//! What an image that is served does on its own: a task of the runtime.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use fvd::copy::{self, Control};
use fvd::image::Image;
use fvd::storage::Storage;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::clock::TokioClock;

/// Copy-on-read, prefetch and checkpoints of one image, until it is stopped.
pub(super) struct Background {
    control: Control,
    task: JoinHandle<()>,
}

impl Background {
    /// None where the image needs nothing.
    pub(super) fn start<S: Storage>(image: &Arc<Image<S>>, runtime: &Handle) -> Option<Self> {
        if !image.is_writable() || image.base().is_none() {
            return None;
        }
        let control = Control::new();
        let (image, handle) = (Arc::clone(image), control.clone());
        let clock = TokioClock::new(runtime.clone());
        let seed = RandomState::new().build_hasher().finish();
        let task = runtime.spawn(async move { copy::background(&image, handle, &clock, seed).await });
        Some(Self { control, task })
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Waits for what is under way.
    pub(super) async fn stop(self) {
        self.control.stop();
        // It ends without a panic, or what it held is as good as after a cancellation.
        let _ = self.task.await;
    }
}
