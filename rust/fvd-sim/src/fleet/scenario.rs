//! What is simulated.

use std::time::Duration;

/// How machines get their disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The base is on the host.
    Local,
    /// Each host fetches all of the base with one request, then its machines start.
    FullCopy,
    /// Each machine reads from the store what it needs.
    OnDemand,
    /// The same, and what the profile of an earlier boot names is fetched before it is needed.
    Profile,
}

/// What a store does with more requests than it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// They wait.
    Queued,
    /// It refuses them (503), with `Retry-After` or without.
    Refused(Option<Duration>),
}

/// A fleet, its network and its store.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// For reports.
    pub name: String,
    /// How the machines get their disks.
    pub how: How,
    /// Hosts.
    pub hosts: usize,
    /// Machines of a host. Each is a process of its own.
    pub machines: usize,
    /// Whether the machines of a host share a host cache.
    pub has_cache: bool,
    /// The machines start at random in this time.
    pub jitter: Duration,
    /// Bytes of the base, for full copies.
    pub base: u64,
    /// A round trip between a host and the store.
    pub trip: Duration,
    /// Bytes a second of the link of a host. None: no limit.
    pub host_rate: Option<f64>,
    /// Bytes a second of the store. None: no limit.
    pub store_rate: Option<f64>,
    /// Requests a second that the store serves. None: no limit.
    pub requests: Option<f64>,
    /// What it does with more.
    pub turned: Turned,
    /// The median of the time that the store takes before the first byte.
    pub first_byte: Duration,
    /// How far that time spreads: the standard deviation of its logarithm. With 0.8, one request in a hundred
    /// takes 6.4 times the median.
    pub spread: f64,
    /// What a read costs a guest that needs no store.
    pub local_read: Duration,
    /// Everything random follows from it.
    pub seed: u64,
}

impl Default for Scenario {
    /// One machine, 20 ms and 1 Gbit/s from a store of 5500 requests a second (what S3 promises for a prefix),
    /// 100 Gbit/s and 15 ms.
    fn default() -> Self {
        Self {
            name: String::new(),
            how: How::OnDemand,
            hosts: 1,
            machines: 1,
            has_cache: false,
            jitter: Duration::ZERO,
            base: 2 << 30,
            trip: Duration::from_millis(20),
            host_rate: Some(125e6),
            store_rate: Some(12.5e9),
            requests: Some(5500.0),
            turned: Turned::Refused(None),
            first_byte: Duration::from_millis(15),
            spread: 0.8,
            local_read: Duration::from_micros(200),
            seed: 1,
        }
    }
}
