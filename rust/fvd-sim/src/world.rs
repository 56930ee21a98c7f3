//! All disks of one image, and their operations in flight.
//!
//! A disk has a *durable* content, as of the last completed sync, and a *current* content, which reads see.
//! For each sector it also has the versions between the two. A sync covers the operations that had completed
//! when it was submitted. Every submission and every completion is a step, and a power cut can come between
//! any two steps.

mod cache;
mod clock;
mod faults;
mod flight;
mod land;
mod process;
mod trace;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use fvd::Error;
use fvd::storage::IoBufMut;

use crate::fault::{Faults, Hangs, Lie};
use crate::medium::{Medium, SECTOR};

pub(crate) use cache::Disk;
pub use clock::SimClock;
use clock::Timers;
pub(crate) use flight::{Action, Flight};
use trace::Trace;

/// Index of a disk in its world.
pub(crate) type DiskId = usize;

/// The base among the disks of a [`Rig`](crate::rig::Rig).
const BASE: DiskId = 1;

/// How seldom an operation that hangs, or one of a base that is far away, completes before others.
const HANGING: u8 = 64;
const FAR: u8 = 8;

/// The result of an operation. A read returns its buffer.
pub(crate) type Outcome = fvd::Result<Option<IoBufMut>>;

/// A handle to the disks and their operations. Clones are handles to the same world.
#[derive(Clone, Default)]
pub struct World(Arc<Mutex<State>>);

/// The result of an operation whose task has not polled it yet.
struct Finished {
    outcome: Outcome,
    /// The disk of a failed sync.
    failed_sync: Option<DiskId>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) rng: fastrand::Rng,
    /// If set, operations wait for [`World::complete_one`]. Otherwise they complete at once.
    queueing: bool,
    pub(crate) disks: Vec<Disk>,
    pub(crate) flights: Vec<Flight>,
    finished: BTreeMap<u64, Finished>,
    step: u64,
    /// Counts the changes that can affect what a power cut leaves.
    pub(crate) changes: u64,
    operations: u64,
    syncs: u64,
    pub(crate) faults: Faults,
    base_latency: Duration,
    hangs: Option<Hangs>,
    lie: Lie,
    /// The power is gone: dropping an operation no longer has an effect.
    dead: bool,
    timers: Timers,
    trace: Trace,
    digest: u64,
}

impl World {
    /// A world whose operations complete at once.
    #[must_use]
    pub fn immediate() -> Self {
        Self::default()
    }

    /// A world whose random decisions depend only on `seed`. Operations complete at once until
    /// [`World::set_queueing`].
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let world = Self::default();
        world.state().rng = fastrand::Rng::with_seed(seed);
        world
    }

    /// Sets whether operations wait for [`World::complete_one`].
    pub fn set_queueing(&self, queueing: bool) {
        self.state().queueing = queueing;
    }

    /// Injects these errors from now on. Counting of operations restarts.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        state.operations = 0;
    }

    /// From now on the medium breaks its contract in this way. Counting of syncs restarts.
    pub fn set_lie(&self, lie: Lie) {
        let mut state = self.state();
        state.lie = lie;
        state.syncs = 0;
    }

    /// Number of steps so far: submissions and completions.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.state().step
    }

    /// A counter that grows with every change that can affect what a power cut leaves.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Number of operations completed since the last [`World::set_faults`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether an operation is in flight.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.state().flights.is_empty()
    }

    /// Whether metadata has been written, or is being written, that no sync has made durable yet.
    #[must_use]
    pub fn has_unsynced_metadata(&self) -> bool {
        let state = self.state();
        let Some(image) = state.disks.first() else {
            return false;
        };
        let written = image.pending.keys().next();
        let flying = |flight: &Flight| flight.disk == 0 && flight.changes_content() && flight.offset < image.data_start;
        written.is_some_and(|sector| sector * SECTOR < image.data_start) || state.flights.iter().any(flying)
    }

    /// Completes one operation in flight, picked at random. Returns false if there is none.
    #[must_use]
    pub fn complete_one(&self) -> bool {
        let waker = {
            let mut state = self.state();
            if state.flights.is_empty() {
                return false;
            }
            let index = state.next_to_complete();
            let mut flight = state.flights.swap_remove(index);
            let waker = flight.waker.take();
            let (id, disk) = (flight.id, flight.disk);
            let is_sync = matches!(flight.action, Action::Sync);
            let outcome = state.complete(flight);
            let failed_sync = (is_sync && outcome.is_err()).then_some(disk);
            state.finished.insert(id, Finished { outcome, failed_sync });
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Sets the minimum time that a read of the base takes. Other operations mostly overtake such a read.
    pub fn set_base_latency(&self, latency: Duration) {
        self.state().base_latency = latency;
    }

    /// From now on, these operations hang.
    pub fn set_hangs(&self, hangs: Option<Hangs>) {
        self.state().hangs = hangs;
    }

    /// Cuts the power: from now on, dropping tasks has no effect on the disks.
    pub fn kill(&self) {
        self.state().dead = true;
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_disk(&self, path: PathBuf, medium: Medium, is_device: bool) -> DiskId {
        let mut state = self.state();
        state.disks.push(Disk::new(path, medium, is_device));
        state.disks.len() - 1
    }
}

impl State {
    /// Starts an operation. Returns its number, and the result if it completes at once.
    pub(crate) fn submit(&mut self, disk: DiskId, action: Action, offset: u64) -> (u64, Option<Outcome>) {
        self.step += 1;
        let id = self.step;
        self.note("submit", disk, &action, offset);
        if !matches!(action, Action::Read(_)) {
            self.changes += 1;
        }
        let mut flight = Flight {
            id,
            disk,
            hangs: false,
            submitted: id,
            began: self.timers.now(),
            snapshot: matches!(action, Action::Sync).then(|| self.disks[disk].current.clone()),
            action,
            offset,
            waker: None,
        };
        if !self.queueing {
            return (id, Some(self.complete(flight)));
        }
        flight.hangs = self.is_to_hang(&flight);
        self.flights.push(flight);
        (id, None)
    }

    fn is_to_hang(&mut self, flight: &Flight) -> bool {
        let data_start = self.disks[flight.disk].data_start;
        let hangs = self
            .hangs
            .filter(|hangs| flight.moves() && flight.is_hit(hangs.target, data_start));
        hangs.is_some_and(|hangs| self.rng.u32(..hangs.one_in) == 0)
    }

    /// The result of an operation. `None`: it is in flight and will wake `waker`.
    pub(crate) fn poll(&mut self, id: u64, waker: &Waker) -> Option<Outcome> {
        if let Some(finished) = self.finished.remove(&id) {
            return Some(finished.outcome);
        }
        let flight = self.flights.iter_mut().find(|flight| flight.id == id);
        flight.expect("an operation is in flight until it is finished").waker = Some(waker.clone());
        None
    }

    /// The task has dropped the operation. The operation ends now, done in part; nothing of it arrives later.
    pub(crate) fn cancel(&mut self, id: u64) {
        if self.dead {
            return;
        }
        if let Some(disk) = self.finished.remove(&id).and_then(|finished| finished.failed_sync) {
            // No task has seen this failure, so the next sync reports it.
            self.disks[disk].unseen_failure = true;
        }
        if let Some(index) = self.flights.iter().position(|flight| flight.id == id) {
            let flight = self.flights.swap_remove(index);
            self.step += 1;
            self.changes += 1;
            if !matches!(flight.action, Action::Sync) {
                self.land_in_part(&flight);
            }
        }
    }

    /// Picks an operation at random. One that is slow seldom completes before others.
    fn next_to_complete(&mut self) -> usize {
        let count = self.flights.len();
        let index = self.rng.usize(..count);
        let Some(patience) = self.patience(&self.flights[index]) else {
            return index;
        };
        if self.rng.u8(..patience) == 0 {
            return index;
        }
        let fast = (0..count).filter(|&index| self.patience(&self.flights[index]).is_none());
        let fast: Vec<usize> = fast.collect();
        self.rng.choice(&fast).copied().unwrap_or(index)
    }

    /// For a slow operation: one in how many times it completes when it is picked. `None`: it is not slow.
    fn patience(&self, flight: &Flight) -> Option<u8> {
        match flight {
            flight if flight.hangs => Some(HANGING),
            flight if flight.disk == BASE && !self.base_latency.is_zero() => Some(FAR),
            _ => None,
        }
    }

    fn complete(&mut self, flight: Flight) -> Outcome {
        self.step += 1;
        self.operations += 1;
        self.pass_time();
        if flight.disk == BASE && matches!(flight.action, Action::Read(_)) {
            self.timers.pass_until(flight.began + self.base_latency);
        }
        self.note("complete", flight.disk, &flight.action, flight.offset);
        if !matches!(flight.action, Action::Read(_)) {
            self.changes += 1;
        }
        if let Some(errno) = self.fault(&flight) {
            self.tell(|| format!("          fails: error {errno}"));
            // A failed operation must not make a file longer than the limit either.
            if errno != libc::EFBIG {
                self.land_in_part(&flight);
            }
            let error = Error::io(flight.action.name(), std::io::Error::from_raw_os_error(errno));
            return Err(error
                .with_path(&self.disks[flight.disk].path)
                .with_offset(flight.offset));
        }
        match flight.action {
            Action::Read(buf) => return Ok(buf.map(|buf| self.read(flight.disk, buf, flight.offset))),
            Action::Sync => self.finish_sync(flight),
            _ => self.land(&flight, |_| true),
        }
        Ok(None)
    }

    /// Drops the first `len` bytes of a disk from its cache, except dirty sectors.
    pub(crate) fn drop_cached(&mut self, disk: DiskId, len: u64) {
        self.changes += 1;
        self.disks[disk].drop_cached(len / SECTOR, &mut self.rng);
    }

    /// Reads the current content. Each sector is from before or after the writes that are in flight.
    fn read(&mut self, disk: DiskId, mut buf: IoBufMut, offset: u64) -> IoBufMut {
        let end = offset + buf.len() as u64;
        let racing = self
            .flights
            .iter()
            .any(|flight| flight.disk == disk && flight.touches(offset, end));
        if !racing {
            self.disks[disk].current.read(buf.as_mut_slice(), offset);
            return buf;
        }
        let mut view = self.disks[disk].current.clone();
        for flight in self
            .flights
            .iter()
            .filter(|flight| flight.disk == disk && flight.touches(offset, end))
        {
            let sectors = flight.sectors();
            for sector in sectors.start.max(offset / SECTOR)..sectors.end.min(end.div_ceil(SECTOR)) {
                if self.rng.bool() {
                    flight.patch(&mut view, sector);
                }
            }
        }
        view.read(buf.as_mut_slice(), offset);
        buf
    }
}
