//! What must hold after a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::case::Theme;
use super::disk::Disk;
use super::process::Process;
use super::store::Store;
use crate::cache::medium::Medium;
use crate::cache::units_of;
use crate::fetch::UNIT;
use crate::units::Units;

/// The round trip is 30 ms, and a unit takes 105 ms.
const LONGEST_WAIT: Duration = Duration::from_millis(900);

/// R3, R5: nothing is asked for more often than it must be.
pub(super) fn check_requests(process: &Process) -> Result<(), String> {
    let store = &process.store;
    let (firsts, seconds) = {
        let state = store.lock();
        let of = |counts: &BTreeMap<usize, u64>| counts.get(&process.number).copied().unwrap_or(0);
        (of(&state.firsts), of(&state.seconds))
    };
    if seconds > firsts / 20 + 4 {
        return Err(format!("{seconds} second requests, and {firsts} others"));
    }
    if !store.case.is_calm() {
        return Ok(());
    }
    let mut counts = BTreeMap::<_, u64>::new();
    for ((number, object, unit), count) in store.asked() {
        let shared = if store.case.cache.is_some() { 0 } else { number };
        *counts.entry((shared, object, unit)).or_default() += count;
    }
    for ((_, object, unit), count) in counts {
        // The image was made before, which has asked for the first unit alone.
        let before = u64::from(unit == 0);
        if count > 1 + before {
            return Err(format!("unit {unit} of object {object} was fetched {count} times"));
        }
    }
    Ok(())
}

/// R1: nothing of another object is in memory.
pub(super) fn check_memory(process: &Process, object: u64, units: &Arc<Units>) -> Result<(), String> {
    let expected = process.store.pinned(object);
    for (unit, bytes) in units.kept() {
        let start = (unit * UNIT) as usize;
        if bytes != expected[start..start + bytes.len()] {
            return Err(format!(
                "unit {unit} of object {object} in memory is not of that object"
            ));
        }
    }
    Ok(())
}

/// K1 to K9: what is in the cache is of the object, and nothing holds it.
pub(super) fn check_cache(disk: &Disk, store: &Store) -> Result<(), String> {
    if disk.locks() > 0 {
        return Err(format!("{} locks of the cache stay", disk.locks()));
    }
    disk.set_errors(0);
    let medium: Arc<dyn Medium> = Arc::new(disk.clone());
    let objects = units_of(&medium).map_err(|error| error.to_string())?;
    for (url, units) in objects {
        let object: u64 = url["http://store/".len()..].parse().expect("one of ours");
        let expected = store.pinned(object);
        for (unit, bytes) in units {
            let start = (unit * UNIT) as usize;
            if !store.has_sent(object, unit) {
                return Err("the cache has what only another host has sent".to_owned());
            }
            if bytes != expected[start..start + bytes.len()] {
                return Err(format!(
                    "unit {unit} of object {object} in the cache is not of that object"
                ));
            }
        }
    }
    Ok(())
}

/// R9: over a link that prefetch could fill alone, readers wait little longer than without it.
pub(super) fn check_waits(store: &Store) -> Result<Duration, String> {
    let waits = store.lock().waits.clone();
    let mean = waits.iter().sum::<Duration>() / (waits.len() as u32).max(1);
    if store.case.theme == Theme::Narrow && mean > LONGEST_WAIT {
        return Err(format!("readers wait for {mean:.3?} on average"));
    }
    Ok(mean)
}
