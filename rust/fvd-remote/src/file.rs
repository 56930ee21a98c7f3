//! A remote file, as the engine reads it.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin as Pinned;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fvd::host::BoxFuture;
use fvd::process::Owned;
use fvd::remote::{OutageState, Pin, RemoteFile};
use fvd::storage::{Allocation, IoBufMut};
use fvd::{Error, Result};
use tokio::sync::oneshot;

use crate::patience::within;
use crate::transport::io_thread;
use crate::units::Units;

/// An object that is open. In a forked child every read fails, and dropping it does nothing (R6).
pub(crate) struct File {
    url: String,
    pin: Pin,
    len: u64,
    /// How long a read may take.
    limit: Option<Duration>,
    units: Owned<Arc<Units>>,
}

impl File {
    pub(crate) fn new(url: String, pin: Pin, units: Arc<Units>, limit: Option<Duration>) -> Self {
        Self {
            url,
            pin,
            len: units.len(),
            limit,
            units: Owned::new(units),
        }
    }
}

impl RemoteFile for File {
    fn url(&self) -> &str {
        &self.url
    }

    fn pin(&self) -> &Pin {
        &self.pin
    }

    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        let name = move |error: Error| error.with_path(&self.url).with_offset(offset);
        Box::pin(async move {
            let units = self.units.get().map_err(name)?;
            let reading: BoxFuture<'_, Result<IoBufMut>> = match self.limit {
                None => Box::pin(units.read(buf, offset)),
                Some(limit) => Box::pin(within(limit, units.source().store(), units.read(buf, offset))),
            };
            OwnFuture(Owned::new(reading)).await.map_err(name)
        })
    }

    fn allocation(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<(Allocation, u64)>> {
        let inside = self.len.saturating_sub(offset).min(len);
        Box::pin(async move {
            if inside == 0 {
                return Ok((Allocation::Hole, len));
            }
            let source = Arc::clone(self.units.get()?.source());
            let looking: BoxFuture<'_, Result<_>> =
                Box::pin(async move { Ok(source.allocation(offset, inside).await) });
            OwnFuture(Owned::new(looking)).await
        })
    }

    fn boot_profile(&self) -> BoxFuture<'_, Option<Vec<Range<u64>>>> {
        Box::pin(async {
            let profile = self.units.get().ok()?.source().boot_profile();
            let (sender, receiver) = oneshot::channel();
            let asking = io_thread::spawn(async move {
                // Who has gone needs no profile.
                _ = sender.send(profile.await);
            });
            asking.ok()?;
            receiver.await.ok()?
        })
    }

    fn outage(&self) -> Option<OutageState> {
        self.units.get().ok()?.source().store().outage()
    }

    fn has_time_limit(&self) -> bool {
        self.limit.is_some()
    }
}

/// A future that only its process polls and drops.
struct OwnFuture<'a, T>(Owned<BoxFuture<'a, Result<T>>>);

impl<T> Future for OwnFuture<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pinned<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match self.0.get_mut() {
            Ok(future) => future.as_mut().poll(context),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
