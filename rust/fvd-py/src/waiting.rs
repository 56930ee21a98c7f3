//! Waits for a read that Ctrl-C may end (docs/design/python-code.md, "Signals").

use std::future::{Future, poll_fn};
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use fvd::tool::drive;
use fvd::{Error, Result};
use pollster::block_on;
use pyo3::prelude::*;
use tokio::sync::oneshot::{self, Sender};

use crate::calls::Within;
use crate::errors::raise;

/// Time between two looks for signals.
const INTERVAL: Duration = Duration::from_millis(200);

type Read<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Waits for `read` without the GIL. If it takes long, it goes on in a thread of its own, and signal handlers of
/// Python run here meanwhile: they may use the image. If one of them raises, `read` is dropped, and the exception
/// is returned. `read` must own its memory.
pub(crate) fn wait_for<T: Send + 'static>(
    py: Python<'_>,
    read: impl Future<Output = Result<T>> + Send + 'static,
) -> PyResult<T> {
    let mut read: Read<T> = Box::pin(read);
    if let Some(result) = py.detach(|| at_once(&mut read)) {
        return result.map_err(|error| raise(&error));
    }
    let mut elsewhere = Elsewhere::begin(read).map_err(|error| raise(&error))?;
    loop {
        if let Err(raised) = py.check_signals() {
            py.detach(|| elsewhere.give_up());
            return Err(raised);
        }
        if let Some(result) = py.detach(|| elsewhere.wait()) {
            return result.map_err(|error| raise(&error));
        }
    }
}

/// The result of a read that does not take long.
fn at_once<T>(read: &mut Read<T>) -> Option<Result<T>> {
    let mut is_late = false;
    let result = drive(poll_fn(|context| read.as_mut().poll(context)), &mut || {
        is_late = true;
        ControlFlow::Break(())
    });
    (!is_late).then_some(result)
}

/// A read in a thread of its own.
struct Elsewhere<T> {
    /// Dropping it drops the read.
    wanted: Sender<()>,
    ended: Receiver<Result<T>>,
}

impl<T: Send + 'static> Elsewhere<T> {
    fn begin(mut read: Read<T>) -> Result<Self> {
        let ((wanted, mut unwanted), (sender, ended)) = (oneshot::channel(), channel());
        let within = Within::of_this_thread();
        let run = move || {
            within.enter();
            let result = block_on(poll_fn(|context| match read.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => Pin::new(&mut unwanted).poll(context).map(|_| None),
            }));
            drop(read);
            if let Some(result) = result {
                // An error means that it is not waited for any more.
                let _ = sender.send(result);
            }
        };
        let thread = thread::Builder::new().name("fvd-read".to_owned()).spawn(run);
        thread.map_err(|error| Error::io("start a thread", error))?;
        Ok(Self { wanted, ended })
    }

    /// Waits a moment for the result.
    fn wait(&mut self) -> Option<Result<T>> {
        match self.ended.recv_timeout(INTERVAL) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let panicked = io::Error::other("its thread has ended without a result");
                Some(Err(Error::io("read", panicked)))
            }
        }
    }

    /// Drops the read. Its memory is free again when this returns, unless a file is being read at the moment.
    fn give_up(self) {
        drop(self.wanted);
        // A result, or that there will be none.
        let _ = self.ended.recv_timeout(INTERVAL);
    }
}
