//! A segment of a metadata region in memory: words that are loaded once, by any of several tasks.
//!
//! `rust/fvd-loom` checks this file in every interleaving of its threads.

use crate::sync::{AtomicBool, AtomicU32, OnceLock, Ordering};

#[derive(Default)]
pub(in crate::image) struct Segment {
    /// None until the segment is loaded. Also None while it is all zeros, if it was found to be a hole.
    words: OnceLock<Box<[AtomicU32]>>,
    is_hole: AtomicBool,
}

impl Segment {
    pub(in crate::image) fn is_loaded(&self) -> bool {
        self.takes_memory() || self.is_hole.load(Ordering::Acquire)
    }

    pub(in crate::image) fn takes_memory(&self) -> bool {
        self.words.get().is_some()
    }

    /// Loads it as zeros that take no memory.
    pub(in crate::image) fn set_hole(&self) {
        // Release: a task that sees a later change also sees this.
        self.is_hole.store(true, Ordering::Release);
    }

    /// Loads what a task has read.
    ///
    /// Two tasks may read a segment at once. The first to finish installs it, and it can change only after
    /// that. So what the second one drops is never newer.
    pub(in crate::image) fn install(&self, words: impl Iterator<Item = u32>) {
        let _ = self.words.set(words.map(AtomicU32::new).collect());
    }

    /// The words, if they take memory. The segment must have been loaded.
    fn words(&self) -> Option<&[AtomicU32]> {
        let words = self.words.get();
        assert!(
            words.is_some() || self.is_hole.load(Ordering::Acquire),
            "a request loads the metadata of its range before it looks it up"
        );
        words.map(AsRef::as_ref)
    }

    /// A word. The segment must have been loaded.
    pub(in crate::image) fn get(&self, index: usize) -> u32 {
        // Acquire: a task that sees a bit also sees the entries that were stored before it was set (I1).
        self.words().map_or(0, |words| words[index].load(Ordering::Acquire))
    }

    /// A word for a change. The segment, of `len` words, must have been loaded. It gets memory if it has none
    /// yet.
    pub(in crate::image) fn word(&self, index: usize, len: usize) -> &AtomicU32 {
        let words = match self.words() {
            Some(words) => words,
            None => self.words.get_or_init(|| (0..len).map(|_| AtomicU32::new(0)).collect()),
        };
        &words[index]
    }
}
