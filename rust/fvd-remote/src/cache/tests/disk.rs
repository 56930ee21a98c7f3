//! A disk in memory: a page cache that all processes see, and what a power cut leaves of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::schedule::Schedule;
use crate::cache::medium::{ByteLock, Files, Medium, Sizes, Waiting, Which};

const SECTOR: usize = 512;

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

#[derive(Default)]
struct State {
    objects: BTreeMap<String, u64>,
    /// Files of objects, by the number of the object: index and data.
    files: HashMap<u64, [File; 2]>,
    durable_names: BTreeMap<String, u64>,
    next: u64,
    next_handle: u64,
    /// Object (0: the lock of the folder), byte -> handles with their locks.
    locks: HashMap<(u64, u64), Vec<(u64, u32, ByteLock)>>,
    time: u32,
    has_been_cut: bool,
}

#[derive(Default)]
struct File {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    allocated: BTreeSet<usize>,
    durable_allocated: BTreeSet<usize>,
}

/// The disk, as one process sees it.
pub(super) struct View {
    machine: Arc<Machine>,
    process: u32,
}

struct Open {
    machine: Arc<Machine>,
    process: u32,
    object: u64,
    handle: u64,
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl File {
    fn new(len: u64) -> Self {
        Self {
            cached: vec![0; len as usize],
            durable: vec![0; len as usize],
            ..Self::default()
        }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        self.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        for sector in offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR) {
            self.dirty.insert(sector);
            self.allocated.insert(sector);
        }
    }

    fn punch(&mut self, range: Range<usize>) {
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

    pub(super) fn view(self: &Arc<Self>, process: u32) -> Arc<dyn Medium> {
        let machine = Arc::clone(self);
        Arc::new(View { machine, process })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every operation begins here. False: the process is dead, and the operation has no effect.
    fn step(&self, process: u32) -> bool {
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

    fn fails(&self, write: bool) -> io::Result<()> {
        if self.schedule.random(|random| random.u32(..1000)) >= self.faults.errors {
            return Ok(());
        }
        let is_full = write && self.schedule.random(fastrand::Rng::bool);
        Err(errno(if is_full { libc::ENOSPC } else { libc::EIO }))
    }

    fn begin(&self, process: u32, write: bool) -> io::Result<()> {
        if !self.step(process) {
            return Err(errno(libc::EIO));
        }
        self.fails(write)
    }

    fn take(&self, object: u64, byte: u64, holder: (u64, u32, ByteLock)) -> bool {
        let mut state = self.lock();
        let holders = state.locks.entry((object, byte)).or_default();
        let conflicts = |other: &(u64, u32, ByteLock)| {
            other.0 != holder.0 && (other.2 == ByteLock::Exclusive || holder.2 == ByteLock::Exclusive)
        };
        if holders.iter().any(conflicts) {
            return false;
        }
        holders.retain(|other| other.0 != holder.0);
        holders.push(holder);
        true
    }

    fn give_back(&self, handle: u64, object: u64, byte: Option<u64>) {
        for (key, holders) in &mut self.lock().locks {
            if key.0 == object && byte.is_none_or(|byte| byte == key.1) {
                holders.retain(|holder| holder.0 != handle);
            }
        }
    }

    fn handle(&self) -> u64 {
        let mut state = self.lock();
        state.next_handle += 1;
        state.next_handle
    }
}

impl Medium for View {
    fn names(&self) -> io::Result<Vec<String>> {
        self.machine.begin(self.process, false)?;
        Ok(self.machine.lock().objects.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Files>>> {
        self.machine.begin(self.process, false)?;
        let Some(object) = self.machine.lock().objects.get(name).copied() else {
            return Ok(None);
        };
        Ok(Some(Box::new(Open {
            machine: Arc::clone(&self.machine),
            process: self.process,
            object,
            handle: self.machine.handle(),
        })))
    }

    fn create(&self, name: &str, header: &[u8], sizes: Sizes) -> io::Result<()> {
        self.machine.begin(self.process, true)?;
        let mut state = self.machine.lock();
        if state.objects.contains_key(name) {
            return Ok(());
        }
        let number = state.next;
        state.next += 1;
        let mut index = File::new(sizes.index);
        index.write(header, 0);
        state.files.insert(number, [index, File::new(sizes.data)]);
        state.objects.insert(name.to_owned(), number);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.machine.begin(self.process, true)?;
        self.machine.lock().objects.remove(name);
        Ok(())
    }

    fn sweep(&self) -> io::Result<()> {
        self.machine.begin(self.process, true)
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        self.machine.begin(self.process, false)?;
        let handle = self.machine.handle();
        let is_ours = self.machine.take(0, 0, (handle, self.process, ByteLock::Exclusive));
        let machine = Arc::clone(&self.machine);
        Ok(is_ours.then(|| Box::new(FolderLock { machine, handle }) as Box<dyn Send>))
    }

    fn now(&self) -> u32 {
        self.machine.lock().time
    }
}

struct FolderLock {
    machine: Arc<Machine>,
    handle: u64,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        self.machine.give_back(self.handle, 0, None);
    }
}

impl Open {
    fn with<T>(&self, file: Which, act: impl FnOnce(&mut File) -> T) -> T {
        let mut state = self.machine.lock();
        act(&mut state.files.get_mut(&self.object).expect("files stay")[file as usize])
    }

    /// Does `act` for each sector of a range, and others may do something in between.
    fn in_pieces(&self, range: Range<usize>, mut act: impl FnMut(Range<usize>)) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let end = (at / SECTOR * SECTOR + SECTOR).min(range.end);
            if at > range.start && !self.machine.step(self.process) {
                return Err(errno(libc::EIO));
            }
            act(at..end);
            at = end;
        }
        Ok(())
    }
}

impl Files for Open {
    fn read(&self, file: Which, buf: &mut [u8], offset: u64, waiting: Waiting) -> io::Result<usize> {
        self.machine.begin(self.process, false)?;
        if waiting == Waiting::Never && self.machine.schedule.random(|random| random.u32(..20)) == 0 {
            return Err(errno(libc::EAGAIN));
        }
        let offset = offset as usize;
        let len = self
            .with(file, |file| file.cached.len())
            .saturating_sub(offset)
            .min(buf.len());
        self.in_pieces(offset..offset + len, |piece| {
            let target = piece.start - offset..piece.end - offset;
            self.with(file, |file| buf[target].copy_from_slice(&file.cached[piece]));
        })?;
        Ok(len)
    }

    fn write(&self, file: Which, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.machine.begin(self.process, true)?;
        let offset = offset as usize;
        let mut failed = Ok(());
        self.in_pieces(offset..offset + bytes.len(), |piece| {
            let source = &bytes[piece.start - offset..piece.end - offset];
            if failed.is_ok() {
                failed = self.machine.fails(true);
            }
            if failed.is_ok() {
                self.with(file, |file| file.write(source, piece.start));
            }
        })?;
        failed
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.machine.begin(self.process, true)?;
        self.in_pieces(range.start as usize..range.end as usize, |piece| {
            self.with(Which::Data, |file| file.punch(piece));
        })
    }

    fn allocated(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.machine.begin(self.process, false)?;
        let from = from as usize;
        Ok(self.with(Which::Data, |file| {
            let first = *file.allocated.range(from.div_ceil(SECTOR)..).next()?;
            let end = (first..)
                .find(|sector| !file.allocated.contains(sector))
                .expect("finite");
            Some((first * SECTOR) as u64..((end * SECTOR).min(file.cached.len())) as u64)
        }))
    }

    fn used(&self) -> io::Result<u64> {
        self.machine.begin(self.process, false)?;
        let sectors = |which| self.with(which, |file| file.allocated.len());
        Ok((SECTOR * (sectors(Which::Index) + sectors(Which::Data))) as u64)
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.machine.begin(self.process, false)?;
        Ok(self
            .machine
            .lock()
            .objects
            .values()
            .any(|&object| object == self.object))
    }

    fn try_lock(&self, byte: u64, lock: ByteLock) -> io::Result<bool> {
        self.machine.begin(self.process, false)?;
        Ok(self.machine.take(self.object, byte, (self.handle, self.process, lock)))
    }

    fn is_locked(&self, byte: u64) -> io::Result<bool> {
        self.machine.begin(self.process, false)?;
        let state = self.machine.lock();
        let holders = state.locks.get(&(self.object, byte));
        Ok(holders.is_some_and(|holders| holders.iter().any(|holder| holder.0 != self.handle)))
    }

    fn unlock(&self, byte: u64) {
        if self.machine.step(self.process) {
            self.machine.give_back(self.handle, self.object, Some(byte));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.machine.give_back(self.handle, self.object, None);
    }
}
