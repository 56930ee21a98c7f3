//! Readers, and what each read must do.

use std::sync::Arc;
use std::time::Duration;

use fvd::remote::{RemoteFile, Urgency, with_urgency};
use fvd::storage::IoBufMut;
use tokio::time::{sleep, timeout};

use super::case::{Case, Theme};
use super::process::Process;
use super::store::Store;
use crate::fetch::UNIT;

/// A read with a limit may end this much after it: timers have a resolution of a millisecond.
const LATE: Duration = Duration::from_millis(5);
/// The longest time from the end of an outage to the first answer: a request that was sent before is silent for
/// 10 s, and the pause after it is at most 20 s.
const RECOVERY: Duration = Duration::from_secs(10 + 20 + 15);
/// The longest time from the first answer after an outage to the end of any other read.
const TOGETHER: Duration = Duration::from_secs(8);
/// So much more if the store was silent: a request that was sent before waits this long for its answer.
const SILENCE: Duration = Duration::from_secs(10);

pub(super) struct Reader {
    pub(super) store: Arc<Store>,
    pub(super) process: usize,
    pub(super) object: u64,
    pub(super) file: Arc<dyn RemoteFile>,
    pub(super) limit: Option<Duration>,
    pub(super) is_background: bool,
    pub(super) random: fastrand::Rng,
}

impl Reader {
    pub(super) async fn run(mut self) {
        let len = self.file.pin().len;
        let is_sequential = self.is_background || self.random.u8(..4) == 0;
        let mut next = self.random.u64(..len);
        for _ in 0..self.store.case.reads {
            let pause = match self.store.case.theme {
                Theme::Narrow | Theme::Calm if self.is_background => 0,
                Theme::Narrow => 50,
                _ => self.random.u64(..200),
            };
            sleep(Duration::from_millis(pause)).await;
            let size = match self.random.u8(..6) {
                0 => self.random.u64(1..4 * UNIT),
                _ if self.is_background => self.store.case.tuning.request,
                _ => self.random.u64(1..65_536),
            };
            self.read(next, size).await;
            next = if is_sequential {
                next + size
            } else {
                self.random.u64(..len)
            };
            if next >= len {
                next = 0;
            }
        }
    }

    async fn read(&mut self, offset: u64, len: u64) {
        let begun = self.store.now();
        let file = Arc::clone(&self.file);
        let reading = file.read(IoBufMut::zeroed(len as usize), offset);
        let ended = if self.store.case.gives_up && self.random.u8(..8) == 0 {
            let patience = Duration::from_millis(self.random.u64(..1000));
            timeout(patience, reading).await.ok()
        } else if self.is_background {
            Some(with_urgency(Urgency::Background, reading).await)
        } else {
            Some(reading.await)
        };
        let took = self.store.now().saturating_sub(begun);
        self.store
            .note("read", &[self.object, offset, len, u64::from(ended.is_some())]);
        match ended {
            None => {}
            Some(Ok(buf)) => {
                self.check_data(offset, buf.as_slice());
                self.check_time(begun, took);
            }
            Some(Err(error)) => self.check_error(&error, begun, took),
        }
    }

    fn violation(&self, what: &str, offset: u64) {
        self.store
            .violation(&format!("a read of object {} at {offset} {what}", self.object));
    }

    /// R1: whatever the store does, these are bytes of the object that was opened.
    fn check_data(&self, offset: u64, found: &[u8]) {
        let expected = self.store.pinned(self.object);
        let inside = expected.len().min(offset as usize)..expected.len().min(offset as usize + found.len());
        let (data, beyond) = found.split_at(inside.len());
        if data != &expected[inside] {
            self.violation("has bytes that are not those of the object", offset);
        } else if beyond.iter().any(|byte| *byte != 0) {
            self.violation("has something beyond the end", offset);
        }
    }

    /// R9, R10: how long a read may take that brings data.
    fn check_time(&self, begun: Duration, took: Duration) {
        let case = &self.store.case;
        if self.limit.is_some_and(|limit| took > limit + LATE) {
            self.violation(&format!("took {took:.3?}, more than its limit"), 0);
        }
        if let Some((_, ends)) = case.outage
            && took > ends.saturating_sub(begun) + RECOVERY
        {
            self.violation(
                &format!("took {took:.3?}, although the store was back at {ends:.3?}"),
                0,
            );
        }
        if let Some(first) = self.store.first_answer(self.process)
            && begun < first
            && begun + took > first + TOGETHER + SILENCE * u32::from(self.store.is_silent_when_away())
        {
            self.violation(
                &format!("took {took:.3?}, although the store had answered at {first:.3?}"),
                0,
            );
        }
        if !self.is_background && begun > Duration::from_secs(3) {
            self.store.lock().waits.push(took);
        }
        if !self.is_background && took > longest(case) {
            self.violation(&format!("took {took:.3?}"), 0);
        }
    }

    fn check_error(&self, error: &fvd::Error, begun: Duration, took: Duration) {
        let limit = self.limit.unwrap_or(Duration::MAX);
        if error.errno() != Some(libc::ETIMEDOUT) {
            if !self.store.may_fail() {
                self.violation(&format!("failed: {error}"), 0);
            }
            return;
        }
        // A store that has been away for longer than the limit gets one attempt. It cannot have been away for
        // longer than the run.
        let now = begun + took;
        if took > limit + LATE || now + LATE < limit {
            self.violation(&format!("was given up after {took:.3?}: {error}"), 0);
        }
    }
}

/// How long a read may take for which a guest waits.
fn longest(case: &Case) -> Duration {
    let round_trip = Duration::from_millis(case.weather.latency);
    match case.theme {
        // Its own request, which is sent at once, or one that is under way.
        Theme::Calm if case.cache.is_none() => round_trip + LATE,
        // Parts that the cache lacks, one after the other. Other processes are looked at every 20 ms.
        Theme::Calm => 8 * round_trip + Duration::from_millis(200),
        _ => Duration::MAX,
    }
}

/// All readers of a process.
pub(super) fn readers(process: &Process, files: &[(usize, Arc<dyn RemoteFile>)]) -> Vec<Reader> {
    let case = &process.store.case;
    let mut random = fastrand::Rng::with_seed(case.seed ^ (process.number as u64) << 32);
    let reader = |number: usize, random: &mut fastrand::Rng| {
        let (object, file) = &files[random.usize(..files.len())];
        Reader {
            store: Arc::clone(&process.store),
            process: process.number,
            object: *object as u64,
            file: Arc::clone(file),
            limit: process.limit(),
            is_background: number >= case.readers,
            random: random.fork(),
        }
    };
    (0..case.readers + case.background)
        .map(|number| reader(number, &mut random))
        .collect()
}
