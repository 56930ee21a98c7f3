//! The phase of a server: serving, ending or aborted. It only moves forward.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// Requests in flight are completed.
    Ending,
    /// Nothing is completed any more.
    Aborted,
}

/// Moves the server forward to `phase`. Does nothing if it has passed that phase.
pub(super) fn advance(phases: &watch::Sender<Phase>, phase: Phase) {
    phases.send_if_modified(|now| {
        let forward = *now < phase;
        *now = (*now).max(phase);
        forward
    });
}

/// Completes when the server has reached `phase`, or has been dropped.
pub(super) async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}

/// Runs `work` and returns its result, or None if the server reaches `phase` first.
pub(super) async fn until<T>(
    phases: &mut watch::Receiver<Phase>,
    phase: Phase,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut reached = pin!(reached(phases, phase));
    let mut work = pin!(work);
    poll_fn(|context| {
        if reached.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}
