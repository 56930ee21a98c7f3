//! One run: processes that read, and what must hold while they do and after they have ended.

use std::sync::Arc;
use std::time::Duration;

use fvd::remote::Pin;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::case::Case;
use super::check::{check_cache, check_memory, check_requests, check_waits};
use super::disk::Disk;
use super::panics;
use super::process::Process;
use super::reader::readers;
use super::store::Store;
use crate::simulated;
use crate::units::Units;

/// Longer than all pauses of all attempts together: what goes on for longer goes on for ever.
pub(super) const LIMIT: Duration = Duration::from_secs(3 * 3600);

/// What a run was like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) digest: u64,
    pub(super) requests: u64,
    /// What has failed or was asked for twice.
    pub(super) retries: u64,
    pub(super) hedges: u64,
    /// How long readers waited on average while prefetch ran.
    pub(super) wait: Duration,
}

/// Runs a case. The error says what was wrong.
pub(super) fn run(case: &Case) -> Result<Report, String> {
    panics::forget();
    simulated::run(LIMIT, simulate(case)).ok_or("it does not end")?
}

async fn simulate(case: &Case) -> Result<Report, String> {
    let store = Store::new(case);
    let disk = case.cache.map(|errors| Disk::new(case.seed, errors));
    let processes: Vec<_> = (0..case.processes)
        .map(|number| Process::new(&store, number, disk.as_ref()))
        .collect();
    let watch = tokio::spawn(watch(
        processes.iter().map(|process| Arc::clone(&process.memory)).collect(),
        Arc::clone(&store),
    ));
    let pins = pins(&processes[0]).await;
    store.set_pinned();
    let ended = timeout(Duration::from_secs(2 * 3600), read_all(&processes, &pins)).await;
    watch.abort();
    verdict(&store)?;
    let units = ended.map_err(|_| "a read does not end".to_owned())?;
    after(&processes, units, disk.as_ref()).await?;
    verdict(&store)?;
    let (digest, requests) = (store.digest(), store.lock().requests);
    let wait = check_waits(&store)?;
    let sum = |count: fn(&Process) -> u64| processes.iter().map(count).sum();
    Ok(Report {
        digest,
        requests,
        retries: sum(|process| process.tally.read().retries),
        hedges: sum(|process| process.tally.read().hedges),
        wait,
    })
}

/// What was seen so far.
pub(super) fn verdict(store: &Store) -> Result<(), String> {
    let violations = std::mem::take(&mut store.lock().violations);
    if !violations.is_empty() {
        return Err(violations.join("; "));
    }
    panics::last().map_or(Ok(()), |panic| Err(format!("a panic: {panic}")))
}

/// What the objects were when the images were made.
async fn pins(process: &Process) -> Vec<Option<Pin>> {
    let mut pins = Vec::new();
    for object in 0..process.store.case.objects.len() {
        let opened = process.open(object, None).await;
        pins.push(opened.map(|units| units.source().pin()));
    }
    pins
}

pub(super) type Opened = Vec<(usize, Arc<Units>)>;

/// All readers of all processes, to their end.
async fn read_all(processes: &[Process], pins: &[Option<Pin>]) -> Vec<Opened> {
    let mut all = Vec::new();
    let mut tasks = JoinSet::new();
    for process in processes {
        let mut opened = Opened::new();
        for (object, pin) in pins.iter().enumerate() {
            let Some(pin) = pin else { continue };
            opened.extend(
                process
                    .open(object, Some(pin.clone()))
                    .await
                    .map(|units| (object, units)),
            );
        }
        let files: Vec<_> = opened
            .iter()
            .map(|(object, units)| (*object, process.file(*object, units)))
            .collect();
        if !files.is_empty() {
            for reader in readers(process, &files) {
                tasks.spawn(reader.run());
            }
        }
        all.push(opened);
    }
    while tasks.join_next().await.is_some() {}
    all
}

/// R4: looks at the memory all the time.
async fn watch(memories: Vec<Arc<crate::units::Memory>>, store: Arc<Store>) {
    let limit = store.case.memory.max(store.case.tuning.request);
    loop {
        for memory in &memories {
            let used = memory.used();
            if used > limit {
                store.violation(&format!("{used} bytes of units, {limit} are allowed"));
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing is left once all have gone.
pub(super) async fn after(processes: &[Process], units: Vec<Opened>, disk: Option<&Disk>) -> Result<(), String> {
    let store = &processes[0].store;
    store.check_tokens()?;
    for process in processes {
        check_requests(process)?;
    }
    // What was stored last is on its way.
    sleep(Duration::from_secs(1)).await;
    for (process, opened) in processes.iter().zip(&units) {
        for (object, units) in opened {
            check_memory(process, *object as u64, units)?;
        }
    }
    drop(units);
    sleep(Duration::from_secs(1)).await;
    for process in processes {
        let used = process.memory.used();
        if used > 0 {
            return Err(format!("{used} bytes stay reserved"));
        }
        let waiting = process.tally.read().waiting;
        if waiting > 0 {
            return Err(format!("{waiting} fetches count as waiting"));
        }
    }
    if !store.is_idle() {
        return Err("a request stays open".to_owned());
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    if tasks > 0 {
        return Err(format!("{tasks} tasks stay"));
    }
    match disk {
        Some(disk) => check_cache(disk, store),
        None => Ok(()),
    }
}
