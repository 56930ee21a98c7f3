//! A step of prefetch: reads without any lock, then stores what is still missing.

use std::future::Future;
use std::ops::Range;
use std::sync::MutexGuard;
use std::time::Duration;

use rangemap::RangeSet;

use super::amount::{Amount, len_of};
use super::control::{Command, PrefetchState, PrefetchStatus};
use super::direction::Direction;
use super::end::Fault;
use super::options::MAX_HELPER_STEP;
use super::pause::{Pause, PauseReason};
use super::prefetch::{Prefetch, State};
use super::take::Step;
use super::throttle::Fall;
use crate::error::Result;
use crate::format::Block;
use crate::image::{BaseCopy, CopyData, Part, StoreError};
use crate::source::Content;
use crate::storage::{IoBufMut, Storage};

/// An operation in flight. It ends when this is dropped.
struct Moving<'a, S: Storage> {
    prefetch: &'a Prefetch<'a, S>,
    direction: Direction,
    began: Duration,
    /// Bytes that it has moved.
    bytes: u64,
}

impl<S: Storage> Drop for Moving<'_, S> {
    fn drop(&mut self) {
        let now = self.prefetch.clock.now();
        let mut guard = self.prefetch.state();
        let state = &mut *guard;
        let mut rng = state.rng.fork();
        let (direction, time) = (state.direction(self.direction), now.saturating_sub(self.began));
        let fall = direction.throttle.end(now, time, self.bytes, &mut rng);
        let rate = direction.rate.add(now, self.bytes);
        // The guest needs the first ranges now, so there is no pause, even under contention.
        let at_first = state.work.is_at_first();
        let pause = fall.as_ref().filter(|_| !at_first).and_then(|fall| self.pause(fall));
        if let Some(pause) = pause {
            state.hold_until(now + pause.time, PrefetchState::Throttled);
        }
        let has_widened = self.direction == Direction::Read && self.bytes > 0 && at_first && state.window.note(time);
        drop(guard);
        if has_widened {
            self.prefetch.widened.notify(usize::MAX);
        }
        let rates = |status: &mut PrefetchStatus| match self.direction {
            Direction::Read => status.read_rate = rate,
            Direction::Write => status.write_rate = rate,
        };
        match pause {
            None => self.prefetch.control.update(rates),
            Some(pause) => self.prefetch.control.pause_for(pause, |status| {
                status.pauses += 1;
                rates(status);
            }),
        }
    }
}

impl<S: Storage> Moving<'_, S> {
    fn pause(&self, fall: &Fall) -> Option<Pause> {
        let reason = match self.direction {
            Direction::Read => PauseReason::SlowReads,
            Direction::Write => PauseReason::SlowWrites,
        };
        fall.pause.map(|time| Pause::of_fall(reason, fall, time))
    }
}

impl<S: Storage> Prefetch<'_, S> {
    /// Bytes that may be moved at once now: a multiple of 512.
    pub(super) fn piece_len(&self) -> u64 {
        let now = self.clock.now();
        let mut state = self.look(now);
        let mut len = self.options.bytes_per_prefetch;
        let mut slots = self.options.slots;
        if state.work.is_at_first() {
            slots = state.window.most();
            if state.window.size() > self.options.slots {
                len = len.min(MAX_HELPER_STEP);
            }
        }
        for direction in [Direction::Read, Direction::Write] {
            len = len.min(state.direction(direction).pacer.longest_step(slots));
        }
        if state.is_polite() && state.foreground.is_active(now) {
            len = len.min(self.options.bytes_beside_guest / slots as u64);
        }
        (len / 512 * 512).max(512)
    }

    /// Looks at the guest, and returns the state.
    fn look(&self, now: Duration) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.foreground.look(now, self.image.requests(), self.image.is_idle());
        state
    }

    pub(super) async fn perform(&self, step: Step<'_, S>) -> Result<(), Fault> {
        let bytes = step.bytes.clone();
        let blocks = self.image.blocks_of(&bytes);
        if step.zeros {
            self.lull().await?;
            let failures = self.state().backoff.failures();
            let data = CopyData::Zeros;
            let stored = self.image.store_copy(BaseCopy { blocks, data }).await;
            let stored = stored.map_err(|error| store_failed(error, failures))?;
            self.count(Amount::of(&stored, &RangeSet::new()));
        } else if step.in_parts {
            if !self.store_in_parts(blocks.start, bytes.clone()).await? {
                return Ok(());
            }
        } else {
            let (data, read) = self.read(bytes.clone()).await?;
            let store = self.image.store_copy(BaseCopy { blocks, data });
            let stored = self.store(len_of(&read), store).await?;
            self.count(Amount::of(&stored, &read));
        }
        self.is_stored();
        drop(step);
        self.checkpoint_if_due().await
    }

    /// Stores one block part by part, and publishes it with the last part. False: the guest wrote to it
    /// meanwhile, and the next walk finds it again.
    async fn store_in_parts(&self, block: Block, bytes: Range<u64>) -> Result<bool, Fault> {
        let (mut at, mut watch) = (bytes.start, None);
        while at < bytes.end {
            let part = at..bytes.end.min(at + self.piece_len());
            at = part.end;
            let (data, read) = self.read(part.clone()).await?;
            let amount = Amount::of(std::slice::from_ref(&part), &read);
            let write = self.image.store_part(block, part, data, watch);
            match self.store(amount.fetched, write).await? {
                Part::Stored(next) => watch = Some(next),
                Part::Local => return Ok(true),
                Part::Disturbed => return Ok(false),
            }
            self.count(amount);
        }
        Ok(true)
    }

    /// Reads from the base. Also returns which ranges were read: known zeros are not.
    async fn read(&self, bytes: Range<u64>) -> Result<(CopyData, RangeSet<u64>), Fault> {
        let failures = self.state().backoff.failures();
        let base = |error| Fault::Base { error, failures };
        let mut done = IoBufMut::zeroed((bytes.end - bytes.start) as usize);
        let mut rest = done.split_off(0);
        let mut at = bytes.start;
        let mut were_read = RangeSet::new();
        while at < bytes.end {
            self.admitted().await?;
            let run = self.image.base_status(at, bytes.end - at).await.map_err(base)?;
            let mut len = run.len;
            if run.content == Content::Data {
                // The guest may have become active since the step was taken.
                len = len.min(self.piece_len());
            }
            let mut part = rest;
            rest = part.split_off(len as usize);
            if run.content == Content::Data {
                were_read.insert(at..at + len);
                self.pace(Direction::Read, len).await?;
                self.lull().await?;
                let read = self.image.read_base(part, at);
                part = self.moving(Direction::Read, len, read).await.map_err(base)?;
            }
            done = done.join(part);
            at += len;
        }
        let data = if were_read.is_empty() {
            CopyData::Zeros
        } else {
            CopyData::Bytes(done.freeze())
        };
        Ok((data, were_read))
    }

    /// Runs a write to the image. `len` bytes of it were read from the base; the rest are known zeros, which
    /// move no data.
    async fn store<T>(&self, len: u64, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, Fault> {
        let failures = self.state().backoff.failures();
        let stored = if len == 0 {
            // A measurement of 0 bytes would look like a slow medium.
            write.await
        } else {
            self.pace(Direction::Write, len).await?;
            self.moving(Direction::Write, len, write).await
        };
        stored.map_err(|error| store_failed(error, failures))
    }

    /// Measures an operation that moves `len` bytes.
    async fn moving<T, E>(
        &self,
        direction: Direction,
        len: u64,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let now = self.clock.now();
        self.state().direction(direction).throttle.begin(now);
        let mut moving = Moving {
            prefetch: self,
            direction,
            began: now,
            bytes: 0,
        };
        let result = operation.await;
        if result.is_ok() {
            moving.bytes = len;
        }
        result
    }

    /// Waits until the cap allows `len` more bytes.
    async fn pace(&self, direction: Direction, len: u64) -> Result<(), Fault> {
        let at = self.state().direction(direction).pacer.reserve(self.clock.now(), len);
        loop {
            let now = self.clock.now();
            if now >= at {
                return Ok(());
            }
            let command = self.control.command();
            if command == Command::Stop || self.outcome().is_some() {
                return Err(Fault::Stopped);
            }
            self.sleep(at.saturating_sub(now), command).await;
        }
    }

    /// Waits until the guest is idle, for a limited time.
    async fn lull(&self) -> Result<(), Fault> {
        loop {
            let command = self.control.command();
            self.admitted().await?;
            let now = self.clock.now();
            let wait = {
                let mut state = self.look(now);
                let polite = state.is_polite();
                state.foreground.wait(now).filter(|_| polite)
            };
            let Some(wait) = wait else {
                self.control.enter(PrefetchState::Running);
                return Ok(());
            };
            self.control.enter(PrefetchState::Yielding);
            self.sleep(wait, command).await;
        }
    }

    /// Counts stored bytes. Parts of a block count even if the block does not become local with them.
    fn count(&self, stored: Amount) {
        self.image.count_prefetched(stored.fetched, stored.zeros);
        // Known zeros cost nothing to find again, so their number brings no checkpoint nearer.
        self.state().unsaved += stored.fetched + u64::from(stored.zeros > 0);
        self.control.update(|status| {
            status.fetched += stored.fetched;
            status.zeros += stored.zeros;
        });
    }

    /// Notes that a step has succeeded.
    fn is_stored(&self) {
        self.state().backoff.succeeded();
        self.tell_local(|status| {
            if !status.state.is_final() {
                status.error = None;
            }
        });
    }

    /// Updates the number of local bytes in the status, and applies `change`.
    pub(super) fn tell_local(&self, change: impl FnOnce(&mut PrefetchStatus)) {
        let local = self.image.local_bytes_counted();
        self.control.update(|status| {
            status.local = local;
            change(status);
        });
    }

    /// Makes a checkpoint if one is due, so that a crash does not lose all that was fetched (P4).
    async fn checkpoint_if_due(&self) -> Result<(), Fault> {
        {
            let now = self.clock.now();
            let mut state = self.state();
            let time = now.saturating_sub(state.saved_at);
            let is_due = state.unsaved >= self.options.checkpoint_bytes || time >= self.options.checkpoint_time;
            if !is_due || state.unsaved == 0 {
                return Ok(());
            }
            (state.unsaved, state.saved_at) = (0, now);
        }
        self.image.checkpoint_copies().await.map_err(Fault::Image)
    }
}

fn store_failed(error: StoreError, failures: u32) -> Fault {
    match error {
        StoreError::Base(error) => Fault::Base { error, failures },
        error => Fault::Image(error.into()),
    }
}
