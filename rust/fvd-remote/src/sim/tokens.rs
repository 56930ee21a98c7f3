//! Credentials of the simulated store: which were given out, which are valid, and how many may be asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::store::Store;
use crate::transport::{Failure, FailureKind};

/// Credentials that were given out.
#[derive(Default)]
pub(super) struct Tokens {
    /// Until when each is valid.
    until: BTreeMap<u64, Duration>,
    refused: BTreeSet<u64>,
    asks: u64,
    failed: u64,
    is_asked: bool,
    /// When the last question was answered.
    pub(super) answered: Duration,
}

impl Store {
    /// A process asks for new credentials.
    pub(super) async fn ask_token(self: Arc<Self>) -> Result<u64, Failure> {
        let (validity, failing) = self.case.credentials.unwrap_or((Duration::MAX / 4, 0));
        self.note("token", &[]);
        let (token, was_asked) = {
            let mut state = self.lock();
            state.tokens.asks += 1;
            (state.tokens.asks, std::mem::replace(&mut state.tokens.is_asked, true))
        };
        if was_asked && self.case.processes == 1 {
            self.violation("credentials are asked for twice at a time");
        }
        let pause = self.random(|random| random.u64(..300));
        sleep(Duration::from_millis(pause)).await;
        let fails = self.chance(failing);
        let now = self.now();
        let mut state = self.lock();
        state.tokens.is_asked = false;
        state.tokens.answered = now;
        if fails {
            state.tokens.failed += 1;
            return Err(Failure::new(FailureKind::Credentials, "there are no credentials now"));
        }
        state.tokens.until.insert(token, now.saturating_add(validity));
        Ok(token)
    }

    /// Whether a request may have what it asks for.
    pub(super) fn accepts(&self, token: Option<u64>) -> bool {
        let now = self.now();
        let Some(token) = token.filter(|_| self.case.credentials.is_some()) else {
            return self.case.credentials.is_none();
        };
        let mut state = self.lock();
        let is_valid = state.tokens.until.get(&token).is_some_and(|until| now < *until);
        if !is_valid {
            state.tokens.refused.insert(token);
        }
        is_valid
    }

    /// R8: one fetch asks for all that were refused.
    pub(super) fn check_tokens(&self) -> Result<(), String> {
        if self.case.credentials.is_none() {
            // Another host has refused what the credentials are not for.
            return Ok(());
        }
        let Tokens {
            asks,
            failed,
            ref refused,
            ..
        } = self.lock().tokens;
        let justified = self.case.processes as u64 + refused.len() as u64 + failed;
        if asks > justified {
            return Err(format!(
                "credentials were asked for {asks} times, {justified} would have been enough"
            ));
        }
        Ok(())
    }
}
