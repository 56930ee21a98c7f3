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
    /// Units that were found in the host cache. Later reads of them are not counted.
    pub cache_found: u64,
    /// Units that were stored in the host cache.
    pub cache_stored: u64,
    /// Units in the host cache that were damaged, and fetched again.
    pub cache_damaged: u64,
    /// Failures of the host cache. After each it is not used for a minute.
    pub cache_failures: u64,
    /// Bytes of data in memory now, in all files of the process.
    pub memory: u64,
    /// All stores, by name: scheme, and host or bucket, without credentials.
    pub stores: Vec<String>,
    /// Those of them that cannot be reached now, by name.
    pub outages: Vec<OutageState>,
}

impl Counters {
    /// Adds what another opener of the same process has done. The memory is that of the process, and of two
    /// outages of one store the longer one stays.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.retries += other.retries;
        self.hedges += other.hedges;
        self.refreshes += other.refreshes;
        self.waiting += other.waiting;
        self.cache_found += other.cache_found;
        self.cache_stored += other.cache_stored;
        self.cache_damaged += other.cache_damaged;
        self.cache_failures += other.cache_failures;
        self.memory = self.memory.max(other.memory);
        self.stores.extend(other.stores);
        self.stores.sort_unstable();
        self.stores.dedup();
        self.outages.extend(other.outages);
        self.outages
            .sort_by(|a, b| a.store.cmp(&b.store).then(b.lasting.cmp(&a.lasting)));
        self.outages.dedup_by(|next, kept| next.store == kept.store);
    }
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
    fn two_openers_of_a_process_share_its_memory_and_name_each_store_once() {
        let of = |requests, lasting, reason: &str| Counters {
            requests,
            memory: 4096,
            stores: vec!["s3://images".to_owned()],
            outages: vec![OutageState {
                store: "s3://images".to_owned(),
                lasting: Duration::from_secs(lasting),
                reason: reason.to_owned(),
            }],
            ..Counters::default()
        };
        let mut all = of(2, 5, "short");
        all.merge(of(3, 9, "long"));
        assert_eq!(all, of(5, 9, "long"));
    }

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
