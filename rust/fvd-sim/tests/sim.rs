//! The simulator of the whole engine, over the matrix of geometries (docs/simulation.md).
//!
//! `FVD_SIM_SESSIONS`: minimum number of sessions to simulate. `FVD_SIM_SECONDS`: how long to simulate,
//! instead. `FVD_SIM_START`: the first seed; without it, some seeds are fixed and some are new in each run.
//! `FVD_SIM_SEED`: only this one, with a trace.

mod seeds;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fvd_sim::sim::coverage::Coverage;
use fvd_sim::sim::shrink::shrink;
use fvd_sim::sim::{Counts, Failure, Report, Script, Watch, run};

/// Sessions of the fixed seeds.
const SESSIONS: u64 = 2000;
/// Sessions of the new seeds.
const NEW_SESSIONS: u64 = 1000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// The failure of a script, shrunk, for the error message.
fn describe(script: Script, failure: Failure, watch: Watch) -> String {
    let first = format!("seed {}: {failure}", script.seed);
    let (script, failure) = shrink(script, failure);
    if watch == Watch::Print {
        let _ = run(&script, watch);
    }
    format!(
        "{first}\nreplay: make sim SEED={}\n\nshrunk to {} requests:\n{script}{failure}",
        script.seed,
        script.requests()
    )
}

/// Prints a trace of the run, or, if it fails, of the shrunk script.
fn replay(seed: u64) {
    let script = Script::new(seed);
    match run(&script, Watch::No) {
        Err(failure) => panic!("{}", describe(script, failure, Watch::Print)),
        Ok(report) => {
            let _ = run(&script, Watch::Print);
            println!("{script}seed {seed}: no fault in {} sessions", report.counts.sessions);
        }
    }
}

#[derive(Default)]
struct Total {
    runs: u64,
    counts: Counts,
    coverage: Coverage,
    failures: Vec<String>,
}

impl Total {
    fn add(&mut self, script: &Script, report: &Report) {
        self.runs += 1;
        self.coverage.add(&script.case, report.counts.sessions);
        self.counts.add(&report.counts);
    }

    fn print(&self, first: u64, time: Duration) {
        let (runs, time) = (self.runs, time.as_millis().max(1));
        let tenths = u128::from(runs) * 10_000 / time;
        println!(
            "{runs} runs, seeds from {first}, in {} s: {}.{} a second",
            time / 1000,
            tenths / 10,
            tenths % 10
        );
        print!("{}", self.counts);
        println!("{}", self.coverage);
    }
}

#[test]
fn sim_sessions_of_the_whole_matrix_lose_nothing() {
    if let Some(seed) = number("FVD_SIM_SEED") {
        return replay(seed);
    }
    let seconds = number("FVD_SIM_SECONDS");
    let wanted = number("FVD_SIM_SESSIONS").unwrap_or(if seconds.is_some() { u64::MAX } else { SESSIONS });
    simulate(number("FVD_SIM_START").unwrap_or(1), wanted, seconds);
}

#[test]
fn sim_sessions_of_new_seeds_lose_nothing() {
    if number("FVD_SIM_SEED").is_none() && number("FVD_SIM_START").is_none() {
        simulate(seeds::new_start(), NEW_SESSIONS, None);
    }
}

/// Simulates at least `wanted` sessions, of seeds from `first` on, or for `seconds` seconds.
fn simulate(first: u64, wanted: u64, seconds: Option<u64>) {
    println!("seeds from {first}: FVD_SIM_START={first} does the same again");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let done = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let script = Script::new(next.fetch_add(1, Ordering::Relaxed));
                    let result = run(&script, Watch::No);
                    let failure = result
                        .as_ref()
                        .err()
                        .cloned()
                        .map(|failure| describe(script.clone(), failure, Watch::No));
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Ok(report) = &result {
                        total.add(&script, report);
                    }
                    total.failures.extend(failure);
                    let late = seconds.is_some_and(|seconds| started.elapsed() >= Duration::from_secs(seconds));
                    if late || total.counts.sessions >= wanted || !total.failures.is_empty() {
                        done.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.print(first, started.elapsed());
    assert!(total.failures.is_empty(), "{}", total.failures.join("\n\n"));
}

#[test]
fn sim_does_the_same_with_the_same_seed_byte_for_byte() {
    for seed in 0..40 {
        let [first, second] = [0, 1].map(|_| run(&Script::new(seed), Watch::Keep).expect("no fault"));
        assert!(!first.trace.is_empty());
        assert!(first.trace == second.trace, "seed {seed}");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}

#[test]
fn sim_promises_nothing_once_a_disk_has_lost_what_a_session_without_syncs_wrote() {
    // The disk reports the loss when the check, or the next session, opens the image.
    for seed in [900_101_014, 911_001_534] {
        if let Err(failure) = run(&Script::new(seed), Watch::No) {
            panic!("seed {seed}: {failure}");
        }
    }
}
