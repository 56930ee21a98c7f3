//! A base on a slow network.

use std::future::ready;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fvd::source::{BaseSource, BoxFuture, Content, RawSource, Run};
use fvd::storage::{FileOptions, FileStorage, IoBufMut};
use pollster::block_on;

use crate::{MIB, Result};

const RATE: u64 = 50 * MIB;

/// A file with latency, on a link of [`RATE`] bytes per second that all its readers share.
pub(crate) struct SlowBase {
    source: RawSource<FileStorage>,
    latency: Duration,
    /// When the link is free again.
    free: Mutex<Instant>,
}

impl SlowBase {
    pub(crate) fn open(path: &Path, latency: Duration) -> Result<Box<dyn BaseSource>> {
        let storage = FileStorage::open(path, &FileOptions::default())?;
        Ok(Box::new(Self {
            source: block_on(RawSource::new(storage))?,
            latency,
            free: Mutex::new(Instant::now()),
        }))
    }

    fn transfer(&self, len: u64) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let time = Duration::from_nanos(len * 1_000_000_000 / RATE);
        *free = (*free).max(Instant::now() + self.latency) + time;
        let arrives = *free;
        drop(free);
        sleep(arrives.saturating_duration_since(Instant::now()));
    }
}

impl BaseSource for SlowBase {
    fn path(&self) -> &Path {
        self.source.path()
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, fvd::Result<IoBufMut>> {
        self.transfer(buf.len() as u64);
        self.source.read(buf, offset)
    }

    fn status(&self, _: u64, len: u64) -> BoxFuture<'_, fvd::Result<Run>> {
        // Such a server does not report holes.
        let run = Run {
            content: Content::Data,
            present: true,
            ..Run::zeros(len)
        };
        Box::pin(ready(Ok(run)))
    }
}
