//! The store, and what it sees: it decides what becomes of each request.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fvd::host::BoxFuture;
use tokio::time::Instant;

use super::answer::{Way, respond};
use super::case::{Case, Change, Lie};
use super::content::content;
use super::tokens::Tokens;
use crate::fetch::UNIT;
use crate::transport::{Failure, Request, Response, Transport};

/// The store. It has every object twice: as it was opened, and what may come after.
pub(super) struct Store {
    pub(super) case: Case,
    start: Instant,
    /// The first object, if it is not made from its number.
    first: Option<Bytes>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) random: fastrand::Rng,
    /// When all images were made.
    pinned: Option<Duration>,
    /// Whether the object was changed.
    has_changed: bool,
    /// Whether an answer has lied.
    has_lied: bool,
    /// Requests that are under way, by their number.
    active: BTreeMap<u64, Active>,
    /// Units that came from the host that the URL names.
    own: BTreeSet<(u64, u64)>,
    /// How often each unit of an object was asked for.
    asked: BTreeMap<(usize, u64, u64), u64>,
    next: u64,
    /// Requests for what nothing else brings, and second ones, of a process.
    pub(super) firsts: BTreeMap<usize, u64>,
    pub(super) seconds: BTreeMap<usize, u64>,
    /// No request of a process before this time.
    pauses: BTreeMap<usize, Duration>,
    /// Processes that open an object.
    opening: BTreeSet<usize>,
    /// When the link is free again.
    free_at: Duration,
    pub(super) tokens: Tokens,
    pub(super) violations: Vec<String>,
    /// When the first read of a process ended after the outage.
    answered: BTreeMap<usize, Duration>,
    /// How long those waited who do not read ahead, after the first seconds.
    pub(super) waits: Vec<Duration>,
    digest: u64,
    pub(super) requests: u64,
}

#[derive(Clone)]
struct Active {
    process: usize,
    object: u64,
    /// Those that were not sent yet.
    units: Range<u64>,
}

/// A request that is under way. It has ended when this is dropped.
pub(super) struct Running {
    store: Arc<Store>,
    number: u64,
}

impl Running {
    /// Everything before this byte of the object has been sent: those who lost it since may ask again.
    pub(super) fn has_sent(&self, end: u64) {
        if let Some(active) = self.store.lock().active.get_mut(&self.number) {
            active.units.start = active.units.start.max(end / UNIT);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.store.lock().active.remove(&self.number);
    }
}

/// The store, as a process reaches it.
pub(super) struct Wire {
    pub(super) store: Arc<Store>,
    pub(super) process: usize,
}

impl Transport for Wire {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, Failure>> {
        Box::pin(async move {
            let running = self.store.arrives(self.process, &request);
            respond(&self.store, self.process, &request, running).await
        })
    }
}

impl Store {
    pub(super) fn new(case: &Case) -> Arc<Self> {
        Self::make(case, None)
    }

    /// With this object as the first.
    pub(super) fn with_object(case: &Case, object: Bytes) -> Arc<Self> {
        Self::make(case, Some(object))
    }

    fn make(case: &Case, first: Option<Bytes>) -> Arc<Self> {
        Arc::new(Self {
            case: case.clone(),
            start: Instant::now(),
            first,
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(case.seed),
                pinned: None,
                has_changed: false,
                has_lied: false,
                active: BTreeMap::new(),
                own: BTreeSet::new(),
                asked: BTreeMap::new(),
                next: 0,
                firsts: BTreeMap::new(),
                seconds: BTreeMap::new(),
                pauses: BTreeMap::new(),
                opening: BTreeSet::new(),
                free_at: Duration::ZERO,
                tokens: Tokens::default(),
                violations: Vec::new(),
                answered: BTreeMap::new(),
                waits: Vec::new(),
                digest: 0,
                requests: 0,
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn random<T>(&self, decide: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        decide(&mut self.lock().random)
    }

    pub(super) fn chance(&self, in_a_thousand: u32) -> bool {
        in_a_thousand > 0 && self.random(|random| random.u32(..1000)) < in_a_thousand
    }

    pub(super) fn violation(&self, what: &str) {
        let at = self.now();
        self.lock().violations.push(format!("{what} (at {at:.3?})"));
    }

    /// Something that a run does, for the comparison of two runs.
    pub(super) fn note(&self, what: &str, numbers: &[u64]) {
        let now = self.now().as_micros() as u64;
        let mut state = self.lock();
        let bytes = what.bytes().map(u64::from).chain(numbers.iter().copied()).chain([now]);
        state.digest = bytes.fold(state.digest, |digest, number| {
            (digest.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
    }

    pub(super) fn digest(&self) -> u64 {
        self.lock().digest
    }

    /// The object as it was opened.
    pub(super) fn pinned(&self, object: u64) -> Bytes {
        match &self.first {
            Some(first) if object == 0 => first.clone(),
            _ => content(object, 0, self.case.objects[object as usize]),
        }
    }

    /// What is there now: the version, and its bytes. None: nothing.
    pub(super) fn current(&self, object: u64) -> Option<(u64, Bytes)> {
        let (_, change) = self.case.change.unwrap_or((Duration::ZERO, Change::Removed));
        if object != 0 || !self.has_changed() {
            return Some((0, self.pinned(object)));
        }
        let len = self.case.objects[0];
        match change {
            Change::Replaced => Some((1, content(object, 1, len))),
            Change::Truncated => Some((1, content(object, 1, (len / 2).max(1)))),
            Change::Removed => None,
        }
    }

    pub(super) fn has_changed(&self) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let begun = state.pinned.unwrap_or(Duration::MAX);
        let is_time = self
            .case
            .change
            .is_some_and(|(time, _)| now >= begun.saturating_add(time));
        state.has_changed |= is_time;
        state.has_changed
    }

    /// Whether it redirects now: in half of the runs only after a while.
    pub(super) fn redirects(&self) -> bool {
        let begun = self.lock().pinned.unwrap_or(Duration::MAX);
        let begins = if self.case.is_honest {
            Duration::ZERO
        } else {
            begun.saturating_add(Duration::from_millis(300))
        };
        self.now() >= begins
    }

    /// The host that the URL names sends these units.
    pub(super) fn sends(&self, object: u64, units: Range<u64>) {
        self.lock().own.extend(units.map(|unit| (object, unit)));
    }

    pub(super) fn has_sent(&self, object: u64, unit: u64) -> bool {
        self.lock().own.contains(&(object, unit))
    }

    /// From now on, what changes may change.
    pub(super) fn set_pinned(&self) {
        let now = self.now();
        self.lock().pinned = Some(now);
    }

    pub(super) fn lie(&self) -> Option<Lie> {
        let lie = self
            .case
            .lie
            .filter(|_| self.lock().pinned.is_some() && self.chance(150))?;
        self.lock().has_lied = true;
        Some(lie)
    }

    /// Whether a read may fail although the store answers.
    pub(super) fn may_fail(&self) -> bool {
        self.has_changed() || self.lock().has_lied
    }

    pub(super) fn is_away(&self) -> bool {
        let now = self.now();
        self.case
            .outage
            .is_some_and(|(begins, ends)| begins <= now && now < ends)
    }

    /// When the first read of a process ended after the outage. The one that asks has ended now.
    pub(super) fn first_answer(&self, process: usize) -> Option<Duration> {
        let (_, ends) = self.case.outage?;
        let now = self.now();
        if now < ends {
            return None;
        }
        Some(*self.lock().answered.entry(process).or_insert(now))
    }

    /// What requests get while the store is away: nothing, or at once an error.
    pub(super) fn is_silent_when_away(&self) -> bool {
        (self.case.seed / 8).is_multiple_of(3)
    }

    fn arrives(self: &Arc<Self>, process: usize, request: &Request) -> Running {
        let way = Way::of(request);
        self.note("request", &[process as u64, way.object, way.range.start, way.range.end]);
        self.check_token(process, request, &way);
        let now = self.now();
        let units = way.range.start / UNIT..way.range.end.div_ceil(UNIT);
        // A look at what is there now is no flight.
        let is_look = way.range.end - way.range.start == 1 && self.case.objects[way.object as usize] > 1;
        let mut state = self.lock();
        let others = state.active.values().filter(|other| {
            other.process == process
                && other.object == way.object
                && other.units.start < units.end
                && units.start < other.units.end
        });
        let others = others.count();
        let early = state.pauses.get(&process).is_some_and(|pause| now < *pause);
        // What waited for credentials had its turn before.
        let had_turn = self.case.credentials.is_some() && state.tokens.answered == now;
        // Where a redirect leads is asked at once, and opening has limits of its own.
        let is_early =
            early && !had_turn && !state.opening.contains(&process) && !is_look && self.case.redirect.is_none();
        if !is_look {
            let counted = if others > 0 {
                &mut state.seconds
            } else {
                &mut state.firsts
            };
            *counted.entry(process).or_default() += 1;
            for unit in units.clone() {
                *state.asked.entry((process, way.object, unit)).or_default() += 1;
            }
        }
        state.requests += 1;
        state.next += 1;
        let number = state.next;
        let most = state.active.values().filter(|other| other.process == process).count();
        if !is_look && way.host_is_store {
            let active = Active {
                process,
                object: way.object,
                units: units.clone(),
            };
            state.active.insert(number, active);
        }
        drop(state);
        if others > 1 && !is_look {
            self.violation(&format!("{} requests at once for units {units:?}", others + 1));
        }
        if most > 32 + 8 {
            self.violation(&format!("{most} requests at once"));
        }
        if is_early {
            self.violation("a request although the store wants a pause");
        }
        let store = Arc::clone(self);
        Running { store, number }
    }

    /// R7: no credential goes to another host.
    fn check_token(&self, process: usize, request: &Request, way: &Way) {
        if !way.host_is_store && request.headers.contains_key("x-token") {
            self.violation(&format!("process {process} sends its token to another host"));
        }
    }

    /// The store wants no request of this process for a while.
    pub(super) fn demand_pause(&self, process: usize, pause: Duration) {
        let until = self.now() + pause;
        let mut state = self.lock();
        let before = state.pauses.entry(process).or_default();
        *before = until.max(*before);
    }

    pub(super) fn set_opening(&self, process: usize, is_opening: bool) {
        let mut state = self.lock();
        if is_opening {
            state.opening.insert(process);
        } else {
            state.opening.remove(&process);
        }
    }

    /// When the next `bytes` have come through the link.
    pub(super) fn transfer(&self, bytes: usize) -> Duration {
        let Some(rate) = self.case.weather.rate else {
            return Duration::ZERO;
        };
        let now = self.now();
        let mut state = self.lock();
        let time = Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate);
        state.free_at = state.free_at.max(now) + time;
        state.free_at.saturating_sub(now)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lock().active.is_empty()
    }

    /// How often a unit was asked for, of each process and object.
    pub(super) fn asked(&self) -> BTreeMap<(usize, u64, u64), u64> {
        self.lock().asked.clone()
    }
}
