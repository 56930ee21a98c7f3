//! The first request: it answers what the object is, and brings its first bytes (R2).

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use fvd::remote::Pin;
use fvd::{Error, Result};
use http::StatusCode;
use tokio::select;

use super::attempt::{changed, trouble};
use super::trouble::{capital, timed_out};
use super::{Fetcher, Head, StoreState, Trouble, UNIT};
use crate::answer::{Refusal, read_head};
use crate::counters::Tally;
use crate::identity::Identity;
use crate::retry::Backoff;
use crate::store::Remote;

/// Attempts to open. A wrong name or a server that does not exist is reported soon.
pub(crate) const ATTEMPTS: u32 = 4;

impl Fetcher {
    /// For the object of `pin`, before the store has been asked.
    pub(crate) fn pinned(url: String, remote: Arc<dyn Remote>, store: Arc<StoreState>, pin: &Pin) -> Self {
        Self {
            url,
            remote,
            identity: Identity::pinned(pin),
            store,
            begun: Mutex::default(),
        }
    }

    /// Opens an object, which must be the one of `pin`. An answer begins to bring its first unit, unless it is
    /// empty.
    pub(crate) async fn open(
        url: String,
        remote: Arc<dyn Remote>,
        store: Arc<StoreState>,
        pin: Option<&Pin>,
    ) -> Result<Self> {
        let mut fetcher = Self {
            identity: pin.map_or_else(Identity::unknown, Identity::pinned),
            url,
            remote,
            store,
            begun: Mutex::default(),
        };
        let limit = fetcher.store.tuning.open_timeout;
        let clock = Arc::clone(&fetcher.store.clock);
        let (identity, head) = select! {
            biased;
            opened = fetcher.first(pin) => opened?,
            () = clock.sleep(limit) => return Err(timed_out(limit, "the server does not answer").with_path(&fetcher.url)),
        };
        fetcher.identity = identity;
        fetcher.store.succeeded();
        fetcher.begun = Mutex::new(head);
        Ok(fetcher)
    }

    async fn first(&self, pin: Option<&Pin>) -> Result<(Identity, Option<Head>)> {
        let mut failures = 0;
        loop {
            let trouble = match self.first_attempt(pin, failures > 0).await {
                Ok(opened) => return Ok(opened),
                Err(trouble) => trouble,
            };
            failures += 1;
            let is_last = failures == ATTEMPTS;
            match trouble {
                Trouble::Permanent(error) => return Err(error.with_path(&self.url)),
                Trouble::Refused { text, .. } if failures > 1 => return Err(self.error(&capital(&text))),
                Trouble::Refused { generation, text } => {
                    let renewed = self.replace_credentials(generation).await;
                    renewed.map_err(|reason| self.error(&format!("{}, and {reason}", capital(&text))))?;
                }
                Trouble::Faulty(text) => return Err(self.error(&capital(&text))),
                Trouble::Retry { text, .. } if is_last => return Err(self.error(&capital(&text))),
                Trouble::Retry { demanded, .. } => {
                    Tally::add(&self.store.tally.retries, 1);
                    let pause = Backoff::new(&self.store.tuning).pause(failures, demanded, self.store.random());
                    self.store.clock.sleep(pause).await;
                }
            }
        }
    }

    async fn first_attempt(&self, pin: Option<&Pin>, is_fresh: bool) -> Result<(Identity, Option<Head>), Trouble> {
        let generation = self.remote.generation();
        Tally::add(&self.store.tally.requests, 1);
        let expected = pin.map(|_| &self.identity);
        let sent = self.store.clock.now();
        let asked = 0..UNIT;
        let mut answer = self.limit(self.remote.get(asked.clone(), expected, is_fresh)).await??;
        let (identity, head) = match read_head(&answer, &asked, SystemTime::now()) {
            Ok(data) => (data.identity.clone(), Some(Head { answer, data, sent })),
            Err(Refusal::Empty) => (Identity::of(0, &answer.headers), None),
            Err(refusal) => {
                self.store.note(&refusal);
                let refusal = self.store.explain(refusal, &mut answer).await;
                return Err(self.first_trouble(refusal, answer.status, generation, pin).await);
            }
        };
        match pin {
            Some(pin) if !identity.is_pinned_by(pin) => Err(Trouble::Permanent(
                self.not_pinned(pin, &format!("There is now {identity}")),
            )),
            _ => Ok((identity, head)),
        }
    }

    async fn first_trouble(&self, refusal: Refusal, status: StatusCode, generation: u64, pin: Option<&Pin>) -> Trouble {
        let Some(pin) = pin else {
            return trouble(refusal, status, generation);
        };
        let found = match refusal {
            Refusal::Missing => "There is no such object any more".to_owned(),
            Refusal::Changed(_) => match self.look().await {
                Some(found) => format!("There is now {found}"),
                None => "There is another object".to_owned(),
            },
            other => return trouble(other, status, generation),
        };
        Trouble::Permanent(self.not_pinned(pin, &found))
    }

    fn not_pinned(&self, pin: &Pin, found: &str) -> Error {
        changed(&self.url, &pin.to_string(), found)
    }
}
