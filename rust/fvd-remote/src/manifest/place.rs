//! Gets parts of sidecars: small objects next to a template.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use fvd::{Error, ErrorKind, Result};
use tokio::select;

use crate::answer::{Refusal, read_head};
use crate::counters::Tally;
use crate::fetch::{ATTEMPTS, StoreState, Trouble, capital, timed_out, trouble};
use crate::retry::Backoff;
use crate::store::Remote;

/// Where an object is. Nothing says which one it must be: who reads it checks that.
pub(crate) struct Place {
    /// The URL without credentials, for messages.
    pub(crate) url: String,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) store: Arc<StoreState>,
}

/// Some bytes of an object.
pub(crate) struct Part {
    /// Length of the object in bytes.
    pub(crate) total: u64,
    /// From where they were asked for. Fewer than that at the end of the object, or where `is_enough` said so.
    pub(crate) bytes: Vec<u8>,
}

/// What a few attempts came to.
pub(crate) enum Asked {
    Part(Part),
    /// The server has answered that there is none.
    Nothing(Error),
    /// The server does not tell: it refuses access. Some do so for what is not there.
    Hidden(Error),
}

impl Place {
    /// Asks once. Reads no further when `is_enough` says of the bytes so far that they are enough.
    pub(crate) async fn get(
        &self,
        range: Range<u64>,
        is_fresh: bool,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<Part, Trouble> {
        let store = &self.store;
        let limit = store.tuning.progress_timeout;
        let generation = self.remote.generation();
        Tally::add(&store.tally.requests, 1);
        let sending = self.remote.get(range.clone(), None, is_fresh);
        let mut answer = store.limit(sending, limit).await??;
        let data = match read_head(&answer, &range, SystemTime::now()) {
            Ok(data) => data,
            Err(refusal) => {
                let refusal = store.explain(refusal, &mut answer).await;
                return Err(trouble(empty_is_missing(refusal), answer.status, generation));
            }
        };
        // A server that does not honour ranges sends all of a small object.
        let mut before = (range.start - data.range.start.min(range.start)) as usize;
        let len = (range.end.min(data.range.end) - range.start) as usize;
        let mut bytes = Vec::new();
        while bytes.len() < len && !is_enough(&bytes) {
            let Some(piece) = store.limit(answer.body.next(), limit).await?? else {
                return Err(Trouble::Retry {
                    text: "the answer ended too early".to_owned(),
                    demanded: None,
                });
            };
            Tally::add(&store.tally.bytes, piece.len() as u64);
            let skipped = before.min(piece.len());
            before -= skipped;
            bytes.extend_from_slice(&piece[skipped..]);
        }
        if bytes.len() >= len {
            // The end of the answer, so that the connection can be used again. Nothing depends on it.
            _ = store.limit(answer.body.next(), limit).await;
        }
        bytes.truncate(len);
        store.succeeded();
        Ok(Part {
            total: data.identity.len,
            bytes,
        })
    }

    /// Asks until there is an answer, a few times. With `is_needed`, refused credentials are replaced, and what is
    /// not there is an error.
    pub(crate) async fn ask(
        &self,
        range: Range<u64>,
        is_needed: bool,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<Asked> {
        let limit = self.store.tuning.open_timeout;
        select! {
            biased;
            asked = self.ask_again(range, is_needed, is_enough) => asked.map_err(|error| error.with_path(&self.url)),
            () = self.store.clock.sleep(limit) => {
                Err(timed_out(limit, "the server does not answer").with_path(&self.url))
            }
        }
    }

    async fn ask_again(&self, range: Range<u64>, is_needed: bool, is_enough: impl Fn(&[u8]) -> bool) -> Result<Asked> {
        let mut failures = 0;
        loop {
            let trouble = match self.get(range.clone(), failures > 0, &is_enough).await {
                Ok(part) => return Ok(Asked::Part(part)),
                Err(trouble) => trouble,
            };
            failures += 1;
            match trouble {
                Trouble::Permanent(error) if is_needed => return Err(error),
                Trouble::Permanent(error) => return Ok(Asked::Nothing(error)),
                Trouble::Refused { generation, .. } if is_needed && failures == 1 => {
                    let renewed = self.remote.refresh(generation).await;
                    renewed.map_err(|failure| failed(&failure.text))?;
                }
                Trouble::Refused { text, .. } if is_needed => return Err(failed(&text)),
                Trouble::Refused { text, .. } => return Ok(Asked::Hidden(failed(&text))),
                Trouble::Faulty(text) => return Err(failed(&text)),
                Trouble::Retry { text, .. } if failures == ATTEMPTS => return Err(failed(&text)),
                Trouble::Retry { demanded, .. } => {
                    Tally::add(&self.store.tally.retries, 1);
                    let pause = Backoff::new(&self.store.tuning).pause(failures, demanded, self.store.random());
                    self.store.clock.sleep(pause).await;
                }
            }
        }
    }
}

/// An empty object is no manifest and no profile.
fn empty_is_missing(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Empty => Refusal::Missing,
        other => other,
    }
}

fn failed(text: &str) -> Error {
    Error::new(ErrorKind::Io, capital(text))
}
