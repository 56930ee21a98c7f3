//! The background tasks of a session: copy-on-read, prefetch and base writeback.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use fvd::copy::{Background, Control, PrefetchOptions, PrefetchState, copy_on_read, write_back_base};

use super::{Runner, Stop};
use crate::rig::SimImage;
use crate::world::World;

/// The background task that moves data.
#[derive(Clone)]
pub(super) struct Copier {
    task: u64,
    control: Control,
}

/// Stores the blocks that reads fetched from the base (copy-on-read), until it is cancelled.
async fn store_copies(image: Rc<SimImage>) {
    while copy_on_read(&image).await.is_err() {
        // The failure has disabled copy-on-read.
    }
}

/// Writes dirty ranges back to the base, until that fails or it is cancelled.
async fn push(image: Rc<SimImage>) {
    let _ = write_back_base(&image).await;
}

/// Stores what reads fetched, and prefetches the rest.
async fn fetch(image: Rc<SimImage>, options: PrefetchOptions, control: Control, world: World, seed: u64) {
    let clock = world.clock();
    let (first, profile_slots) = profile(&image, seed);
    let options = PrefetchOptions {
        profile_slots,
        ..options
    };
    let background = Background::new(&image, options, first, control, &clock, seed);
    background.run().await;
}

/// A profile of small entries (empty in half of the sessions), and how many of them may be in flight.
fn profile(image: &SimImage, seed: u64) -> (Vec<Range<u64>>, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let count = if rng.bool() { rng.usize(..100) } else { 0 };
    let entry = |rng: &mut fastrand::Rng| {
        let start = rng.u64(..image.size().max(1));
        start..start + rng.u64(1..16 << 10)
    };
    ((0..count).map(|_| entry(&mut rng)).collect(), rng.usize(1..65))
}

/// Random options, from no throttling at all to hardly any progress.
fn prefetch_options(image: &SimImage, prefetch: bool, rng: &mut fastrand::Rng) -> PrefetchOptions {
    PrefetchOptions {
        start_delay: prefetch.then(|| Duration::from_millis(1 << rng.u8(..15))),
        slots: rng.usize(1..5),
        bytes_per_prefetch: 1 << rng.u8(12..21),
        checkpoint_bytes: 1 << rng.u8(14..28),
        checkpoint_time: Duration::from_millis(1 << rng.u8(4..19)),
        ..PrefetchOptions::from(image.header())
    }
}

impl Runner<'_> {
    pub(super) fn start_copier(&mut self, image: &Rc<SimImage>) {
        let control = Control::new();
        let prefetch = self.rig.shape.prefetch;
        let task = if prefetch || self.rng.bool() {
            let options = prefetch_options(image, prefetch, &mut self.rng);
            let seed = self.rng.u64(..);
            let work = fetch(image.clone(), options, control.clone(), self.world(), seed);
            self.executor.spawn_in_background(work)
        } else if self.rig.shape.writes_base() && self.rng.bool() {
            self.executor.spawn_in_background(push(image.clone()))
        } else {
            self.executor.spawn_in_background(store_copies(image.clone()))
        };
        self.copier = Some(Copier { task, control });
    }

    pub(super) fn resume_prefetch(&self) {
        if let Some(copier) = self.copier.as_ref().filter(|_| self.rig.shape.prefetch) {
            copier.control.resume();
        }
    }

    /// Pauses or resumes the copier, or replaces it.
    pub(super) fn disturb_copier(&mut self, image: &Rc<SimImage>) {
        let Some(copier) = &self.copier else {
            return;
        };
        match self.rng.u8(..64) {
            0 => copier.control.pause(),
            1 if self.rig.shape.prefetch => copier.control.resume(),
            2 => self.restart_copier(image),
            _ => {}
        }
    }

    pub(super) fn restart_copier(&mut self, image: &Rc<SimImage>) {
        if self.copier.is_some() {
            self.drop_copier();
            self.start_copier(image);
        }
    }

    /// Asks the copier to stop and waits for it, or drops it.
    pub(super) fn stop_copier(&mut self) -> Result<(), Stop> {
        let Some(copier) = self.copier.clone() else {
            return Ok(());
        };
        if self.rng.bool() {
            copier.control.stop();
            let world = self.world();
            self.executor.settle();
            while self.executor.is_running(copier.task) && (world.is_busy() || world.has_sleepers()) {
                self.step()?;
            }
        }
        self.drop_copier();
        Ok(())
    }

    pub(super) fn drop_copier(&mut self) {
        if let Some(Copier { task, control }) = self.copier.take() {
            self.executor.cancel(task);
            if self.rig.shape.prefetch && control.status().state == PrefetchState::Finished {
                self.counts.completed = 1;
            }
        }
    }
}
