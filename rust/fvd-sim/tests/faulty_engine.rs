//! The simulator can fail: it finds every deliberate fault of the engine (`fvd::mutation`).
//!
//! `FVD_MUTATION=NAME`: only this one. `FVD_MUTATION_RUNS`: how many runs to try at most.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fvd::format::BaseUpdate;
use fvd::image::DetectZeroes;
use fvd::mutation::{self, Mutation};
use fvd_sim::shape::Shape;
use fvd_sim::sim::shrink::shrink;
use fvd_sim::sim::{Script, Watch, run};
use fvd_sim::workload::Request;

const RUNS: usize = 3000;

/// Whether an engine with this fault can go wrong with such an image: others need not be tried.
fn concerns(mutation: Mutation, shape: &Shape) -> bool {
    use Mutation as M;
    let (compact, base, journal) = (shape.compact, shape.base_size.is_some(), shape.journal_size >= 0);
    let copies = shape.copy_on_read || shape.prefetch;
    match mutation {
        // More chunks to a block than a journal sector has room for.
        M::JournalInOneGo => compact && base && journal && shape.block_size > 121 * shape.chunk_size,
        M::JournalOneChunk => compact && journal,
        M::HideFailedWrite | M::KeepTail | M::BitmapBeforeTable | M::RecoveryIgnoresTable => compact,
        M::ReuseUnsettled | M::ReuseInFlight | M::ReadUncounted | M::ReuseUnzeroed | M::PublishDiscarded => compact,
        M::KeepJournal | M::CommitFreed => compact && journal,
        // A small one is full several times in a session.
        M::EraseThisLap => compact && shape.journal_size > 0,
        M::LastPageMissed => base && !shape.metadata_edges().is_empty(),
        // In a file there is always room.
        M::RoomUnshared => compact && shape.device,
        M::PartsDisturbed => shape.prefetch && shape.block_size > 4096,
        M::DiscardUnlocked => compact && base,
        M::CopyOverwrites | M::ForgetQuietBlock => copies,
        M::ForgetQuietChunk => copies && compact && journal,
        M::RecordedTooEarly => copies && journal,
        M::CompleteUnseen | M::CompleteFirst => shape.prefetch,
        M::PublishBeforeData | M::EdgesBeforeLock => base,
        // Elsewhere the image has it anyway.
        M::AckBeforeBase | M::PartOfSector => shape.writes_base() && shape.updates != BaseUpdate::Writeback,
        M::ForgetResync | M::DropDebt | M::BaseUnsynced | M::UpdateUnrecorded | M::UpdateUnlocked => {
            shape.writes_base()
        }
        M::StaleCopy => copies && shape.updates == BaseUpdate::Writenocache,
        _ => true,
    }
}

/// The script, with a mix that shows the fault where the usual one hardly ever does.
fn suited(mutation: Mutation, mut script: Script) -> Script {
    if mutation == Mutation::JournalInOneGo {
        // Many commits that find chunks, and go to the journal because none was freed; even seeds wait for
        // metadata to be under way before they cut the power.
        script.shape.detect_zeroes = DetectZeroes::Off;
        for session in &mut script.sessions {
            session.seed &= !1;
            session.errors = None;
            let others = session.steps.iter_mut().filter(|step| !is_write(&step.request));
            others.for_each(|step| step.request = Request::Flush);
        }
    }
    script
}

fn is_write(request: &Request) -> bool {
    matches!(request, Request::Write { .. } | Request::WriteFua { .. })
}

/// The first seed that finds the fault, and what it saw.
fn find(mutation: Mutation, runs: usize) -> Option<(u64, String)> {
    mutation::set(Some(mutation));
    let scripts = (1..).map(|seed| suited(mutation, Script::new(seed)));
    let concerned = scripts.filter(|script| concerns(mutation, &script.shape));
    let found = concerned.take(runs).find_map(|script| {
        let failure = run(&script, Watch::No).err()?;
        Some((script.seed, failure.to_string()))
    });
    mutation::set(None);
    found
}

#[test]
fn sim_finds_every_deliberate_fault_of_the_engine() {
    let only = std::env::var("FVD_MUTATION").ok();
    let runs = std::env::var("FVD_MUTATION_RUNS").map_or(RUNS, |text| text.parse().expect("a number"));
    let wanted = |mutation: &&Mutation| only.as_ref().is_none_or(|only| *only == format!("{mutation:?}"));
    let mutations: Vec<Mutation> = Mutation::ALL.iter().filter(wanted).copied().collect();
    assert!(!mutations.is_empty(), "no mutation has this name");
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&mutation) = mutations.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match find(mutation, runs) {
                        Some((seed, failure)) => println!("{mutation:?}: seed {seed}: {failure:.160}"),
                        None => missed.lock().expect("no panic").push(mutation),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "not found in {runs} runs: {missed:?}");
}

#[test]
fn sim_shrinks_a_failure_to_a_few_requests() {
    mutation::set(Some(Mutation::PublishBeforeData));
    let failing = |seed| {
        let script = Script::new(seed);
        let failure = run(&script, Watch::No).err()?;
        Some((script, failure))
    };
    let (script, failure) = (1..100).find_map(failing).expect("it is found soon");
    let (small, _) = shrink(script.clone(), failure);
    assert!(run(&small, Watch::No).is_err(), "it fails, too");
    mutation::set(None);
    run(&small, Watch::No).expect("without the fault nothing is wrong");
    println!("{} requests shrink to\n{small}", script.requests());
    assert!(small.requests() <= 4, "{small}");
}

#[test]
fn sim_accuses_no_engine_without_a_fault() {
    for seed in 1..=40 {
        run(&Script::new(seed), Watch::No).expect("no fault");
    }
}
