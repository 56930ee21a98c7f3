//! What prefetch may do, and how fast.

use std::time::Duration;

use crate::format::Header;
use crate::url::is_url;

/// The most bytes moved at once, whatever the options say: the memory of a slot.
pub(super) const MAX_STEP: u64 = 4 << 20;
/// The same while helpers run.
pub(super) const MAX_HELPER_STEP: u64 = 512 << 10;
/// The most slots.
const MAX_SLOTS: usize = 16;
/// The same while a profile is fetched.
const MAX_PROFILE_SLOTS: usize = 64;

/// Parameters of [`Prefetch`](super::Prefetch). `PrefetchOptions::from(&header)` returns those of an image.
/// Any field may be changed after that. Values out of range are brought into range.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefetchOptions {
    /// Time from the start of [`Background`](super::Background) to the start of prefetch. None: prefetch
    /// waits for [`Control::resume`](super::Control::resume).
    pub start_delay: Option<Duration>,
    /// Time from the start of [`Background`](super::Background) until the ranges of the profile are fetched.
    /// They are never fetched later than the rest, and are fetched even if the rest is not. None: the profile
    /// is not used.
    pub profile_start_delay: Option<Duration>,
    /// Pieces in flight at once, 1..=16.
    pub slots: usize,
    /// Pieces in flight at once while a profile is fetched from a remote base, `slots`..=64.
    pub profile_slots: usize,
    /// Bytes fetched at once, at most 4 MiB. Fewer with a low cap or an active guest.
    pub bytes_per_prefetch: u64,
    /// Shortest time over which the throughput of reads is measured.
    pub read_measure_time: Duration,
    /// Shortest time over which the throughput of writes is measured.
    pub write_measure_time: Duration,
    /// Weight of the old average in a new one, in percent, 0..=100.
    pub alpha: u32,
    /// Bytes per second. A lower average of the reads counts as contention if the recent best was more than
    /// twice as high, and each read takes more than twice as long as at best.
    pub min_read_throughput: u64,
    /// The same for the writes.
    pub min_write_throughput: u64,
    /// Cap of reads in bytes per second, exceeded by a tenth at most over any two seconds. None: no cap.
    pub max_read_throughput: Option<u64>,
    /// Cap of writes in bytes per second, exceeded by a tenth at most over any two seconds. None: no cap.
    pub max_write_throughput: Option<u64>,
    /// The longest pause because of contention. Its length is random.
    pub throttle_time: Duration,
    /// How long no request of the guest must have been seen before the next piece is moved.
    pub lull: Duration,
    /// The longest wait for that, so a guest that is never idle does not stop prefetch. Zero for a base on
    /// another machine: the client of that machine lets reads on demand go first, and a wait would leave the
    /// link idle.
    pub longest_yield: Duration,
    /// Bytes moved at once while the guest has been active within the last second.
    pub bytes_beside_guest: u64,
    /// Failures of the base in a row after which prefetch still tries again. One more ends it.
    pub retries: u32,
    /// The wait after the first failure. It doubles with each further one.
    pub first_backoff: Duration,
    /// The longest of these waits.
    pub longest_backoff: Duration,
    /// A checkpoint follows after this many stored bytes.
    pub checkpoint_bytes: u64,
    /// A checkpoint of stored bytes follows after this time.
    pub checkpoint_time: Duration,
}

impl Default for PrefetchOptions {
    /// The defaults of the format. Prefetch does not start before
    /// [`Control::resume`](super::Control::resume).
    fn default() -> Self {
        Self {
            start_delay: None,
            profile_start_delay: None,
            slots: 2,
            profile_slots: MAX_PROFILE_SLOTS,
            bytes_per_prefetch: 1 << 20,
            read_measure_time: Duration::from_millis(100),
            write_measure_time: Duration::from_millis(100),
            alpha: 80,
            min_read_throughput: 5120 << 10,
            min_write_throughput: 5120 << 10,
            max_read_throughput: None,
            max_write_throughput: None,
            throttle_time: Duration::from_secs(30),
            lull: Duration::from_millis(3),
            longest_yield: Duration::from_millis(250),
            bytes_beside_guest: 256 << 10,
            retries: 10,
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(30),
            checkpoint_bytes: 256 << 20,
            checkpoint_time: Duration::from_secs(30),
        }
    }
}

impl From<&Header> for PrefetchOptions {
    fn from(header: &Header) -> Self {
        let kib = |value: i32| positive(value).map(|value| value << 10);
        let time = |value: i32, default| positive(value).map_or(default, Duration::from_millis);
        let default = Self::default();
        Self {
            start_delay: positive(header.prefetch_start_delay).map(Duration::from_secs),
            profile_start_delay: profile_start_delay(header),
            slots: positive(header.num_prefetch_slots).map_or(default.slots, |slots| slots as usize),
            bytes_per_prefetch: positive(header.bytes_per_prefetch).unwrap_or(default.bytes_per_prefetch),
            read_measure_time: time(header.prefetch_read_throughput_measure_time, default.read_measure_time),
            write_measure_time: time(
                header.prefetch_write_throughput_measure_time,
                default.write_measure_time,
            ),
            alpha: header.prefetch_perf_calc_alpha.clamp(0, 100).unsigned_abs(),
            min_read_throughput: kib(header.prefetch_min_read_throughput).unwrap_or(0),
            min_write_throughput: kib(header.prefetch_min_write_throughput).unwrap_or(0),
            max_read_throughput: kib(header.prefetch_max_read_throughput),
            max_write_throughput: kib(header.prefetch_max_write_throughput),
            throttle_time: time(header.prefetch_throttle_time, Duration::ZERO),
            longest_yield: if is_url(&header.base_img) {
                Duration::ZERO
            } else {
                default.longest_yield
            },
            ..default
        }
    }
}

impl PrefetchOptions {
    /// Brings every value into its range.
    pub(super) fn checked(mut self) -> Self {
        self.slots = self.slots.clamp(1, MAX_SLOTS);
        self.profile_slots = self.profile_slots.clamp(self.slots, MAX_PROFILE_SLOTS);
        self.bytes_per_prefetch = self.bytes_per_prefetch.clamp(1 << 12, MAX_STEP);
        self.bytes_beside_guest = self
            .bytes_beside_guest
            .clamp(1 << 12, self.bytes_per_prefetch.max(1 << 12));
        self.alpha = self.alpha.min(100);
        self.max_read_throughput = self.max_read_throughput.map(checked_cap);
        self.max_write_throughput = self.max_write_throughput.map(checked_cap);
        self.lull = self.lull.max(Duration::from_millis(1));
        self.checkpoint_bytes = self.checkpoint_bytes.max(1);
        self
    }
}

fn checked_cap(cap: u64) -> u64 {
    cap.clamp(1 << 10, 1 << 50)
}

/// None where there is no profile.
fn profile_start_delay(header: &Header) -> Option<Duration> {
    let delay = u64::try_from(header.profile_directed_prefetch_start_delay).ok()?;
    (header.prefetch_profile_entries > 0).then_some(Duration::from_secs(delay))
}

/// A value of 0 or less in a header means that it is not set.
fn positive(value: i32) -> Option<u64> {
    (value > 0).then_some(u64::from(value.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::CreateOptions;

    fn header() -> Header {
        let mut options = CreateOptions {
            base_img: "base".into(),
            ..CreateOptions::default()
        };
        options.layout.virtual_size = 1 << 30;
        options.layout.base_size = Some(1 << 30);
        options.header().expect("the options are sound")
    }

    #[test]
    fn the_header_of_a_new_image_gives_the_defaults() {
        let expected = PrefetchOptions {
            max_read_throughput: Some(1_000_000_000 << 10),
            max_write_throughput: Some(1_000_000_000 << 10),
            ..PrefetchOptions::default()
        };
        assert_eq!(PrefetchOptions::from(&header()), expected);
    }

    #[test]
    fn fields_have_their_units() {
        let header = Header {
            prefetch_start_delay: 5,
            prefetch_min_read_throughput: 3,
            prefetch_max_write_throughput: 7,
            prefetch_throttle_time: 11,
            prefetch_perf_calc_alpha: 13,
            ..header()
        };
        let options = PrefetchOptions::from(&header);
        assert_eq!(options.start_delay, Some(Duration::from_secs(5)));
        assert_eq!(options.min_read_throughput, 3 * 1024);
        assert_eq!(options.max_write_throughput, Some(7 * 1024));
        assert_eq!(options.throttle_time, Duration::from_millis(11));
        assert_eq!(options.alpha, 13);
    }

    #[test]
    fn prefetch_from_another_machine_does_not_wait_for_the_guest() {
        let header = Header {
            base_img: "https://images.example.org/a.raw".into(),
            ..header()
        };
        assert_eq!(PrefetchOptions::from(&header).longest_yield, Duration::ZERO);
    }

    #[test]
    fn invalid_values_in_a_header_are_brought_into_range() {
        for value in [i32::MIN, -1, 0, i32::MAX] {
            let header = Header {
                prefetch_start_delay: value,
                num_prefetch_slots: value,
                bytes_per_prefetch: value,
                prefetch_perf_calc_alpha: value,
                prefetch_max_read_throughput: value,
                ..header()
            };
            let options = PrefetchOptions::from(&header).checked();
            assert!((1..=MAX_SLOTS).contains(&options.slots));
            assert!((1..=MAX_STEP).contains(&options.bytes_per_prefetch));
            assert!(options.alpha <= 100);
            assert_eq!(options.start_delay.is_some(), value > 0);
        }
    }
}
