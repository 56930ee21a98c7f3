//! Counters of what an open image has done.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Image;
use crate::storage::Storage;

/// A number that only grows. Several of them need not agree with one another.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an image has done since it was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// The values, in the order of the fields.
            #[must_use]
            pub fn values(&self) -> Vec<u64> {
                vec![$(self.$name),*]
            }

            /// From values in the order of the fields; those that are missing are 0.
            #[must_use]
            pub fn from_values(values: &[u64]) -> Self {
                let mut values = values.iter().copied();
                Self { $($name: values.next().unwrap_or(0),)* }
            }

            /// The sum, name by name.
            #[must_use]
            pub fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name.saturating_add(other.$name),)* }
            }

            /// What has come since `before`, name by name.
            #[must_use]
            pub fn minus(&self, before: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(before.$name),)* }
            }

            /// Names and values, in the order of the fields.
            #[must_use]
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }

        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.get(),)* }
            }
        }
    };
}

// Stored by place (`format::totals`): new ones go to the end.
counters! {
    /// Reads of the guest.
    reads,
    /// Bytes that these asked for.
    read_bytes,
    /// Writes of the guest.
    writes,
    /// Bytes of these.
    written_bytes,
    /// Requests of the guest to zero a range.
    zeroes,
    /// Bytes of these.
    zeroed_bytes,
    /// Flushes asked for.
    flushes,
    /// Reads of the base, whoever asked.
    base_reads,
    /// Bytes of these.
    base_read_bytes,
    /// Writes to the base, zeroing included.
    base_writes,
    /// Bytes of these.
    base_written_bytes,
    /// Bytes read from the base to complete blocks that the guest wrote in part.
    copy_on_write_bytes,
    /// Writes that made blocks local.
    filling_writes,
    /// Those of them that covered whole blocks, so that nothing was read from the base.
    base_reads_avoided,
    /// Bytes that copy-on-read has stored.
    copied_on_read,
    /// Bytes that prefetch has read from the base and stored.
    prefetched,
    /// Sectors written to the journal, 512 bytes each.
    journal_sectors,
    /// Times that bitmap and table were written in place.
    checkpoints,
    /// Requests of the guest to discard a range.
    discards,
    /// Bytes of these.
    discarded_bytes,
    /// Writes of zeros that were zeroed instead (`detect_zeroes`).
    detected_zeroes,
    /// Storage chunks that discarding and zeroing have freed.
    freed_chunks,
    /// Bytes that prefetch has made local without reading them, because the base is known to hold zeros there.
    prefetched_zeros,
}

impl<S: Storage> Image<S> {
    /// What the image has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}
