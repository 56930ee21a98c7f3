//! What a source that wraps another one passes on.

/// The methods of [`BaseSource`](super::BaseSource) that describe the disk, for a source that reads the same
/// disk as `self.$inner`: name, format, length and outage are those of the inner source.
macro_rules! delegate_to_inner {
    ($($inner:tt)+) => {
        fn path(&self) -> &std::path::Path {
            self.$($inner)+.path()
        }

        fn format(&self) -> &'static str {
            self.$($inner)+.format()
        }

        fn len(&self) -> u64 {
            self.$($inner)+.len()
        }

        fn outage(&self) -> Option<crate::remote::OutageState> {
            crate::sys::stack::with_room(|| self.$($inner)+.outage())
        }
    };
}

pub(super) use delegate_to_inner;
