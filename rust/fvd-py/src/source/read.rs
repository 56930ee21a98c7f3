//! A call of `pread`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fvd::storage::IoBufMut;
use fvd::{Error, Result};
use pyo3::prelude::*;
use tokio::sync::oneshot::Receiver;
use tracing::info;

use crate::buffer::Buffer;
use crate::calls::{Answer, Raised, Work};
use crate::errors::notice;

/// What failed, for messages.
pub(super) const OP: &str = "read";

/// Whether stderr has been told of a failure, after which no read has succeeded.
#[derive(Default)]
pub(super) struct Notices(AtomicBool);

impl Notices {
    /// Prints one line for the first failure.
    fn hear(&self, url: &str, result: &Result<()>) {
        let was_told = self.0.swap(result.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (result, was_told) {
            notice(&format!("{url}: {}: clients get an error", error.reason()));
        }
    }
}

/// A call of `pread`. The memory stays with the reader: a call that is not waited for any more finds none.
pub(super) struct Read {
    url: String,
    offset: u64,
    len: usize,
    memory: Mutex<Option<IoBufMut>>,
    answer: Answer<()>,
    notices: Option<Arc<Notices>>,
}

impl Read {
    pub(super) fn new(
        url: &str,
        memory: IoBufMut,
        offset: u64,
        notices: Option<Arc<Notices>>,
    ) -> (Arc<Self>, Receiver<Result<()>>) {
        let (answer, receiver) = Answer::new();
        let read = Self {
            url: url.to_owned(),
            offset,
            len: memory.len(),
            memory: Mutex::new(Some(memory)),
            answer,
            notices,
        };
        (Arc::new(read), receiver)
    }

    /// Takes the memory back. It is not written to any more.
    pub(super) fn take(&self) -> Option<IoBufMut> {
        self.memory().take()
    }

    fn memory(&self) -> MutexGuard<'_, Option<IoBufMut>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what `pread` has returned, at once: its memory may be used again for something else.
    fn fill(&self, result: &Bound<'_, PyAny>) -> Result<()> {
        let wrong = |text: String| Error::io(OP, std::io::Error::other(text));
        let Ok(given) = Buffer::get(result) else {
            let class = result.get_type().name();
            let class = class.map_or_else(|_| "something else".to_owned(), |name| name.to_string());
            return Err(wrong(format!("pread of the source returned {class}, and not bytes")));
        };
        if given.len() != self.len {
            let (given, len) = (given.len(), self.len);
            return Err(wrong(format!(
                "pread of the source returned {given} bytes where {len} were asked for"
            )));
        }
        if let Some(memory) = &mut *self.memory() {
            memory.as_mut_slice().copy_from_slice(given.as_ref());
        }
        Ok(())
    }
}

impl Work for Read {
    fn method(&self) -> &'static str {
        "pread"
    }

    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok((self.len, self.offset).into_pyobject(py)?.into_any())
    }

    fn settle(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) {
        let result = match result {
            Ok(result) => self.fill(&result),
            Err(raised) => Err(Raised::new("pread of the source", raised.value(py)).failed(OP)),
        };
        if let Some(notices) = &self.notices {
            notices.hear(&self.url, &result);
        }
        if let Err(error) = &result {
            info!(path = %self.url, offset = self.offset, "the source failed: {}", error.reason());
        }
        self.answer.give(result);
    }

    fn refuse(&self, error: Error) {
        self.answer.give(Err(error));
    }
}
