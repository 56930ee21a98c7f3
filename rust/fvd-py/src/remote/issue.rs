//! Calls of Python code that gives credentials or URLs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use fvd::{Error, Result};
use fvd_remote::Secret;
use fvd_remote::hooks::{HeaderSource, KeySource, Keys, UrlSource};
use pyo3::prelude::*;

use crate::calls::{Caller, Raised, Work};

/// A machine waits for it. As for the program of a configuration.
const LIMIT: Duration = Duration::from_secs(10);

const OP: &str = "ask for credentials";

/// What Python code gave: pairs of names and values, and until when they are valid.
type Given = (Vec<(String, String)>, Option<SystemTime>);

/// One callable of `fvd.Remote`, for one object or for all below its prefix.
pub(super) struct Hook {
    caller: Arc<Caller>,
    /// Which of the callables.
    index: usize,
    prefix: String,
    /// The object, for URLs.
    name: String,
    expires: Mutex<Option<SystemTime>>,
}

impl Hook {
    pub(super) fn new(caller: &Arc<Caller>, index: usize, prefix: &str, name: &str) -> Self {
        Self {
            caller: Arc::clone(caller),
            index,
            prefix: prefix.to_owned(),
            name: name.to_owned(),
            expires: Mutex::default(),
        }
    }

    /// Asks, and waits for the answer. Blocks.
    fn ask(&self) -> Result<Vec<(String, String)>> {
        let failed = |text: &str| {
            let text = format!("the callable for {} {text}", self.prefix);
            Error::io(OP, io::Error::other(text))
        };
        let (sender, receiver) = channel();
        let work = Arc::new(Issue {
            index: self.index,
            prefix: self.prefix.clone(),
            name: self.name.clone(),
            sender: Mutex::new(Some(sender)),
        });
        // Dropped at the end: what comes too late is not wanted any more.
        let _ticket = self.caller.call(work)?;
        let (values, expires) = wait(&receiver).map_err(failed)??;
        *self.expires.lock().unwrap_or_else(PoisonError::into_inner) = expires;
        Ok(values)
    }

    fn expires(&self) -> Option<SystemTime> {
        *self.expires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of this name, which `fvd._remote` has checked.
fn value(values: &[(String, String)], name: &str) -> Option<String> {
    let found = values.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.clone())
}

fn wait(receiver: &Receiver<Result<Given>>) -> Result<Result<Given>, &'static str> {
    receiver.recv_timeout(LIMIT).map_err(|error| match error {
        RecvTimeoutError::Timeout => "took longer than 10 s",
        RecvTimeoutError::Disconnected => "has ended without an answer",
    })
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook").field(&self.prefix).finish()
    }
}

impl HeaderSource for Hook {
    fn headers(&self) -> Result<Vec<(String, Secret)>> {
        let headers = self.ask()?.into_iter();
        Ok(headers.map(|(name, value)| (name, Secret::new(value))).collect())
    }

    fn expires(&self) -> Option<SystemTime> {
        self.expires()
    }
}

impl KeySource for Hook {
    fn keys(&self) -> Result<Keys> {
        let given = self.ask()?;
        let value = |name| value(&given, name);
        Ok(Keys {
            key_id: value("AccessKeyId").unwrap_or_default(),
            secret_key: Secret::new(value("SecretAccessKey").unwrap_or_default()),
            token: value("SessionToken").map(Secret::new),
        })
    }

    fn expires(&self) -> Option<SystemTime> {
        self.expires()
    }
}

impl UrlSource for Hook {
    fn url(&self) -> Result<String> {
        Ok(value(&self.ask()?, "url").unwrap_or_default())
    }

    fn expires(&self) -> Option<SystemTime> {
        self.expires()
    }
}

/// A call. `fvd._remote` checks what the callable returns: it answers with pairs and a time, or with a text that
/// says what is wrong.
struct Issue {
    index: usize,
    prefix: String,
    name: String,
    sender: Mutex<Option<Sender<Result<Given>>>>,
}

impl Issue {
    fn give(&self, result: Result<Given>) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // An error means that it is not waited for any more.
            let _ = sender.send(result);
        }
    }

    fn taken(&self, result: &Bound<'_, PyAny>) -> Result<Given> {
        let wrong = |text: String| Error::io(OP, io::Error::other(text));
        if let Ok(text) = result.extract::<String>() {
            return Err(wrong(format!("the callable for {} {text}", self.prefix)));
        }
        let (values, expires): (Vec<_>, Option<f64>) = result
            .extract()
            .map_err(|_: PyErr| wrong("the answer is none".to_owned()))?;
        let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?);
        Ok((values, expires.and_then(time)))
    }
}

impl Work for Issue {
    fn method(&self) -> &'static str {
        "issue"
    }

    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok((self.index, &self.name).into_pyobject(py)?.into_any())
    }

    fn settle(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) {
        let raised = |error: PyErr| {
            let who = format!("the callable for {}", self.prefix);
            Raised::new(&who, error.value(py)).failed(OP)
        };
        self.give(result.map_err(raised).and_then(|result| self.taken(&result)));
    }

    fn refuse(&self, error: Error) {
        self.give(Err(error));
    }
}
