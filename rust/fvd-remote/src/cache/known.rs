//! What this process knows of the units of an object: those whose checksum it has checked.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = 1024;

/// A generation a unit, and when its use was written down. In pages, so that a large object of which little is
/// used needs little memory.
pub(super) struct Known(Vec<OnceLock<Box<[AtomicU64]>>>);

impl Known {
    pub(super) fn new(units: u64) -> Self {
        let pages = (units as usize).div_ceil(PAGE);
        Self((0..pages).map(|_| OnceLock::new()).collect())
    }

    /// The generation of which the data was checked. None: not checked.
    pub(super) fn generation(&self, unit: u64) -> Option<u32> {
        let page = self.0.get(unit as usize / PAGE)?.get()?;
        let generation = page[unit as usize % PAGE].load(Ordering::Relaxed) as u32;
        (generation != 0).then_some(generation)
    }

    /// The data of this generation has been checked. `now`: when its use is written down, in seconds.
    pub(super) fn set(&self, unit: u64, generation: u32, now: u32) {
        self.slot(unit)
            .store(u64::from(now) << 32 | u64::from(generation), Ordering::Relaxed);
    }

    pub(super) fn forget(&self, unit: u64) {
        if self.generation(unit).is_some() {
            self.slot(unit).store(0, Ordering::Relaxed);
        }
    }

    /// Whether the use of a unit has not been written down for a minute.
    pub(super) fn is_due(&self, unit: u64, now: u32) -> bool {
        let written = (self.slot(unit).load(Ordering::Relaxed) >> 32) as u32;
        now.saturating_sub(written) >= 60
    }

    fn slot(&self, unit: u64) -> &AtomicU64 {
        let page = self.0[unit as usize / PAGE].get_or_init(|| (0..PAGE).map(|_| AtomicU64::new(0)).collect());
        &page[unit as usize % PAGE]
    }
}
