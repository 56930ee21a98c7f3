//! Time limits and sizes.

use std::time::Duration;

use fvd::{Error, Result};

/// What a read does while the server cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// It waits, without an end.
    #[default]
    Wait,
    /// It fails with `ETIMEDOUT` after this time. If the store has been away for that long already, after one
    /// attempt.
    Report(Duration),
}

/// The limit of [`Outage::Report`] without one.
const LIMIT: Duration = Duration::from_secs(30);

impl Outage {
    /// What a user has chosen under the names `base_error` and `base_timeout`. A limit means `report`. None: the
    /// user has chosen nothing.
    ///
    /// # Errors
    ///
    /// `base_error` is neither `wait` nor `report`, or `wait` has a limit.
    pub fn of(base_error: Option<&str>, base_timeout: Option<Duration>) -> Result<Option<Self>> {
        match (base_error, base_timeout) {
            (None, None) => Ok(None),
            (Some("wait"), None) => Ok(Some(Self::Wait)),
            (None | Some("report"), limit) => Ok(Some(Self::Report(limit.unwrap_or(LIMIT)))),
            (Some("wait"), Some(_)) => Err(Error::invalid_argument(
                "base_timeout needs base_error \"report\": reads that wait have no limit",
            )),
            (Some(_), _) => Err(Error::invalid_argument("base_error is \"wait\" or \"report\"")),
        }
    }
}

/// Time limits, sizes and the behaviour in an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// What reads do in an outage. Default: they wait.
    pub on_outage: Outage,
    /// How long opening may take, including its attempts. Default: 30 s.
    pub open_timeout: Duration,
    /// How long a connection may take to be made. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long the answer may take to begin, and how long [`Tuning::progress_bytes`] of it may take. Default: 10 s.
    pub progress_timeout: Duration,
    /// A body that brings less than this in [`Tuning::progress_timeout`] is given up. Default: 16 KiB.
    pub progress_bytes: u64,
    /// The longest pause after the first failure. It doubles with every further one. Default: 100 ms.
    pub backoff_base: Duration,
    /// The longest pause of all. Default: 20 s.
    pub backoff_cap: Duration,
    /// The longest pause that a server can demand (`Retry-After`). Default: 5 min.
    pub retry_after_cap: Duration,
    /// The pause between attempts with credentials that the server has refused. Default: 30 s.
    pub refused_pause: Duration,
    /// Before enough is known of a server's latency, a second request is sent after this time. Default: 1 s.
    pub hedge_default: Duration,
    /// A second request is never sent before this time. Default: 20 ms.
    pub hedge_floor: Duration,
    /// How far a sequential reader's window grows, in bytes. 0: no reading ahead. Default: 16 MiB.
    pub window: u64,
    /// The longest range of one request, in bytes. Default: 1 MiB.
    pub request: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            on_outage: Outage::Wait,
            open_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            progress_timeout: Duration::from_secs(10),
            progress_bytes: 16 << 10,
            backoff_base: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(20),
            retry_after_cap: Duration::from_secs(5 * 60),
            refused_pause: Duration::from_secs(30),
            hedge_default: Duration::from_secs(1),
            hedge_floor: Duration::from_millis(20),
            window: 16 << 20,
            request: 1 << 20,
        }
    }
}
