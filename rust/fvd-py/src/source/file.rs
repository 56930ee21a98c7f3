//! A source of Python as a file for the engine.

use std::future::{Future, poll_fn};
use std::pin::{Pin as Pinned, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use fvd::host::{BoxFuture, Clock as _};
use fvd::process::Owned;
use fvd::remote::{Pin, RemoteFile};
use fvd::storage::{Allocation, IoBufMut};
use fvd::{Error, Result};
use fvd_nbd::daemon::TokioClock;
use rustix::io::Errno;
use tokio::sync::oneshot::Receiver;

use super::extents::{Holes, Look};
use super::read::{Notices, OP, Read};
use crate::calls::{Caller, Ticket, Work, lost};

/// The most that `extents` is asked for at once, in bytes.
const MOST: u64 = 1 << 30;

pub(super) struct PythonFile {
    url: String,
    pin: Pin,
    has_extents: bool,
    caller: Arc<Caller>,
    limit: Option<(Duration, TokioClock)>,
    notices: Option<Arc<Notices>>,
    /// What `extents` has told last: a source does not change.
    holes: Mutex<Holes>,
}

impl PythonFile {
    pub(super) fn new(
        url: String,
        pin: Pin,
        has_extents: bool,
        caller: Arc<Caller>,
        limit: Option<(Duration, TokioClock)>,
        tells: bool,
    ) -> Self {
        Self {
            url,
            pin,
            has_extents,
            caller,
            limit,
            notices: tells.then(Arc::default),
            holes: Mutex::default(),
        }
    }

    /// Calls, and waits for the answer for as long as the user allows.
    async fn call<T: Send>(&self, work: Arc<dyn Work>, receiver: Receiver<Result<T>>) -> Result<T> {
        let answer = Waiting(Owned::new((self.caller.call(work)?, receiver)));
        let Some((limit, clock)) = &self.limit else {
            return answer.await;
        };
        let (mut answer, mut sleep) = (pin!(answer), clock.sleep(*limit));
        poll_fn(|context| {
            if let Poll::Ready(result) = answer.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            let late = sleep.as_mut().poll(context);
            late.map(|()| Err(Error::io(OP, Errno::TIMEDOUT.into())))
        })
        .await
    }

    /// Reads what lies before the end.
    async fn fill(&self, memory: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let (read, receiver) = Read::new(&self.url, memory, offset, self.notices.clone());
        let memory = Memory(read);
        self.call(Arc::clone(&memory.0) as _, receiver).await?;
        memory.0.take().ok_or_else(lost)
    }

    fn holes(&self) -> MutexGuard<'_, Holes> {
        self.holes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteFile for PythonFile {
    fn url(&self) -> &str {
        &self.url
    }

    fn pin(&self) -> &Pin {
        &self.pin
    }

    fn read(&self, mut buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        Box::pin(async move {
            let inside = self.pin.len.saturating_sub(offset).min(buf.len() as u64);
            if inside == buf.len() as u64 {
                return self.fill(buf, offset).await;
            }
            let mut beyond = buf.split_off(inside as usize);
            beyond.as_mut_slice().fill(0);
            if inside == 0 {
                return Ok(buf.join(beyond));
            }
            Ok(self.fill(buf, offset).await?.join(beyond))
        })
    }

    fn allocation(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<(Allocation, u64)>> {
        Box::pin(async move {
            let inside = self.pin.len.saturating_sub(offset).min(len);
            if inside == 0 {
                return Ok((Allocation::Hole, len));
            }
            if !self.has_extents {
                return Ok((Allocation::Data, inside));
            }
            if let Some(known) = self.holes().at(offset, inside) {
                return Ok(known);
            }
            let end = self.pin.len.min(offset.saturating_add(MOST));
            let (look, receiver) = Look::new(offset..end);
            let holes = self.call(look, receiver).await?;
            let found = holes.at(offset, inside).unwrap_or((Allocation::Data, inside));
            *self.holes() = holes;
            Ok(found)
        })
    }

    fn has_time_limit(&self) -> bool {
        self.limit.is_some()
    }
}

/// The memory of a read, which is taken back when the read ends in any way.
struct Memory(Arc<Read>);

impl Drop for Memory {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// Waits for the answer of a call. In a forked child it fails, and dropping it does nothing.
struct Waiting<T>(Owned<(Ticket, Receiver<Result<T>>)>);

impl<T> Future for Waiting<T> {
    type Output = Result<T>;

    fn poll(mut self: Pinned<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match self.0.get_mut() {
            Ok((_, receiver)) => Pinned::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or_else(|_| Err(lost()))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
