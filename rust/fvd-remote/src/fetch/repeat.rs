//! Attempts and pauses, until all that is wanted has come, or no attempt helps.

use std::time::Duration;

use fvd::Result;
use tokio::select;

use super::trouble::faulty;
use super::{Sink, Source, StoreState, Trouble};
use crate::counters::Tally;
use crate::fault::fault;
use crate::retry::Backoff;

/// How long a server may answer with errors of its disk before readers get one.
const FAULT_LIMIT: Duration = Duration::from_secs(5);

/// The failures of one fetch.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    /// When the server began to answer with errors of its disk.
    faulty_since: Option<Duration>,
    /// Whether credentials were refused, and replaced, before.
    is_refused: bool,
}

/// Fills `sink`. None: what is missing is no longer wanted.
pub(crate) async fn fetch(source: &dyn Source, sink: &dyn Sink) -> Option<Result<()>> {
    Repeat { source }.fetch(sink).await
}

struct Repeat<'a> {
    source: &'a dyn Source,
}

impl Repeat<'_> {
    async fn fetch(&self, sink: &dyn Sink) -> Option<Result<()>> {
        let mut failures = Failures::default();
        while let Some(range) = sink.missing() {
            let ended = {
                let _permit = self.permit(sink).await;
                self.source.attempt(&range, sink, failures.in_a_row > 0).await
            };
            let Some(rest) = sink.missing() else { break };
            let has_progressed = rest.start != range.start;
            if has_progressed {
                // Something has come, so the server is there.
                failures = Failures::default();
            }
            let trouble = match ended {
                // A shorter range than was asked for is allowed.
                Ok(()) if has_progressed => continue,
                Ok(()) => Trouble::Retry {
                    text: "the server sends less than a unit (256 KiB) at a time".to_owned(),
                    demanded: None,
                },
                Err(trouble) => trouble,
            };
            if !sink.is_wanted() && !matches!(trouble, Trouble::Permanent(_)) {
                return None;
            }
            if let Err(error) = self.recover(trouble, &mut failures, sink).await {
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    /// Waits until a request can be sent.
    async fn permit(&self, sink: &dyn Sink) -> Box<dyn Send> {
        let store = self.source.store();
        loop {
            // First: a store that wants a pause holds up no other.
            wait_for_turn(store, sink).await;
            let permit = sink.admit().await;
            // It may want one since then.
            if !store.wants_pause() {
                return permit;
            }
        }
    }

    /// Waits until another attempt makes sense. Fails if none does.
    async fn recover(&self, trouble: Trouble, failures: &mut Failures, sink: &dyn Sink) -> Result<()> {
        let store = self.source.store();
        let tuning = &store.tuning;
        failures.in_a_row += 1;
        if fault!(WaitGivesUp) && failures.in_a_row > 5 {
            return Err(faulty("too many failures"));
        }
        let backoff = Backoff::new(tuning);
        let (text, pause) = match trouble {
            Trouble::Permanent(error) => return Err(error.with_path(self.source.url())),
            Trouble::Retry { text, demanded } => {
                store.failed(&text, demanded);
                (text, backoff.pause(failures.in_a_row, demanded, store.random()))
            }
            Trouble::Faulty(text) => {
                let now = store.clock.now();
                let since = *failures.faulty_since.get_or_insert(now);
                let left = FAULT_LIMIT.saturating_sub(now.saturating_sub(since));
                if left.is_zero() {
                    return Err(faulty(&text).with_path(self.source.url()));
                }
                let pause = backoff.pause(failures.in_a_row, None, store.random());
                (text, pause.min(left))
            }
            Trouble::Refused { generation, text } => {
                if failures.is_refused {
                    // Those that replaced them are refused, too. Others are asked for after the pause: they may
                    // be valid for less time than it takes.
                    store.failed(&text, None);
                    let pause = tuning.refused_pause.mul_f64(0.5 + store.random() / 2.0);
                    self.pause(&text, pause, sink).await;
                }
                let renewed = self.source.renew(generation).await;
                failures.is_refused = renewed.is_ok();
                let Err(reason) = renewed else { return Ok(()) };
                store.failed(&reason, None);
                let text = format!("{text}, and {reason}");
                (text, backoff.pause(failures.in_a_row, None, store.random()))
            }
        };
        self.pause(&text, pause, sink).await;
        Ok(())
    }

    /// A pause between two attempts. It ends early when the store answers another request, and for a reader who
    /// comes after all others have given up: each read gets an attempt.
    async fn pause(&self, text: &str, pause: Duration, sink: &dyn Sink) {
        let store = self.source.store();
        Tally::add(&store.tally.retries, 1);
        tracing::debug!(url = %self.source.url(), reason = text, pause_ms = pause.as_millis() as u64, "a request is sent again");
        let _waiting = store.tally.wait();
        select! {
            // In a fixed order, so that the simulator's runs are those of their seeds.
            biased;
            () = store.clock.sleep(pause) => {}
            () = sink.asked_again() => {}
            () = store.health.answers(), if !fault!(AnswerUnnoticed) => {
                // Not all at the same moment.
                store.clock.sleep(store.tuning.backoff_base.mul_f64(store.random())).await;
            }
        }
    }
}

/// Waits while the server wants no requests, or not so many of those that no reader waits for.
pub(crate) async fn wait_for_turn(store: &StoreState, sink: &dyn Sink) {
    wait_for_pause(store).await;
    select! {
        biased;
        () = sink.demanded() => {}
        () = wait_for_pace(store) => {}
    }
}

async fn wait_for_pace(store: &StoreState) {
    let wait = store.pace().turn(store.clock.now());
    if !wait.is_zero() {
        store.clock.sleep(wait).await;
    }
}

async fn wait_for_pause(store: &StoreState) {
    let pause = store.health.pause(store.clock.now());
    if !pause.is_zero() && !fault!(PauseForOne) {
        let _waiting = store.tally.wait();
        // Not all at the same moment.
        let jitter = store.tuning.backoff_base.mul_f64(store.random());
        store.clock.sleep(pause + jitter).await;
    }
}
