//! Flights and the host cache: what is there is not fetched, and what is fetched goes there.

use std::collections::HashMap;
use std::future::ready;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fvd::Result;
use fvd::host::BoxFuture;

use super::flight::Flight;
use crate::cache::{Cached, Lead};
use crate::fault::fault;
use crate::fetch::{Sink, Source, StoreState, UNIT, fetch, wait_for_turn};

/// Between two looks at what another process fetches.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
];
/// How long another process may take to fetch a unit: as long as several requests of this one usually take,
/// within these bounds.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));

/// When to look again, and for how long.
pub(super) struct Patience {
    left: Duration,
    looks: usize,
}

impl Patience {
    pub(super) fn new(store: &StoreState) -> Self {
        let usual = store.hedges.delay(&store.tuning);
        Self {
            left: (usual * 8).clamp(PATIENCE.0, PATIENCE.1),
            looks: 0,
        }
    }

    /// Waits before the next look. False: it has taken too long.
    pub(super) async fn wait(&mut self, store: &StoreState) -> bool {
        let pause = PAUSES[self.looks.min(PAUSES.len() - 1)];
        self.looks += 1;
        let is_left = pause <= self.left;
        self.left = self.left.saturating_sub(pause);
        store.clock.sleep(pause).await;
        is_left
    }
}

/// As [`fetch`], by way of the cache. `begun`: an answer brings the units already, and these no other process
/// fetches.
pub(super) async fn fill(
    source: &dyn Source,
    cached: &Arc<Cached>,
    flight: &Flight,
    begun: Option<Vec<Lead>>,
) -> Option<Result<()>> {
    if let Some(leads) = begun {
        let part = Part::new(source, flight, cached, flight.units(), leads, None);
        return fetch(source, &part).await;
    }
    let store = source.store();
    for (unit, bytes) in cached.find(flight.missing_units()).await {
        flight.bring(unit, &bytes);
    }
    if source.has_left_host() && !fault!(OtherHostStored) {
        return fetch(source, flight).await;
    }
    // The pause of a store, memory and a turn come before the lock: no other process waits for them.
    let mut permit = None;
    let mut patience = Patience::new(store);
    loop {
        let missing = flight.missing_units();
        let (Some(&first), Some(&last)) = (missing.first(), missing.last()) else {
            return Some(Ok(()));
        };
        if permit.is_none() && patience.looks == 0 {
            wait_for_turn(store, flight).await;
            permit = Some(flight.admit().await);
        }
        let elected = cached.elect(missing).await;
        for (unit, bytes) in elected.found {
            flight.bring(unit, &bytes);
        }
        if elected.is_unusable {
            let part = Part::new(source, flight, cached, first..last + 1, Vec::new(), permit.take());
            return fetch(source, &part).await;
        }
        let has_led = !elected.leads.is_empty();
        for (units, leads) in runs(elected.leads) {
            let part = Part::new(source, flight, cached, units, leads, permit.take());
            match fetch(source, &part).await {
                Some(Ok(())) => {}
                ended => return ended,
            }
        }
        permit = None;
        if has_led || elected.others.is_empty() {
            continue;
        }
        if !flight.is_wanted() {
            return None;
        }
        if !patience.wait(store).await {
            let part = Part::new(source, flight, cached, first..last + 1, Vec::new(), None);
            return fetch(source, &part).await;
        }
    }
}

/// Neighbours together.
fn runs(leads: Vec<Lead>) -> Vec<(Range<u64>, Vec<Lead>)> {
    let mut runs: Vec<(Range<u64>, Vec<Lead>)> = Vec::new();
    for lead in leads {
        match runs.last_mut() {
            Some((units, leads)) if units.end == lead.unit => {
                units.end += 1;
                leads.push(lead);
            }
            _ => runs.push((lead.unit..lead.unit + 1, vec![lead])),
        }
    }
    runs
}

/// Some units of a flight, on their way to the cache as well.
struct Part<'a> {
    source: &'a dyn Source,
    flight: &'a Flight,
    cached: &'a Arc<Cached>,
    units: Range<u64>,
    leads: Mutex<HashMap<u64, Lead>>,
    /// For the first attempt.
    permit: Mutex<Option<Box<dyn Send>>>,
}

impl<'a> Part<'a> {
    fn new(
        source: &'a dyn Source,
        flight: &'a Flight,
        cached: &'a Arc<Cached>,
        units: Range<u64>,
        leads: Vec<Lead>,
        permit: Option<Box<dyn Send>>,
    ) -> Self {
        Self {
            source,
            flight,
            cached,
            units,
            leads: Mutex::new(leads.into_iter().map(|lead| (lead.unit, lead)).collect()),
            permit: Mutex::new(permit),
        }
    }
}

impl Part<'_> {
    fn permit(&self) -> MutexGuard<'_, Option<Box<dyn Send>>> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Part<'_> {
    fn missing(&self) -> Option<Range<u64>> {
        let range = self.flight.missing_in(self.units.clone())?;
        (range.start < self.units.end * UNIT).then_some(range)
    }

    fn demanded(&self) -> BoxFuture<'_, ()> {
        if self.permit().is_some() {
            // It has had its turn.
            return Box::pin(ready(()));
        }
        self.flight.demanded()
    }

    fn asked_again(&self) -> BoxFuture<'_, ()> {
        self.flight.asked_again()
    }

    fn put(&self, index: u64, unit: Bytes) {
        // Before a reader has the unit: one who closes the file then waits until it is stored.
        let storing = self.cached.storing();
        self.flight.put(index, unit.clone());
        let lead = self.leads.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
        if let Some(lead) = lead.filter(|_| !self.source.has_left_host() || fault!(OtherHostStored)) {
            // Until it is stored, the memory has it.
            let forget = self.flight.forget_later(index);
            self.cached.store(lead, unit, storing, forget);
        }
    }

    fn is_wanted(&self) -> bool {
        self.flight.is_wanted()
    }

    fn admit(&self) -> BoxFuture<'_, Box<dyn Send>> {
        let permit = self.permit().take();
        match permit {
            Some(permit) => Box::pin(async { permit }),
            None => self.flight.admit(),
        }
    }
}
