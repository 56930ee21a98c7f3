//! Deliberate faults, which the simulator must find. They exist only in tests.

/// A fault of the cache.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The entry is written before the data.
    PublishBeforeData,
    /// A reader does not look at the entry again after it has read the data.
    NoSecondLook,
    /// The space is given back before the entry is cleared.
    PunchBeforeClear,
    /// The checksum is not checked.
    NoChecksum,
    /// Units are evicted without their locks.
    EvictUnlocked,
    /// The generation does not change when a unit is evicted and published again.
    SameGeneration,
    /// The lock of a unit is released before the unit is published.
    UnlockEarly,
    /// Eviction frees nothing.
    EvictNothing,
    /// What a killed process has left in the data is never given back.
    KeepLeftovers,
}

#[cfg(test)]
impl Fault {
    pub(super) const ALL: [Self; 9] = [
        Self::PublishBeforeData,
        Self::NoSecondLook,
        Self::PunchBeforeClear,
        Self::NoChecksum,
        Self::EvictUnlocked,
        Self::SameGeneration,
        Self::UnlockEarly,
        Self::EvictNothing,
        Self::KeepLeftovers,
    ];
}

#[cfg(test)]
thread_local! {
    /// The fault of the simulated process that runs on this thread.
    pub(super) static FAULT: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether the code shall make this fault. In any other build than that of the tests: no.
macro_rules! fault {
    ($name:ident) => {{
        #[cfg(test)]
        {
            $crate::cache::fault::FAULT.get() == Some($crate::cache::fault::Fault::$name)
        }
        #[cfg(not(test))]
        false
    }};
}
pub(super) use fault;
