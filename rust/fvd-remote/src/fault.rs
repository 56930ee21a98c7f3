//! Deliberate faults, which the simulators must find. They exist only in tests.

/// A fault of this crate.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
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
    /// Which object an answer came from is not checked.
    AnswerUnchecked,
    /// Which bytes an answer has is not checked.
    RangeUnchecked,
    /// A reader starts a flight for a unit that another flight brings.
    DoubleFlight,
    /// What a body that was cut has not brought stays reserved.
    BudgetKept,
    /// A request is sent although the memory is full.
    BudgetIgnored,
    /// Second requests have no limit.
    HedgesUnlimited,
    /// Each reader that was refused asks for new credentials.
    RefreshByEach,
    /// A read that shall wait fails after a few attempts.
    WaitGivesUp,
    /// A read with a limit waits for ever.
    LimitForgotten,
    /// After a failure, the bytes of a unit are shifted by one.
    ShiftedAfterCut,
    /// What is fetched ahead goes before readers if it was queued first.
    FirstComeFirstServed,
    /// While readers wait, prefetch gets all the network can carry, and more.
    NoRoomKept,
    /// A pause that the store wants counts only for the flight that was told.
    PauseForOne,
    /// Fetches that wait do not notice that the store answers again.
    AnswerUnnoticed,
    /// A flight that ends leaves its units as if they were still coming.
    FlightUncleared,
    /// What came from another host is stored in the cache.
    OtherHostStored,
    /// The watch of a read with a limit outlives the read.
    WatchLeft,
}

#[cfg(test)]
impl Fault {
    /// Those that the simulator of the host cache finds.
    pub(crate) const OF_THE_CACHE: [Self; 9] = [
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

    /// Those that the simulator of stores finds too seldom to be asserted: it looks for them by name.
    pub(crate) const BY_NAME: [Self; 2] = [Self::FirstComeFirstServed, Self::NoRoomKept];

    /// Those that the simulator of stores finds.
    pub(crate) const OF_READING: [Self; 15] = [
        Self::AnswerUnchecked,
        Self::RangeUnchecked,
        Self::DoubleFlight,
        Self::BudgetKept,
        Self::BudgetIgnored,
        Self::HedgesUnlimited,
        Self::RefreshByEach,
        Self::WaitGivesUp,
        Self::LimitForgotten,
        Self::ShiftedAfterCut,
        Self::PauseForOne,
        Self::AnswerUnnoticed,
        Self::FlightUncleared,
        Self::OtherHostStored,
        Self::WatchLeft,
    ];
}

#[cfg(test)]
thread_local! {
    /// The fault of what runs on this thread.
    pub(crate) static FAULT: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether the code shall make this fault. In any other build than that of the tests: no.
macro_rules! fault {
    ($name:ident) => {{
        #[cfg(test)]
        {
            $crate::fault::FAULT.get() == Some($crate::fault::Fault::$name)
        }
        #[cfg(not(test))]
        false
    }};
}
pub(crate) use fault;
