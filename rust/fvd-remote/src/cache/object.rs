//! One object in the cache: reads, and publishing of units. All calls may block, except where they say so.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::known::Known;
use super::layout::{ENTRY, Entry, HEADER, LAST_USE, Label};
use super::lead::Lead;
use super::medium::{ByteLock, Files, Medium, Waiting, Which};
use crate::fault::fault;

/// Held, shared, by all who have the object open.
pub(super) const OPEN: u64 = 0;
/// The lock of unit 0. Beyond the end of every index.
pub(super) const UNIT_LOCKS: u64 = 1 << 40;

/// An object that is open.
pub(crate) struct Object {
    pub(super) medium: Arc<dyn Medium>,
    pub(super) files: Box<dyn Files>,
    label: Label,
    pub(super) known: Known,
    /// Units whose lock this object has. The kernel does not tell two tasks of one open file apart.
    led: Mutex<HashSet<u64>>,
    /// Units whose data was damaged.
    pub(super) damaged: AtomicU64,
}

/// How a read went that must not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quick {
    /// The buffer is filled.
    Read,
    /// The unit is not there, not checked yet, or would have to come from the disk.
    No,
}

/// What is in the place of a unit.
pub(super) enum Checked {
    Data(Bytes),
    Missing,
    /// The data is not that of the entry, which has this generation.
    Damaged(u32),
}

impl Object {
    /// Opens an object, and makes it if it is not there. None: another process replaces it all the time.
    pub(crate) fn open(medium: &Arc<dyn Medium>, label: &Label) -> io::Result<Option<Arc<Self>>> {
        let name = label.name();
        for _ in 0..4 {
            let Some(files) = medium.open(&name)? else {
                medium.create(&name, &label.encode(), label.sizes())?;
                continue;
            };
            // It may be removed between the two steps.
            if !files.try_lock(OPEN, ByteLock::Shared)? || !files.is_linked()? {
                continue;
            }
            if read_label(&*files)?.as_ref() != Some(label) {
                drop(files);
                remove_damaged(medium, &name)?;
                continue;
            }
            return Ok(Some(Arc::new(Self::of(Arc::clone(medium), files, label.clone()))));
        }
        Ok(None)
    }

    pub(super) fn of(medium: Arc<dyn Medium>, files: Box<dyn Files>, label: Label) -> Self {
        Self {
            medium,
            files,
            known: Known::new(label.units()),
            label,
            led: Mutex::default(),
            damaged: AtomicU64::new(0),
        }
    }

    pub(super) fn label(&self) -> &Label {
        &self.label
    }

    pub(super) fn files(&self) -> &dyn Files {
        &*self.files
    }

    /// Where the unit is in the object.
    pub(super) fn range(&self, unit: u64) -> Range<u64> {
        let len = u64::from(self.label.unit);
        unit * len..((unit + 1) * len).min(self.label.pin.len)
    }

    /// Whether the unit has been checked. It may have gone since.
    pub(crate) fn is_known(&self, unit: u64) -> bool {
        self.known.generation(unit).is_some()
    }

    /// Fills `buf` with what the unit has from its byte `within`. Never waits for the disk.
    pub(crate) fn read_quickly(&self, unit: u64, buf: &mut [u8], within: u64) -> io::Result<Quick> {
        let Some(generation) = self.known.generation(unit) else {
            return Ok(Quick::No);
        };
        let offset = self.range(unit).start + within;
        match self.files.read(Which::Data, buf, offset, Waiting::Never) {
            Ok(count) if count == buf.len() => {}
            Ok(_) => return Ok(Quick::No),
            Err(error) if would_wait(&error) => return Ok(Quick::No),
            Err(error) => return Err(error),
        }
        match self.entry(unit, Waiting::Never) {
            Ok(entry) if entry.generation == generation || fault!(NoSecondLook) => Ok(Quick::Read),
            Ok(_) => {
                self.known.forget(unit);
                Ok(Quick::No)
            }
            Err(error) if would_wait(&error) => Ok(Quick::No),
            Err(error) => Err(error),
        }
    }

    /// The unit, if it is there. A damaged one is cleared.
    pub(crate) fn read_unit(self: &Arc<Self>, unit: u64) -> io::Result<Option<Bytes>> {
        match self.read_checked(unit)? {
            Checked::Data(data) => Ok(Some(data)),
            Checked::Missing => Ok(None),
            Checked::Damaged(generation) => {
                // Without its lock, another process is about to change it.
                if let Some(_lead) = self.lead(unit)? {
                    self.clear_led(unit, generation)?;
                }
                Ok(None)
            }
        }
    }

    pub(super) fn read_checked(&self, unit: u64) -> io::Result<Checked> {
        let entry = self.entry(unit, Waiting::Allowed)?;
        if !entry.is_present() {
            return Ok(Checked::Missing);
        }
        let range = self.range(unit);
        let mut data = vec![0; (range.end - range.start) as usize];
        let count = self.files.read(Which::Data, &mut data, range.start, Waiting::Allowed)?;
        let again = self.entry(unit, Waiting::Allowed)?;
        if again.generation != entry.generation && !fault!(NoSecondLook) {
            return Ok(Checked::Missing);
        }
        if self.known.generation(unit) != Some(entry.generation) {
            let is_right = count == data.len() && crc32c::crc32c(&data) == entry.crc;
            if !is_right && !fault!(NoChecksum) {
                self.damaged.fetch_add(1, Ordering::Relaxed);
                return Ok(Checked::Damaged(entry.generation));
            }
            self.known.set(unit, entry.generation, entry.last_use);
        }
        // The data is there, whatever happens to the time of its use.
        _ = self.touch(unit);
        Ok(Checked::Data(data.into()))
    }

    /// Whether the use of the unit should be written down ([`Object::touch`]). Never waits.
    pub(crate) fn is_due(&self, unit: u64) -> bool {
        self.is_known(unit) && self.known.is_due(unit, self.medium.now())
    }

    /// Writes down that the unit was used, at most once a minute.
    pub(crate) fn touch(&self, unit: u64) -> io::Result<()> {
        let now = self.medium.now();
        let Some(generation) = self.known.generation(unit).filter(|_| self.known.is_due(unit, now)) else {
            return Ok(());
        };
        self.known.set(unit, generation, now);
        let at = entry_offset(unit) + LAST_USE;
        self.files.write(Which::Index, &now.to_le_bytes(), at)
    }

    /// Asks for the right to fetch and publish the unit. None: another one has it.
    pub(crate) fn lead(self: &Arc<Self>, unit: u64) -> io::Result<Option<Lead>> {
        if !self.led().insert(unit) {
            return Ok(None);
        }
        // Gives the unit back, also after a failure.
        let mut lead = Some(Lead {
            object: Arc::clone(self),
            unit,
        });
        if !self.files.try_lock(UNIT_LOCKS + unit, ByteLock::Exclusive)? {
            lead = None;
        }
        Ok(lead)
    }

    /// Forgets the unit, if it has this generation. The caller has its lock. Its space is still in use.
    pub(super) fn clear_led(&self, unit: u64, generation: u32) -> io::Result<bool> {
        let entry = self.entry(unit, Waiting::Allowed)?;
        let is_meant = entry.is_present() && entry.generation == generation;
        if is_meant {
            let generation = if fault!(SameGeneration) {
                0
            } else {
                generation.wrapping_add(1)
            };
            let cleared = Entry {
                generation,
                ..Entry::default()
            };
            self.files.write(Which::Index, &cleared.encode(), entry_offset(unit))?;
        }
        Ok(is_meant)
    }

    pub(super) fn entry(&self, unit: u64, waiting: Waiting) -> io::Result<Entry> {
        let mut bytes = [0; ENTRY];
        match self.files.read(Which::Index, &mut bytes, entry_offset(unit), waiting)? {
            ENTRY => Ok(Entry::decode(&bytes)),
            _ => Ok(Entry::default()),
        }
    }

    pub(super) fn led(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.led.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which object these files are. None: the header is damaged, or not ours.
pub(super) fn read_label(files: &dyn Files) -> io::Result<Option<Label>> {
    let mut header = vec![0; HEADER];
    let count = files.read(Which::Index, &mut header, 0, Waiting::Allowed)?;
    Ok(Label::decode(&header[..count]))
}

/// Removes an object that is none. Only who has the lock of the cache decides that: another process may have
/// replaced it already.
pub(super) fn remove_damaged(medium: &Arc<dyn Medium>, name: &str) -> io::Result<()> {
    let Some(_lock) = medium.lock()? else {
        return Ok(());
    };
    remove_if_damaged(medium, name)
}

/// As [`remove_damaged`], of a caller that has the lock.
pub(super) fn remove_if_damaged(medium: &Arc<dyn Medium>, name: &str) -> io::Result<()> {
    let Some(files) = medium.open(name)? else {
        return Ok(());
    };
    match read_label(&*files)? {
        Some(label) if label.name() == name => Ok(()),
        _ => medium.remove(name),
    }
}

pub(super) fn entry_offset(unit: u64) -> u64 {
    HEADER as u64 + unit * ENTRY as u64
}

fn would_wait(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
    )
}
