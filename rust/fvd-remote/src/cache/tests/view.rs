//! The disk in memory as one process sees it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::disk::{File, Machine, SECTOR, errno};
use crate::cache::medium::{ByteLock, Files, Medium, Sizes, Waiting, Which};

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

impl Machine {
    pub(super) fn view(self: &Arc<Self>, process: u32) -> Arc<dyn Medium> {
        let machine = Arc::clone(self);
        Arc::new(View { machine, process })
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
            let sectors = file.cached.len().div_ceil(SECTOR);
            let end = (first..sectors).find(|sector| !file.allocated.contains(sector));
            let end = end.unwrap_or(sectors);
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
