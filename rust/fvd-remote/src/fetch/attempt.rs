//! One request and the head of its answer.

use std::future::Future;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use fvd::Error;
use http::StatusCode;
use tokio::select;

use super::trouble::capital;
use super::{Fetcher, Sink, Trouble};
use crate::answer::{Data, Refusal, read_error, read_head};
use crate::counters::Tally;
use crate::fault::fault;
use crate::identity::Identity;
use crate::transport::{Failure, FailureKind, Response, read_up_to};

/// What is read of the body of an error, in bytes.
const ERROR_BODY: usize = 4096;

/// How long the rest of an error may take of which only the head is needed.
const ERROR_END: Duration = Duration::from_millis(100);

/// An answer that has begun, from the object that was asked for.
pub(crate) struct Head {
    pub(crate) answer: Response,
    pub(crate) data: Data,
    /// When the request was sent.
    pub(crate) sent: Duration,
}

impl Fetcher {
    /// Asks for `range` once, and puts what comes into `sink`.
    pub(super) async fn attempt(&self, range: &Range<u64>, sink: &dyn Sink, is_fresh: bool) -> Result<(), Trouble> {
        let head = self.head(range, is_fresh).await?;
        self.stream(head, range, sink).await
    }

    /// Asks for `range`. The answer comes from the object that was opened.
    async fn head(&self, range: &Range<u64>, is_fresh: bool) -> Result<Head, Trouble> {
        let generation = self.remote.generation();
        let sent = self.store.clock.now();
        Tally::add(&self.store.tally.requests, 1);
        let sending = self.remote.get(range.clone(), Some(&self.identity), is_fresh);
        let mut answer = self.limit(sending).await??;
        match read_head(&answer, range, SystemTime::now()) {
            Ok(data) if self.is_same(&data.identity) => Ok(Head { answer, data, sent }),
            Ok(data) => Err(Trouble::Permanent(self.changed(&data.identity.to_string()))),
            Err(refusal) => {
                self.store.note(&refusal);
                let refusal = self.store.explain(refusal, &mut answer).await;
                Err(self.trouble(refusal, answer.status, generation).await)
            }
        }
    }

    fn is_same(&self, identity: &Identity) -> bool {
        self.identity.is_same(identity) || fault!(AnswerUnchecked)
    }

    async fn trouble(&self, refusal: Refusal, status: StatusCode, generation: u64) -> Trouble {
        let found = match refusal {
            Refusal::Missing => "There is no such object any more".to_owned(),
            Refusal::Empty => now("0 bytes"),
            Refusal::Changed(Some(len)) => now(&format!("{len} bytes")),
            Refusal::Changed(None) => match self.look().await {
                Some(found) => now(&found.to_string()),
                None => now("another object (status 412)"),
            },
            other => return trouble(other, status, generation),
        };
        Trouble::Permanent(self.changed_to(&found))
    }

    /// What is there now, if that can be found out.
    pub(super) async fn look(&self) -> Option<Identity> {
        let answer = self.limit(self.remote.get(0..1, None, false)).await.ok()?.ok()?;
        match read_head(&answer, &(0..1), SystemTime::now()) {
            Ok(data) => Some(data.identity),
            Err(refusal) => {
                // It may want a pause.
                self.store.note(&refusal);
                None
            }
        }
    }

    fn changed(&self, found: &str) -> Error {
        self.changed_to(&now(found))
    }

    fn changed_to(&self, found: &str) -> Error {
        changed(&self.url, &self.identity.to_string(), found)
    }

    /// Waits for `future` as long as a server may be silent.
    pub(super) async fn limit<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        self.store.limit(future, self.store.tuning.progress_timeout).await
    }
}

impl super::StoreState {
    /// What the body of an error adds. It is read to its end if it is short, so that the connection can be used
    /// again.
    pub(crate) async fn explain(&self, refusal: Refusal, answer: &mut Response) -> Refusal {
        let is_needed = answer.status == StatusCode::BAD_REQUEST;
        let limit = if is_needed {
            self.tuning.progress_timeout
        } else {
            ERROR_END
        };
        let body = self.limit(read_up_to(&mut *answer.body, ERROR_BODY), limit).await;
        match body {
            Ok(Ok(body)) if is_needed => read_error(&body).unwrap_or(refusal),
            _ => refusal,
        }
    }

    pub(crate) async fn limit<T>(&self, future: impl Future<Output = T>, limit: Duration) -> Result<T, Failure> {
        select! {
            biased;
            value = future => Ok(value),
            () = self.clock.sleep(limit) => Err(Failure::new(
                FailureKind::Silent,
                format!("the server has sent nothing for {:.1} s", limit.as_secs_f64()),
            )),
        }
    }
}

fn now(what: &str) -> String {
    format!("There is now {what}")
}

/// The error of a read whose object is no longer the one that was expected.
pub(crate) fn changed(url: &str, expected: &str, found: &str) -> Error {
    let text = format!(
        "The base is no longer what it was. Expected: {expected}. {found}. `fvd amend -o backing_pin=update` accepts \
         another object"
    );
    Error::new(fvd::ErrorKind::Io, text).with_path(url)
}

/// What a refusal means that is not about which object it is.
pub(crate) fn trouble(refusal: Refusal, status: StatusCode, generation: u64) -> Trouble {
    match refusal {
        Refusal::Later(demanded) => Trouble::Retry {
            text: format!("the server answered with status {status}"),
            demanded,
        },
        Refusal::Credentials => Trouble::Refused {
            generation,
            text: format!("the server refuses access (status {status})"),
        },
        Refusal::Unfit(text) => Trouble::Permanent(Error::new(fvd::ErrorKind::Io, capital(&text))),
        Refusal::Missing | Refusal::Empty | Refusal::Changed(_) => Trouble::Permanent(Error::new(
            fvd::ErrorKind::Io,
            format!("There is no such object (status {status})"),
        )),
    }
}
