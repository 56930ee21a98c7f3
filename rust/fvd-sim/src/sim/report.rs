//! What was done, and what was wrong.

use std::fmt;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The image was closed.
    Closed,
    /// The power was cut.
    Cut,
    /// The process ended, either as scripted or because the image takes no more writes.
    Killed,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of what happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds other counters to these.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counts! {
    /// Sessions.
    sessions,
    /// Sessions that ended with a close.
    closed,
    /// Sessions that ended with a power cut.
    power_cuts,
    /// Sessions that ended with the death of the process.
    killed,
    /// Requests.
    requests,
    /// Requests that were cancelled.
    cancelled,
    /// Requests that failed.
    failed,
    /// Sessions in which an image became poisoned.
    poisoned,
    /// Bytes that copy-on-read has stored.
    copied_on_read,
    /// Bytes that prefetch has stored.
    prefetched,
    /// Sessions in which prefetch fetched the last block.
    completed,
    /// Sectors written to journals.
    journal_sectors,
    /// Number of checkpoints, which write bitmap and table in place.
    checkpoints,
}

impl Counts {
    /// Counts a session.
    pub fn end(&mut self, ended: Ended) {
        self.sessions += 1;
        match ended {
            Ended::Closed => self.closed += 1,
            Ended::Cut => self.power_cuts += 1,
            Ended::Killed => self.killed += 1,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.fields() {
            writeln!(f, "{count:14}  {}", name.replace('_', " "))?;
        }
        Ok(())
    }
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Counters.
    pub counts: Counts,
    /// A hash of everything that happened.
    pub digest: u64,
    /// A line for every event, with [`Watch::Keep`](super::Watch::Keep).
    pub trace: String,
}

/// What was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Index of the session.
    pub session: usize,
    /// What was wrong.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}: {}", self.session, self.detail)
    }
}
