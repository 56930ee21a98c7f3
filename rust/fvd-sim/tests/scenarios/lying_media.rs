//! Tests of the crash test itself: it detects media that break their contract.

use fvd_sim::fault::Lie;
use fvd_sim::run::{Plan, run};

/// The seed that detects it, and the failure found.
fn found(lie: Lie, seeds: u64) -> Option<(u64, String)> {
    let failure = |seed| {
        run(&Plan { lie, ..Plan::new(seed) })
            .err()
            .map(|failure| (seed, failure.to_string()))
    };
    (1..=seeds).find_map(failure)
}

fn assert_found(lie: Lie, seeds: u64) {
    let (seed, text) = found(lie, seeds).unwrap_or_else(|| panic!("{lie:?} was not found in {seeds} seeds"));
    println!("{lie:?}: found by seed {seed}\n{text}\n");
}

#[test]
fn a_correct_medium_passes() {
    assert_eq!(found(Lie::None, 10), None);
}

#[test]
fn a_medium_that_syncs_nothing_is_found() {
    assert_found(Lie::DropEverySync, 5);
}

#[test]
fn a_single_sync_that_is_dropped_is_found_whichever_it_is() {
    for nth in 1..=8 {
        assert_found(Lie::DropSync(nth), 100);
    }
}

#[test]
fn a_journal_that_is_durable_before_its_data_is_found() {
    assert_found(Lie::DataLagsBehind, 60);
}

#[test]
fn metadata_that_no_sync_makes_durable_is_found() {
    assert_found(Lie::MetadataIsNotSynced, 10);
}
