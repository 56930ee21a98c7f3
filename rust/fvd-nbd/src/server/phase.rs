//! How far a server is in its life: serving, ending, aborted. It only moves forward.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// What is under way ends.
    Ending,
    /// Nothing is waited for.
    Aborted,
}

/// Moves the server to `phase`, never back.
pub(super) fn advance(phases: &watch::Sender<Phase>, phase: Phase) {
    phases.send_if_modified(|now| {
        let forward = *now < phase;
        *now = (*now).max(phase);
        forward
    });
}

/// Ready when the server has come to `phase`. That it is gone counts as well.
pub(super) async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}

/// What `work` gives; None if the server comes to `phase` before.
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
