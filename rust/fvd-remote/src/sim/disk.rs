//! The disk of the host cache, in memory: whole operations, and errors at random. Torn ones, kills and power
//! cuts are in `cache/tests`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::medium::{ByteLock, Files, Medium, Sizes, Waiting, Which};
use crate::fetch::UNIT;

/// The disk of a machine. Clones are handles to it.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

pub(super) struct State {
    random: fastrand::Rng,
    /// In how many of a thousand operations it fails.
    errors: u32,
    objects: BTreeMap<String, u64>,
    /// Index and data, by the number of the object.
    files: HashMap<u64, [Vec<u8>; 2]>,
    /// Units of the data that occupy space.
    occupied: BTreeSet<(u64, u64)>,
    /// Object (0: the folder), byte -> handles with their locks.
    locks: BTreeMap<(u64, u64), Vec<(u64, ByteLock)>>,
    next: u64,
}

struct Open {
    disk: Disk,
    object: u64,
    handle: u64,
}

impl Disk {
    pub(super) fn new(seed: u64, errors: u32) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            errors,
            objects: BTreeMap::new(),
            files: HashMap::new(),
            occupied: BTreeSet::new(),
            locks: BTreeMap::new(),
            next: 1,
        })))
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_errors(&self, errors: u32) {
        self.lock_state().errors = errors;
    }

    /// Every operation begins here.
    fn begin(&self, writes: bool) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock_state();
        if state.errors > 0 && state.random.u32(..1000) < state.errors {
            let is_full = writes && state.random.bool();
            let errno = if is_full { libc::ENOSPC } else { libc::EIO };
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(state)
    }

    /// How many locks are held.
    pub(super) fn locks(&self) -> usize {
        self.lock_state().locks.values().map(Vec::len).sum()
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn take(&mut self, object: u64, byte: u64, handle: u64, lock: ByteLock) -> bool {
        let holders = self.locks.entry((object, byte)).or_default();
        let is_free =
            |other: &(u64, ByteLock)| other.0 == handle || (other.1 == ByteLock::Shared && lock == ByteLock::Shared);
        if !holders.iter().all(is_free) {
            return false;
        }
        holders.retain(|other| other.0 != handle);
        holders.push((handle, lock));
        true
    }

    fn give_back(&mut self, object: u64, byte: Option<u64>, handle: u64) {
        for (key, holders) in &mut self.locks {
            if key.0 == object && byte.is_none_or(|byte| byte == key.1) {
                holders.retain(|holder| holder.0 != handle);
            }
        }
    }
}

impl Medium for Disk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.begin(false)?.objects.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Files>>> {
        let mut state = self.begin(false)?;
        let Some(object) = state.objects.get(name).copied() else {
            return Ok(None);
        };
        let handle = state.number();
        let disk = self.clone();
        Ok(Some(Box::new(Open { disk, object, handle })))
    }

    fn create(&self, name: &str, header: &[u8], sizes: Sizes) -> io::Result<()> {
        let mut state = self.begin(true)?;
        if state.objects.contains_key(name) {
            return Ok(());
        }
        let object = state.number();
        let mut index = vec![0; sizes.index as usize];
        index[..header.len()].copy_from_slice(header);
        state.files.insert(object, [index, vec![0; sizes.data as usize]]);
        state.objects.insert(name.to_owned(), object);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.begin(true)?.objects.remove(name);
        Ok(())
    }

    fn sweep(&self) -> io::Result<()> {
        self.begin(true).map(drop)
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        let mut state = self.begin(false)?;
        let handle = state.number();
        let is_ours = state.take(0, 0, handle, ByteLock::Exclusive);
        let disk = self.clone();
        let lock = Open {
            disk,
            object: 0,
            handle,
        };
        Ok(is_ours.then(|| Box::new(lock) as Box<dyn Send>))
    }

    fn now(&self) -> u32 {
        1
    }
}

impl Open {
    fn with<T>(&self, writes: bool, act: impl FnOnce(&mut State, u64) -> T) -> io::Result<T> {
        Ok(act(&mut *self.disk.begin(writes)?, self.object))
    }
}

impl Files for Open {
    fn read(&self, file: Which, buf: &mut [u8], offset: u64, _waiting: Waiting) -> io::Result<usize> {
        self.with(false, |state, object| {
            let all = &state.files[&object][file as usize];
            let start = all.len().min(offset as usize);
            let count = buf.len().min(all.len() - start);
            buf[..count].copy_from_slice(&all[start..start + count]);
            count
        })
    }

    fn write(&self, file: Which, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(true, |state, object| {
            let all = &mut state.files.get_mut(&object).expect("files stay")[file as usize];
            let end = offset as usize + bytes.len();
            if all.len() < end {
                // The file was damaged.
                all.resize(end, 0);
            }
            all[offset as usize..end].copy_from_slice(bytes);
            if file == Which::Data {
                state.occupied.insert((object, offset / UNIT));
            }
        })
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.with(true, |state, object| {
            let all = &mut state.files.get_mut(&object).expect("files stay")[Which::Data as usize];
            let end = all.len().min(range.end as usize);
            all[end.min(range.start as usize)..end].fill(0);
            state.occupied.remove(&(object, range.start / UNIT));
        })
    }

    fn allocated(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.with(false, |state, object| {
            let first = (object, from.div_ceil(UNIT));
            let (_, unit) = state.occupied.range(first..=(object, u64::MAX)).next()?;
            Some(unit * UNIT..(unit + 1) * UNIT)
        })
    }

    fn used(&self) -> io::Result<u64> {
        self.with(false, |state, object| {
            state.occupied.range((object, 0)..=(object, u64::MAX)).count() as u64 * UNIT
        })
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.with(false, |state, object| {
            state.objects.values().any(|&other| other == object)
        })
    }

    fn try_lock(&self, byte: u64, lock: ByteLock) -> io::Result<bool> {
        self.with(false, |state, object| state.take(object, byte, self.handle, lock))
    }

    fn is_locked(&self, byte: u64) -> io::Result<bool> {
        self.with(false, |state, object| {
            let holders = state.locks.get(&(object, byte));
            holders.is_some_and(|holders| holders.iter().any(|holder| holder.0 != self.handle))
        })
    }

    fn unlock(&self, byte: u64) {
        self.disk.lock_state().give_back(self.object, Some(byte), self.handle);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.disk.lock_state().give_back(self.object, None, self.handle);
    }
}
