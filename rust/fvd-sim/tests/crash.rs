//! Power cuts at every boundary between operations of random workloads.
//!
//! Some seeds are fixed. Others are new in each run, which prints them.
//!
//! `FVD_CRASH_IMAGES`: minimum number of crash images to check. `FVD_CRASH_START`: the first seed; if set,
//! the new seeds do not run.
//! `FVD_CRASH_SEED=SEED[:BOUNDARY[:CUT]]`: only this one, with a trace.

mod seeds;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fvd_sim::run::{Plan, Report, run};

/// Crash images of the fixed seeds.
const IMAGES: u64 = 15_000;
/// Crash images of the new seeds.
const NEW_IMAGES: u64 = 5_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn checked(plan: &Plan) -> Result<Report, String> {
    match catch_unwind(AssertUnwindSafe(|| run(plan))) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("seed {0}: a panic\nreplay: make crash SEED={0}", plan.seed)),
    }
}

fn replay(text: &str) {
    let mut parts = text.split(':').map(|part| part.parse().expect("SEED[:BOUNDARY[:CUT]]"));
    let mut plan = Plan::new(parts.next().expect("split gives a part"));
    plan.only = parts.next().map(|boundary| (boundary, parts.next()));
    plan.trace = true;
    match checked(&plan) {
        Ok(report) => println!("seed {}: no fault in {} crash images", plan.seed, report.images),
        Err(failure) => panic!("{failure}"),
    }
}

#[derive(Default)]
struct Total {
    report: Report,
    seeds: u64,
    features: BTreeMap<String, u64>,
    failures: Vec<String>,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.report.images += report.images;
        self.report.boundaries += report.boundaries;
        self.report.sessions += report.sessions;
        self.report.requests += report.requests;
        for name in &report.features {
            *self.features.entry(name.clone()).or_default() += report.images;
        }
    }
}

#[test]
fn after_any_crash_each_sector_has_an_allowed_content() {
    if let Ok(text) = std::env::var("FVD_CRASH_SEED") {
        return replay(&text);
    }
    check(number("FVD_CRASH_START", 1), number("FVD_CRASH_IMAGES", IMAGES));
}

#[test]
fn after_a_crash_of_new_seeds_each_content_is_allowed() {
    let is_chosen = |name| std::env::var_os(name).is_some();
    if !is_chosen("FVD_CRASH_SEED") && !is_chosen("FVD_CRASH_START") {
        check(seeds::new_start(), NEW_IMAGES);
    }
}

/// Checks at least `wanted` crash images, of seeds from `first` on.
fn check(first: u64, wanted: u64) {
    println!("seeds from {first}: FVD_CRASH_START={first} does the same again");
    let most_failures = number("FVD_CRASH_FAILURES", 1) as usize;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(first);
    let done = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let result = checked(&Plan::new(seed));
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    match result {
                        Ok(report) => total.add(&report),
                        Err(failure) => {
                            eprintln!("{failure}\n");
                            total.failures.push(failure);
                        }
                    }
                    if total.report.images >= wanted || total.failures.len() >= most_failures {
                        done.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Report {
        images,
        boundaries,
        sessions,
        requests,
        ..
    } = total.report;
    println!(
        "{images} crash images at {boundaries} boundaries: {} seeds from {first}, {sessions} sessions, {requests} requests",
        total.seeds
    );
    for (name, images) in &total.features {
        println!("{images:9}  {name}");
    }
    assert!(total.failures.is_empty(), "{}", total.failures.join("\n\n"));
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..6 {
        let digests = [0, 1].map(|_| {
            run(&Plan {
                cuts: 0,
                ..Plan::new(seed)
            })
            .expect("no fault")
            .digest
        });
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}
