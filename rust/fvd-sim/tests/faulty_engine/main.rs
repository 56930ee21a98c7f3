//! Tests of the simulator itself: it finds every deliberate fault of the engine (`fvd::mutation`).
//!
//! `FVD_MUTATION=NAME`: only this fault. `FVD_MUTATION_RUNS`: maximum number of runs for each fault.

mod scenarios;
mod suited;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fvd::mutation::{self, Mutation};
use fvd_sim::sim::shrink::shrink;
use fvd_sim::sim::{Script, Watch, run};

use suited::{concerns, suited};

const RUNS: usize = 3000;
/// Faults that this many runs find only sometimes, or that no image of the matrix can show. They run only when
/// requested by name, each with its own mix of requests.
const SELDOM: [Mutation; 4] = [
    Mutation::BelieveCache,
    Mutation::PartOfSector,
    Mutation::PartsDisturbed,
    Mutation::OddEndSwallowed,
];

/// The first seed that finds the fault, and the failure found. The same run of an engine without the fault must
/// not fail.
fn find(mutation: Mutation, runs: usize) -> Option<(u64, String)> {
    mutation::set(Some(mutation));
    let scripts = (1..).map(|seed| suited(mutation, Script::new(seed)));
    let concerned = scripts.filter(|script| concerns(mutation, &script.shape));
    let found = concerned.take(runs).find_map(|script| {
        let failure = run(&script, Watch::No).err()?;
        Some((script, failure.to_string()))
    });
    mutation::set(None);
    let (script, failure) = found?;
    if let Err(other) = run(&script, Watch::No) {
        panic!("{mutation:?}: seed {}: without the fault: {other}", script.seed);
    }
    Some((script.seed, failure))
}

#[test]
fn sim_finds_every_deliberate_fault_of_the_engine() {
    let only = std::env::var("FVD_MUTATION").ok();
    let runs = std::env::var("FVD_MUTATION_RUNS").map_or(RUNS, |text| text.parse().expect("a number"));
    let wanted = |mutation: &&Mutation| match &only {
        Some(only) => *only == format!("{mutation:?}"),
        None => !SELDOM.contains(mutation),
    };
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
fn sim_reports_no_failure_of_an_engine_without_a_fault() {
    for seed in 1..=40 {
        run(&Script::new(seed), Watch::No).expect("no fault");
    }
}
