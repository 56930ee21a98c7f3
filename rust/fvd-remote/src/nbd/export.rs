//! An export as a source of units.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use fvd::host::BoxFuture;
use fvd::remote::{Pin, Validator};
use fvd::storage::Allocation;
use fvd::{Error, ErrorKind, Result};
use fvd_nbd::protocol::client::reply::{Answer, Extent};
use fvd_nbd::protocol::error::Errno;
use tokio::select;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::connect::Connector;
use super::holes::Holes;
use super::link::{Ask, Link, NoAnswer};
use super::links::{Links, NoLink};
use crate::counters::Tally;
use crate::fetch::{ATTEMPTS, Sink, Source, StoreState, Trouble, UNIT, capital, changed, timed_out};
use crate::retry::Backoff;
use crate::transport::{Failure, FailureKind, io_thread};

/// How far one status request asks, in bytes.
const STATUS: u64 = 1 << 30;

/// An export that is open.
pub(crate) struct Export {
    links: Arc<Links>,
    store: Arc<StoreState>,
    /// In bytes.
    len: u64,
    /// The minimum block size in bytes.
    block: u32,
    /// The most bytes of one request.
    request: u64,
    holes: Holes,
    knows_holes: AtomicBool,
    /// Held while the server is asked for zeros.
    asking: AsyncMutex<()>,
}

impl Export {
    /// Opens an export, which must be the one of `pin`. Only on the I/O thread.
    pub(crate) async fn open(connector: Connector, store: Arc<StoreState>, pin: Option<&Pin>) -> Result<Arc<Self>> {
        let links = Arc::new(Links::new(connector, Arc::clone(&store)));
        let limit = store.tuning.open_timeout;
        let link = select! {
            biased;
            opened = first(&links, &store) => opened?,
            () = store.clock.sleep(limit) => {
                return Err(timed_out(limit, "the server does not answer").with_path(links.url()));
            }
        };
        let opened = &link.opened;
        let export = Self {
            len: opened.size,
            block: opened.block_sizes.minimum,
            request: UNIT.min(opened.block_sizes.maximum.into()),
            holes: Holes::default(),
            knows_holes: AtomicBool::new(opened.allocation.is_some()),
            asking: AsyncMutex::default(),
            links,
            store,
        };
        if let Some(pin) = pin.filter(|pin| !export.is_pinned_by(pin)) {
            let found = format!("There is now an export of {}", export.pin());
            return Err(changed(export.url(), &pin.to_string(), &found));
        }
        export.store.succeeded();
        Ok(Arc::new(export))
    }

    async fn read(&self, range: &Range<u64>, sink: &dyn Sink) -> Result<(), Trouble> {
        let link = self.links.link().await?;
        let mut pending = VecDeque::new();
        for part in parts(range, UNIT).flat_map(|unit| parts(&unit, self.request)) {
            let length = u32::try_from(part.end - part.start).expect("at most a unit");
            pending.push_back(link.send(Ask::Read, part.start, length));
            Tally::add(&self.store.tally.requests, 1);
        }
        for unit in parts(range, UNIT) {
            let mut all: Vec<Vec<u8>> = Vec::new();
            for _ in parts(&unit, self.request) {
                let answer = link.answer(pending.pop_front().expect("one for each part")).await;
                match answer.map_err(|no| trouble(&link, no))? {
                    Answer::Data(data) => all.push(data),
                    Answer::Status(_) => unreachable!("the decoder knows what was asked"),
                }
            }
            let bytes = match <[Vec<u8>; 1]>::try_from(all) {
                Ok([one]) => Bytes::from(one),
                Err(several) => Bytes::from(several.concat()),
            };
            Tally::add(&self.store.tally.bytes, bytes.len() as u64);
            // Before a reader sees it: what it then asks about the server is true.
            self.store.succeeded();
            sink.put(unit.start / UNIT, bytes);
        }
        Ok(())
    }

    /// Finds out what the bytes from `offset` are. If that fails, they are data.
    async fn ask(&self, offset: u64) {
        let _one = self.asking.lock().await;
        let is_away = || self.store.health.outage(self.store.clock.now()).is_some();
        if !self.knows_holes.load(Ordering::Relaxed) || self.holes.find(offset, 1).is_some() || is_away() {
            return;
        }
        let block = u64::from(self.block);
        let start = offset - offset % block;
        let end = start.saturating_add(STATUS).min(self.len - self.len % block);
        if start >= end {
            return;
        }
        match self.status(start, (end - start) as u32).await {
            Ok(extents) => self.holes.add(start, &extents),
            Err(Some(reason)) => {
                tracing::debug!(url = self.url(), reason, "an NBD server does not say where zeros are");
                self.knows_holes.store(false, Ordering::Relaxed);
            }
            Err(None) => {}
        }
    }

    /// Fails with the reason if the server refuses, and without one if it cannot be reached.
    async fn status(&self, start: u64, length: u32) -> Result<Vec<Extent>, Option<String>> {
        let link = self.links.link().await.map_err(|_| None)?;
        if link.opened.allocation.is_none() {
            return Err(Some("it is not offered".to_owned()));
        }
        match link.answer(link.send(Ask::Status, start, length)).await {
            Ok(Answer::Status(extents)) => Ok(extents),
            Ok(Answer::Data(_)) => unreachable!("the decoder knows what was asked"),
            Err(NoAnswer::Fault(fault)) => Err(Some(fault.to_string())),
            Err(NoAnswer::Broken(_)) => Err(None),
        }
    }
}

impl Source for Export {
    fn url(&self) -> &str {
        self.links.url()
    }

    fn store(&self) -> &Arc<StoreState> {
        &self.store
    }

    fn pin(&self) -> Pin {
        Pin {
            len: self.len,
            validator: Validator::Length,
        }
    }

    fn is_pinned_by(&self, pin: &Pin) -> bool {
        *pin == self.pin()
    }

    fn attempt<'a>(
        &'a self,
        range: &'a Range<u64>,
        sink: &'a dyn Sink,
        _is_retry: bool,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(self.read(range, sink))
    }

    fn renew(&self, _generation: u64) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Err("there are no credentials".to_owned()) })
    }

    fn allocation(self: Arc<Self>, offset: u64, len: u64) -> BoxFuture<'static, (Allocation, u64)> {
        Box::pin(async move {
            if let Some(found) = self.holes.find(offset, len) {
                return found;
            }
            if self.knows_holes.load(Ordering::Relaxed) {
                let (sender, receiver) = oneshot::channel();
                let export = Arc::clone(&self);
                let asked = io_thread::spawn(async move {
                    export.ask(offset).await;
                    _ = sender.send(());
                });
                if asked.is_ok() {
                    _ = receiver.await;
                }
            }
            self.holes.find(offset, len).unwrap_or((Allocation::Data, len))
        })
    }
}

/// The first connection. A wrong name, or a server that does not exist, is reported soon.
async fn first(links: &Arc<Links>, store: &StoreState) -> Result<Arc<Link>> {
    let mut failures = 0;
    loop {
        let failure = match links.link().await {
            Ok(link) => return Ok(link),
            Err(NoLink::Changed(error)) => return Err(error),
            Err(NoLink::Failure(failure)) => failure,
        };
        failures += 1;
        if failures == ATTEMPTS || matches!(failure.kind, FailureKind::Denied | FailureKind::Refused) {
            return Err(Error::new(ErrorKind::Io, capital(&failure.text)).with_path(links.url()));
        }
        Tally::add(&store.tally.retries, 1);
        let pause = Backoff::new(&store.tuning).pause(failures, None, store.random());
        store.clock.sleep(pause).await;
    }
}

/// `range` in parts that begin at multiples of `size` from its start.
fn parts(range: &Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let Range { start, end } = *range;
    let starts = (start..end).step_by(size as usize);
    starts.map(move |start| start..end.min(start + size))
}

/// What a missing answer means for the attempt.
fn trouble(link: &Link, no: NoAnswer) -> Trouble {
    let fault = match no {
        NoAnswer::Broken(failure) => return failure.into(),
        NoAnswer::Fault(fault) => fault,
    };
    let is = |errno: Errno| fault.errno == errno.to_wire();
    let text = fault.to_string();
    if is(Errno::Shutdown) {
        link.give_up(Failure::new(FailureKind::Broken, text.clone()));
        return Trouble::Retry { text, demanded: None };
    }
    if [Errno::Perm, Errno::Inval, Errno::Overflow, Errno::NotSup]
        .into_iter()
        .any(is)
    {
        return Trouble::Permanent(Error::new(ErrorKind::Io, capital(&text)));
    }
    Trouble::Faulty(text)
}
