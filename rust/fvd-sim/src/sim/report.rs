//! What was done, and what was found wrong.

use std::fmt;

/// How a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The image was closed.
    Closed,
    /// The power was cut.
    Cut,
    /// The process is dead, by itself or because the image takes no more writes.
    Killed,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What has happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds what has happened elsewhere.
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
    /// Those that ended with a close.
    closed,
    /// Those that ended with a power cut.
    power_cuts,
    /// Those that ended with the process.
    killed,
    /// Requests.
    requests,
    /// Requests that were cancelled.
    cancelled,
    /// Requests that failed.
    failed,
    /// Sessions in which an image took no more writes.
    poisoned,
    /// Bytes that copy-on-read has stored.
    copied_on_read,
    /// Bytes that prefetch has stored.
    prefetched,
    /// Sessions in which prefetch has fetched the last block.
    completed,
    /// Sectors written to journals.
    journal_sectors,
    /// Times that bitmap and table were written in place.
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

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In numbers.
    pub counts: Counts,
    /// Depends on everything that happened.
    pub digest: u64,
    /// A line about everything that happened, with [`Watch::Keep`](super::Watch::Keep).
    pub trace: String,
}

/// What was found wrong.
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
