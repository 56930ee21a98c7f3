//! A disk in memory: a page cache that all processes see, and what a power cut leaves of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::schedule::Schedule;
use crate::cache::medium::ByteLock;

pub(super) const SECTOR: usize = 512;

/// How the disk fails.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// In how many of a thousand operations.
    pub(super) errors: u32,
    /// In how many of a thousand steps a process is killed.
    pub(super) kills: u32,
    /// At which step the power fails.
    pub(super) cut: Option<u32>,
}

/// The disk of a machine.
pub(super) struct Machine {
    pub(super) schedule: Schedule,
    faults: Faults,
    state: Mutex<State>,
}

/// A handle, its process, and its lock.
pub(super) type Holder = (u64, u32, ByteLock);

#[derive(Default)]
pub(super) struct State {
    pub(super) objects: BTreeMap<String, u64>,
    /// Files of objects, by the number of the object: index and data.
    pub(super) files: HashMap<u64, [File; 2]>,
    durable_names: BTreeMap<String, u64>,
    pub(super) next: u64,
    next_handle: u64,
    /// Object (0: the lock of the folder), byte -> handles with their locks.
    pub(super) locks: HashMap<(u64, u64), Vec<Holder>>,
    pub(super) time: u32,
    has_been_cut: bool,
}

#[derive(Default)]
pub(super) struct File {
    pub(super) cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    pub(super) allocated: BTreeSet<usize>,
    durable_allocated: BTreeSet<usize>,
}

pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl File {
    pub(super) fn new(len: u64) -> Self {
        Self {
            cached: vec![0; len as usize],
            durable: vec![0; len as usize],
            ..Self::default()
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        self.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        for sector in offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR) {
            self.dirty.insert(sector);
            self.allocated.insert(sector);
        }
    }

    pub(super) fn punch(&mut self, range: Range<usize>) {
        self.cached[range.clone()].fill(0);
        for sector in range.start / SECTOR..range.end.div_ceil(SECTOR) {
            self.dirty.insert(sector);
            self.allocated.remove(&sector);
        }
    }

    /// One sector reaches the disk.
    fn write_back(&mut self, sector: usize) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.cached.len());
        self.durable[range.clone()].copy_from_slice(&self.cached[range]);
        if self.allocated.contains(&sector) {
            self.durable_allocated.insert(sector);
        } else {
            self.durable_allocated.remove(&sector);
        }
        self.dirty.remove(&sector);
    }

    fn lose_power(&mut self, random: &mut fastrand::Rng) {
        for sector in std::mem::take(&mut self.dirty) {
            if random.bool() {
                self.write_back(sector);
            }
        }
        self.cached.clone_from(&self.durable);
        self.allocated.clone_from(&self.durable_allocated);
        self.dirty.clear();
    }
}

impl Machine {
    pub(super) fn new(schedule: Schedule, faults: Faults) -> Arc<Self> {
        Arc::new(Self {
            schedule,
            faults,
            state: Mutex::new(State {
                next: 1,
                ..State::default()
            }),
        })
    }

    /// The same disk for one process that meets no failures.
    pub(super) fn calm(&self) -> Arc<Self> {
        let state = std::mem::take(&mut *self.lock());
        Arc::new(Self {
            schedule: Schedule::new(0, 1),
            faults: Faults::default(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every operation begins here. False: the process is dead, and the operation has no effect.
    pub(super) fn step(&self, process: u32) -> bool {
        self.schedule.step(process);
        if !self.schedule.is_alive(process) {
            return false;
        }
        self.advance();
        if self.schedule.random(|random| random.u32(..1000)) < self.faults.kills {
            let killed = self.schedule.some_process();
            self.schedule.kill(killed);
            self.release(&[killed]);
        }
        if self.faults.cut.is_some_and(|step| self.schedule.steps() >= step) && !self.lock().has_been_cut {
            let killed = self.schedule.kill_all();
            self.release(&killed);
            self.lose_power();
        }
        if !self.schedule.is_alive(process) {
            self.schedule.step(process);
            return false;
        }
        true
    }

    /// Time passes, and something reaches the disk.
    fn advance(&self) {
        let mut state = self.lock();
        state.time += self.schedule.random(|random| random.u32(..20));
        let objects: Vec<u64> = state.files.keys().copied().collect();
        if objects.is_empty() || self.schedule.random(|random| random.u32(..4)) > 0 {
            return;
        }
        let object = self.schedule.random(|random| objects[random.usize(..objects.len())]);
        let which = self.schedule.random(|random| random.usize(..2));
        let file = &mut state.files.get_mut(&object).expect("it was there")[which];
        let dirty: Vec<usize> = file.dirty.iter().copied().collect();
        if !dirty.is_empty() {
            file.write_back(self.schedule.random(|random| dirty[random.usize(..dirty.len())]));
        }
        if self.schedule.random(|random| random.u32(..10)) == 0 {
            state.durable_names = state.objects.clone();
        }
    }

    fn lose_power(&self) {
        let mut state = self.lock();
        state.has_been_cut = true;
        self.schedule.random(|random| {
            let state = &mut *state;
            state
                .files
                .values_mut()
                .flatten()
                .for_each(|file| file.lose_power(random));
            if random.bool() {
                state.objects.clone_from(&state.durable_names);
            }
        });
    }

    fn release(&self, processes: &[u32]) {
        for holders in self.lock().locks.values_mut() {
            holders.retain(|(_, process, _)| !processes.contains(process));
        }
    }

    pub(super) fn fails(&self, write: bool) -> io::Result<()> {
        if self.schedule.random(|random| random.u32(..1000)) >= self.faults.errors {
            return Ok(());
        }
        let is_full = write && self.schedule.random(fastrand::Rng::bool);
        Err(errno(if is_full { libc::ENOSPC } else { libc::EIO }))
    }

    pub(super) fn begin(&self, process: u32, write: bool) -> io::Result<()> {
        if !self.step(process) {
            return Err(errno(libc::EIO));
        }
        self.fails(write)
    }

    pub(super) fn take(&self, object: u64, byte: u64, holder: Holder) -> bool {
        let mut state = self.lock();
        let holders = state.locks.entry((object, byte)).or_default();
        let conflicts =
            |other: &Holder| other.0 != holder.0 && (other.2 == ByteLock::Exclusive || holder.2 == ByteLock::Exclusive);
        if holders.iter().any(conflicts) {
            return false;
        }
        holders.retain(|other| other.0 != holder.0);
        holders.push(holder);
        true
    }

    pub(super) fn give_back(&self, handle: u64, object: u64, byte: Option<u64>) {
        for (key, holders) in &mut self.lock().locks {
            if key.0 == object && byte.is_none_or(|byte| byte == key.1) {
                holders.retain(|holder| holder.0 != handle);
            }
        }
    }

    pub(super) fn handle(&self) -> u64 {
        let mut state = self.lock();
        state.next_handle += 1;
        state.next_handle
    }
}
