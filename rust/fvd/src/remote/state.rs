//! What a program can show of the stores: plain data, which the one that opens remote files fills in.

use std::fmt;
use std::time::Duration;

/// What was asked of stores since a program began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests for data that were sent, those below included.
    pub requests: u64,
    /// Bytes of data that have come, also those that came twice.
    pub bytes: u64,
    /// Requests that were sent again after a failure.
    pub retries: u64,
    /// Second requests for what a first one did not bring in time.
    pub hedges: u64,
    /// Times the credentials were replaced because the server had refused them.
    pub refreshes: u64,
    /// Fetches that wait now: in a pause after a failure.
    pub waiting: u64,
    /// Bytes of data in memory now, in all files of the process.
    pub memory: u64,
    /// All stores, by name: scheme, and host or bucket, without credentials.
    pub stores: Vec<String>,
    /// Those of them that cannot be reached now, by name.
    pub outages: Vec<OutageState>,
}

/// A store that cannot be reached now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutageState {
    /// The store, without credentials: scheme, and host or bucket.
    pub store: String,
    /// For how long its requests have been failing.
    pub lasting: Duration,
    /// Why the last one did.
    pub reason: String,
}

impl fmt::Display for OutageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.lasting.as_secs();
        write!(f, "waits for {} since {seconds} s: {}", self.store, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_says_which_store_is_waited_for_and_why() {
        let outage = OutageState {
            store: "s3://images".to_owned(),
            lasting: Duration::from_millis(42_900),
            reason: "the server answered with status 503".to_owned(),
        };
        let expected = "waits for s3://images since 42 s: the server answered with status 503";
        assert_eq!(outage.to_string(), expected);
    }
}
