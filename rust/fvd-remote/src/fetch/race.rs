//! A second request for what the first does not bring (R5).

use std::ops::Range;
use std::pin::{Pin, pin};

use tokio::select;

use super::{Fetcher, Sink, Trouble};
use crate::counters::Tally;

impl Fetcher {
    /// As [`Fetcher::attempt`], with a second attempt if the first brings no unit for long.
    pub(super) async fn race(&self, range: &Range<u64>, sink: &dyn Sink, is_fresh: bool) -> Result<(), Trouble> {
        self.store.hedges.earn();
        let mut first = pin!(self.attempt(range, sink, is_fresh));
        if let Some(ended) = self.stalls(first.as_mut(), sink).await {
            return ended;
        }
        let Some(rest) = sink.missing() else {
            return first.await;
        };
        Tally::add(&self.store.tally.hedges, 1);
        let mut second = pin!(self.attempt(&rest, sink, true));
        let (ended, other): (_, Pin<&mut (dyn Future<Output = _> + Send)>) = select! {
            biased;
            ended = &mut first => (ended, second),
            ended = &mut second => (ended, first),
        };
        match ended {
            Ok(()) | Err(Trouble::Permanent(_)) => ended,
            Err(_) => other.await,
        }
    }

    /// Waits until the attempt has ended, or brings no unit for as long as a second one would probably take.
    /// None: a second one has been paid for.
    async fn stalls(
        &self,
        mut attempt: Pin<&mut (impl Future<Output = Result<(), Trouble>> + Send)>,
        sink: &dyn Sink,
    ) -> Option<Result<(), Trouble>> {
        let store = &self.store;
        let mut seen = sink.missing().map(|rest| rest.start);
        loop {
            select! {
                biased;
                ended = &mut attempt => return Some(ended),
                () = store.clock.sleep(store.hedges.delay(&store.tuning)) => {}
            }
            let start = sink.missing().map(|rest| rest.start);
            if start == seen && sink.is_wanted() && !store.wants_pause() && store.hedges.pay() {
                return None;
            }
            seen = start;
        }
    }
}
