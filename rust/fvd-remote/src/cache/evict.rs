//! Gives space back: units that were used least recently, and what processes that died have left.

use std::io;
use std::sync::Arc;

use super::layout::ENTRY;
use super::medium::{ByteLock, Medium, Waiting, Which};
use super::object::{OPEN, Object, read_label, remove_if_damaged};
use crate::fault::fault;

/// A unit that could go.
pub(super) struct Candidate {
    pub(super) last_use: u32,
    object: usize,
    pub(super) unit: u64,
    generation: u32,
}

/// Brings the cache down to `target` bytes if it has more than `limit`. Returns the bytes in use now, or None
/// if another process evicts.
pub(crate) fn evict(medium: &Arc<dyn Medium>, limit: u64, target: u64) -> io::Result<Option<u64>> {
    let Some(_lock) = medium.lock()? else {
        return Ok(None);
    };
    medium.sweep()?;
    for name in medium.names()? {
        remove_if_damaged(medium, &name)?;
    }
    let objects = open_all(medium)?;
    let mut used = used(&objects)?;
    if used <= limit || fault!(EvictNothing) {
        return Ok(Some(used));
    }
    for object in &objects {
        used = used.saturating_sub(drop_leftovers(object)?);
    }
    let mut candidates = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        candidates.extend(present(object, at)?);
    }
    candidates.sort_unstable_by_key(|candidate| candidate.last_use);
    for candidate in candidates {
        if used <= target {
            break;
        }
        used = used.saturating_sub(evict_unit(&objects[candidate.object], &candidate)?);
    }
    for object in objects {
        remove_if_unused(medium, &object)?;
    }
    Ok(Some(used))
}

/// All objects, by themselves: their locks exclude those of all others, also in this process.
pub(super) fn open_all(medium: &Arc<dyn Medium>) -> io::Result<Vec<Arc<Object>>> {
    let mut objects = Vec::new();
    for name in medium.names()? {
        let Some(files) = medium.open(&name)? else { continue };
        let label = read_label(&*files)?.filter(|label| label.name() == name);
        objects.extend(label.map(|label| Arc::new(Object::of(Arc::clone(medium), files, label))));
    }
    Ok(objects)
}

fn used(objects: &[Arc<Object>]) -> io::Result<u64> {
    objects.iter().map(|object| object.files().used()).sum()
}

/// Gives back the space of units that are not there. Returns the bytes.
fn drop_leftovers(object: &Arc<Object>) -> io::Result<u64> {
    let unit_len = u64::from(object.label().unit);
    let mut freed = 0;
    let mut from = 0;
    while let Some(range) = object.files().allocated(from)? {
        from = range.end;
        // What lies beyond the object's end is no unit, and nothing here has written it.
        for unit in range.start / unit_len..range.end.div_ceil(unit_len).min(object.label().units()) {
            if object.entry(unit, Waiting::Allowed)?.is_present() || fault!(KeepLeftovers) {
                continue;
            }
            let Some(_lead) = object.lead(unit)? else { continue };
            if object.entry(unit, Waiting::Allowed)?.is_present() {
                continue;
            }
            let space = object.range(unit);
            let there = range.end.min(space.end) - range.start.max(space.start);
            object.files().punch(space)?;
            freed += there;
        }
    }
    Ok(freed)
}

/// Units that are there.
pub(super) fn present(object: &Object, at: usize) -> io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    let units = object.label().units();
    let mut buf = vec![0; 4096 * ENTRY];
    let mut first = 0;
    while first < units {
        let count = read_entries(object, first, &mut buf)?;
        if count == 0 {
            break;
        }
        for (i, bytes) in buf[..count * ENTRY].chunks_exact(ENTRY).enumerate() {
            let entry = super::layout::Entry::decode(bytes.try_into().expect("chunks of that size"));
            if entry.is_present() {
                found.push(Candidate {
                    last_use: entry.last_use,
                    object: at,
                    unit: first + i as u64,
                    generation: entry.generation,
                });
            }
        }
        first += count as u64;
    }
    Ok(found)
}

/// Reads entries from that of `first`. Returns their number.
fn read_entries(object: &Object, first: u64, buf: &mut [u8]) -> io::Result<usize> {
    let at = super::layout::HEADER as u64 + first * ENTRY as u64;
    let left = (object.label().units() - first) as usize * ENTRY;
    let len = buf.len().min(left);
    let count = object
        .files()
        .read(Which::Index, &mut buf[..len], at, Waiting::Allowed)?;
    Ok(count / ENTRY)
}

/// First the entry goes, then the space. Returns the bytes.
fn evict_unit(object: &Arc<Object>, candidate: &Candidate) -> io::Result<u64> {
    let space = object.range(candidate.unit);
    let len = space.end - space.start;
    let lead = object.lead(candidate.unit)?;
    if lead.is_none() && !fault!(EvictUnlocked) {
        return Ok(0);
    }
    if fault!(PunchBeforeClear) {
        object.files().punch(space.clone())?;
    }
    // Another process may have used it, or evicted it and fetched it again, in the meantime.
    if !object.clear_led(candidate.unit, candidate.generation)? {
        return Ok(0);
    }
    object.files().punch(space)?;
    Ok(len)
}

/// Removes an object that has no units, if no process has it open.
fn remove_if_unused(medium: &Arc<dyn Medium>, object: &Arc<Object>) -> io::Result<()> {
    if present(object, 0)?.is_empty() && object.files().try_lock(OPEN, ByteLock::Exclusive)? {
        medium.remove(&object.label().name())?;
    }
    Ok(())
}
