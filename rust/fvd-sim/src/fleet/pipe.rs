//! A link: bytes leave one after the other.

use std::time::Duration;

/// One direction of a link, or all links of a store together.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Bytes a second. None: no limit.
    rate: Option<f64>,
    free_at: Duration,
}

impl Pipe {
    pub(super) fn new(rate: Option<f64>) -> Self {
        Self {
            rate,
            free_at: Duration::ZERO,
        }
    }

    /// When `bytes` that come now have left.
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 bytes")]
    pub(super) fn send(&mut self, now: Duration, bytes: u64) -> Duration {
        let Some(rate) = self.rate else { return now };
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bytes as f64 / rate);
        self.free_at
    }
}
