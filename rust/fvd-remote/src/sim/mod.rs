//! Remote reading with a simulated store, in virtual time (`docs/simulation.md`).
//!
//! Everything above one request is the code that is shipped: files, units, flights, admission, attempts, second
//! requests, credentials, redirects, the host cache. One thread, no clock, no socket: a seed gives one run.

mod answer;
mod case;
mod check;
mod content;
mod disk;
mod overlay;
mod panics;
mod process;
mod reader;
mod run;
mod store;
mod tokens;

use std::ops::Range;

use crate::fault::{FAULT, Fault};
use case::{Case, Theme};
use run::run;

const SEEDS: u64 = 150;

fn seeds() -> Range<u64> {
    // FVD_SEEDS=1000..2000 explores others.
    let given = std::env::var("FVD_SEEDS").ok();
    let given = given.as_deref().and_then(|text| text.split_once(".."));
    let parsed = given.and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    parsed.unwrap_or(0..SEEDS)
}

#[test]
fn sim_readers_get_the_object_that_they_opened_whatever_the_store_does() {
    let (mut requests, mut retries, mut hedges) = (0, 0, 0);
    // FVD_MUTATION makes a fault here, to look at what it does.
    let name = std::env::var("FVD_MUTATION").ok();
    let mut faults = Fault::OF_READING.into_iter().chain(Fault::BY_NAME);
    FAULT.set(faults.find(|fault| name == Some(format!("{fault:?}"))));
    for seed in seeds() {
        let case = Case::random(seed);
        match run(&case) {
            Ok(report) => {
                if std::env::var("FVD_SEEDS").is_ok() {
                    println!("seed {seed}: {report:?}");
                }
                requests += report.requests;
                retries += report.retries;
                hedges += report.hedges;
            }
            Err(found) => panic!("seed {seed}: {found}\n{case:#?}"),
        }
    }
    println!("{requests} requests, {retries} pauses, {hedges} second requests");
    assert!(requests > 0);
}

#[test]
fn sim_a_seed_gives_the_same_run_again() {
    for seed in 0..24 {
        let case = Case::random(seed);
        assert_eq!(run(&case), run(&case), "seed {seed}");
    }
}

#[test]
fn sim_a_guest_on_a_base_in_a_store_keeps_its_data_whatever_the_store_does() {
    let mut runs = 0;
    for seed in seeds() {
        let case = Case::random(seed);
        if overlay::is_suited(&case) {
            runs += 1;
            if let Err(found) = overlay::run_overlay(&case) {
                panic!("seed {seed}: {found}\n{case:#?}");
            }
        }
    }
    println!("{runs} guests");
    assert!(runs > 0 || std::env::var("FVD_SEEDS").is_ok(), "no seed has a guest");
}

/// Where a fault shows.
fn themes(fault: Fault) -> &'static [Theme] {
    match fault {
        Fault::AnswerUnchecked => &[Theme::Replaced],
        Fault::RangeUnchecked => &[Theme::Lying],
        Fault::DoubleFlight | Fault::FirstComeFirstServed => &[Theme::Calm],
        Fault::RefreshByEach => &[Theme::Expiring],
        Fault::LimitForgotten | Fault::WatchLeft | Fault::AnswerUnnoticed => &[Theme::Outage],
        Fault::NoRoomKept => &[Theme::Narrow],
        Fault::OtherHostStored => &[Theme::Moved],
        _ => &[Theme::Flaky, Theme::Outage, Theme::Calm],
    }
}

#[test]
fn sim_every_deliberate_fault_of_reading_is_found() {
    panics::forget();
    panics::set_quiet(true);
    let (mut missed, mut looked_for) = (Vec::new(), 0);
    // FVD_MUTATION: only this one.
    let name = std::env::var("FVD_MUTATION").ok();
    let is_meant = |fault: &Fault| match &name {
        Some(name) => *name == format!("{fault:?}"),
        None => !Fault::BY_NAME.contains(fault),
    };
    for fault in Fault::OF_READING.into_iter().chain(Fault::BY_NAME).filter(is_meant) {
        let mut cases = (0..4 * SEEDS)
            .map(Case::random)
            .filter(|case| themes(fault).contains(&case.theme));
        looked_for += 1;
        // A case that fails without the fault, too, tells nothing about it.
        let mut shows = |case: Case| {
            FAULT.set(Some(fault));
            let found = run(&case).err();
            FAULT.set(None);
            Some((case.seed, found?)).filter(|_| run(&case).is_ok())
        };
        match cases.find_map(&mut shows) {
            Some((seed, found)) => {
                let found: String = found.lines().next().unwrap_or_default().chars().take(120).collect();
                println!("{fault:?}: seed {seed}: {found}");
            }
            None => missed.push(fault),
        }
    }
    panics::set_quiet(false);
    assert!(looked_for > 0, "FVD_MUTATION names no fault");
    assert!(missed.is_empty(), "{missed:?} are not found");
}
