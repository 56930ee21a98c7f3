//! Counters of an open image.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::image::Image;
use crate::storage::Storage;

/// A number that only grows. Different counters need not be consistent with one another.
#[derive(Default)]
pub(in crate::image) struct Counter(AtomicU64);

impl Counter {
    pub(in crate::image) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an image has done since it was opened: counts, and bytes.
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

            /// From values in the order of the fields. Missing values are 0.
            #[must_use]
            pub fn from_values(values: &[u64]) -> Self {
                let mut values = values.iter().copied();
                Self { $($name: values.next().unwrap_or(0),)* }
            }

            /// The sum, field by field.
            #[must_use]
            pub fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name.saturating_add(other.$name),)* }
            }

            /// The difference to the earlier `before`, field by field.
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
        pub(in crate::image) struct Counters {
            $(pub(in crate::image) $name: Counter,)*
        }

        impl Counters {
            fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.get(),)* }
            }
        }
    };
}

// Values are stored by position (`format::totals`): new fields go to the end.
counters! {
    /// Read requests of the guest.
    reads,
    /// Bytes of these read requests.
    read_bytes,
    /// Write requests of the guest.
    writes,
    /// Bytes of these write requests.
    written_bytes,
    /// Requests of the guest to zero a range.
    zeroes,
    /// Bytes of these requests.
    zeroed_bytes,
    /// Flush requests.
    flushes,
    /// Reads of the base, for the guest and for copies.
    base_reads,
    /// Bytes of these reads.
    base_read_bytes,
    /// Writes to the base, zeroing included.
    base_writes,
    /// Bytes of these writes.
    base_written_bytes,
    /// Bytes read from the base to complete blocks that the guest wrote only in part.
    copy_on_write_bytes,
    /// Guest writes that made blocks local.
    filling_writes,
    /// Those of them that covered whole blocks, so that the base was not read.
    base_reads_avoided,
    /// Bytes that copy-on-read has stored.
    copied_on_read,
    /// Bytes that prefetch has read from the base and stored.
    prefetched,
    /// Sectors written to the journal, 512 bytes each.
    journal_sectors,
    /// Checkpoints: bitmap and table were written in place.
    checkpoints,
    /// Requests of the guest to discard a range.
    discards,
    /// Bytes of these requests.
    discarded_bytes,
    /// Writes of zeros that were turned into zeroing (`detect_zeroes`).
    detected_zeroes,
    /// Storage chunks that discarding and zeroing have freed.
    freed_chunks,
    /// Bytes that prefetch has made local without reading them, because the base is known to hold zeros
    /// there.
    prefetched_zeros,
}

impl<S: Storage> Image<S> {
    /// What the image has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}
